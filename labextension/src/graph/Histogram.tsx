// A graph that is too big to draw: how many functions of each level have which status.

import { useState } from "preact/hooks";

import { count, plural } from "../format";
import { useChanges, useStoreValue } from "../hooks";
import type { StatusLetter } from "../protocol";
import { PROGRESS, STATUS, countsText, mostUrgent, statusWord } from "../status";
import type { Store } from "../store";
import { barTitle, countLevels, membersOf, type Bar } from "./levels";

const MOST_BARS = 120;
const LEAST_PERCENT = 1.2;

export function Histogram({ store }: { store: Store }) {
  useChanges(store);
  const chosen = useStoreValue(store, () => store.ui.members?.title, "view");
  const bars = countLevels(store.levels, (at) => store.status(at), MOST_BARS);
  const [wished, setFocused] = useState(0);
  const focused = Math.min(wished, bars.length - 1);
  const tallest = Math.max(...bars.map(({ total }) => total), 1);
  const choose = (bar: Bar) => {
    const functions = membersOf(bar, store.levels);
    store.update({ members: { title: barTitle(bar), functions } });
  };
  const press = (event: KeyboardEvent) => {
    const next = nextBar(event.key, focused, bars.length);
    if (next !== null) {
      event.preventDefault();
      event.stopPropagation();
      setFocused(next);
      (event.currentTarget as Element).querySelectorAll<HTMLElement>(".hl-level")[next]?.focus();
    }
  };
  return (
    <div class="hl-histogram">
      <p class="hl-histogram-title">
        {plural(store.size, "function")} in {plural(bars.at(-1)!.last + 1, "level")}, from those that need nothing to
        the last: each bar is {plural(bars[0]!.last + 1, "level")}
      </p>
      <div class="hl-levels" role="group" aria-label="Functions by level" onKeyDown={press}>
        {bars.map((bar, at) => (
          <LevelBar
            key={bar.first}
            bar={bar}
            tallest={tallest}
            chosen={chosen === barTitle(bar)}
            tabIndex={at === focused ? 0 : -1}
            choose={() => (setFocused(at), choose(bar))}
          />
        ))}
      </div>
      <div class="hl-level-axis" aria-hidden="true">
        <span>{barTitle(bars[0]!)}</span>
        <span>{barTitle(bars.at(-1)!)}</span>
      </div>
      <Legend store={store} />
    </div>
  );
}

interface LevelBarProps {
  bar: Bar;
  tallest: number;
  chosen: boolean;
  tabIndex: number;
  choose: () => void;
}

function LevelBar({ bar, tallest, chosen, tabIndex, choose }: LevelBarProps) {
  const label = `${barTitle(bar)}, ${plural(bar.total, "function")}: ${countsText(bar.counts)}`;
  const failed = bar.counts.f > 0;
  return (
    <button
      type="button"
      class="hl-level"
      data-level={bar.first}
      data-status={statusWord(mostUrgent(bar.counts))}
      aria-label={label}
      aria-pressed={chosen}
      title={label}
      tabIndex={tabIndex}
      onClick={choose}
    >
      {failed && <span class="hl-level-mark">{STATUS.f.sign}</span>}
      <span class="hl-level-bar" style={{ height: `${Math.max((bar.total / tallest) * 100, LEAST_PERCENT)}%` }}>
        {PROGRESS.filter((letter) => bar.counts[letter] > 0).map((letter) => (
          <span key={letter} class={`hl-part hl-part-${letter}`} style={{ flexGrow: bar.counts[letter] }} />
        ))}
      </span>
    </button>
  );
}

function Legend({ store }: { store: Store }) {
  const counts = store.live?.counts;
  const shown: StatusLetter[] = counts ? PROGRESS.filter((letter) => counts[letter] > 0) : [];
  return (
    <ul class="hl-legend">
      {shown.map((letter) => (
        <li key={letter}>
          <span class={`hl-part hl-part-${letter}`} />
          {STATUS[letter].sign} {statusWord(letter)} {count(counts![letter])}
        </li>
      ))}
    </ul>
  );
}

function nextBar(key: string, at: number, size: number): number | null {
  switch (key) {
    case "ArrowLeft":
      return Math.max(at - 1, 0);
    case "ArrowRight":
      return Math.min(at + 1, size - 1);
    case "Home":
      return 0;
    case "End":
      return size - 1;
    default:
      return null;
  }
}
