// How many functions have which status: a bar, and buttons that filter.

import type { JSX } from "preact";

import { useStore } from "../hooks";
import type { StatusLetter } from "../protocol";
import { countsText, PROGRESS, statusWord } from "../status";
import type { Store } from "../store";
import { count } from "./format";
import { StatusIcon } from "./parts";

const OVER: readonly StatusLetter[] = ["d", "c", "f", "x", "s"];

export function ProgressBar({ store }: { store: Store }): JSX.Element {
  useStore(store, "functions", "structure");
  const counts = store.live?.counts;
  const total = counts ? PROGRESS.reduce((sum, letter) => sum + counts[letter], 0) : store.size;
  const over = counts ? OVER.reduce((sum, letter) => sum + counts[letter], 0) : 0;
  return (
    <div
      class="hl-progress"
      role="progressbar"
      aria-label="Functions that are over"
      aria-valuemin={0}
      aria-valuemax={total}
      aria-valuenow={over}
      aria-valuetext={counts ? `${over} of ${total}: ${countsText(counts)}` : "not run"}
    >
      {counts &&
        PROGRESS.filter((letter) => letter !== "w" && counts[letter] > 0).map((letter) => (
          <span key={letter} class="hl-segment" data-letter={letter} style={{ flexGrow: counts[letter] }} />
        ))}
      <span style={{ flexGrow: counts ? counts.w : 1 }} />
    </div>
  );
}

export function Counts({ store }: { store: Store }): JSX.Element {
  useStore(store, "functions", "structure", "view");
  const counts = store.live?.counts;
  const { statusFilter } = store.ui;
  const shown = PROGRESS.filter((letter) => counts && (counts[letter] > 0 || letter === statusFilter));
  return (
    <div class="hl-tallies" role="group" aria-label="Show only functions that are">
      {counts &&
        shown.map((letter) => (
          <button
            key={letter}
            type="button"
            class="hl-tally"
            data-letter={letter}
            data-count={statusWord(letter)}
            aria-pressed={statusFilter === letter}
            onClick={() => store.update({ statusFilter: statusFilter === letter ? null : letter })}
          >
            <StatusIcon status={letter} />
            <b>{count(counts[letter])}</b> {statusWord(letter)}
          </button>
        ))}
    </div>
  );
}
