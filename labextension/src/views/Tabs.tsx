// Which view is shown, and what it leaves out.

import type { JSX } from "preact";

import { useStore } from "../hooks";
import type { Structure } from "../protocol";
import { statusWord } from "../status";
import type { Store } from "../store";
import type { Members } from "../ui";
import { plural } from "./format";
import { Icon } from "./parts";

export type Tab = "graph" | "table";

const TABS: readonly [Tab, string][] = [
  ["graph", "Graph"],
  ["table", "Table"],
];

interface TabsProps {
  tab: Tab;
  /** The id of what they switch. */
  panel: string;
  onTab: (tab: Tab) => void;
}

export function Tabs({ tab, panel, onTab }: TabsProps): JSX.Element {
  const keyDown = (event: KeyboardEvent & { currentTarget: HTMLElement }) => {
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      event.preventDefault();
      const other = tab === "graph" ? "table" : "graph";
      onTab(other);
      event.currentTarget.querySelector<HTMLElement>(`[data-tab=${other}]`)?.focus();
    }
  };
  return (
    <div class="hl-tabs" role="tablist" aria-label="Functions" onKeyDown={keyDown}>
      {TABS.map(([name, title]) => (
        <button
          key={name}
          type="button"
          role="tab"
          data-tab={name}
          aria-selected={tab === name}
          aria-controls={panel}
          tabIndex={tab === name ? 0 : -1}
          onClick={() => onTab(name)}
        >
          {title}
        </button>
      ))}
    </div>
  );
}

/** The filters that are on; each can be taken off. The table can filter by node here. */
export function Filters({ store }: { store: Store }): JSX.Element {
  useStore(store, "view", "structure", "nodes");
  const { statusFilter, members, highlightedNode, search } = store.ui;
  const nodes = store.live?.nodes ?? [];
  return (
    <div class="hl-filters" role="group" aria-label="Filters">
      {search.trim() && <Chip text={`“${search.trim()}”`} onRemove={() => store.update({ search: "" })} />}
      {statusFilter && <Chip text={statusWord(statusFilter)} onRemove={() => store.update({ statusFilter: null })} />}
      {members && (
        <Chip
          text={`${members.title}: ${plural(countOf(members, store.structure), "function")}`}
          onRemove={() => store.update({ members: null })}
        />
      )}
      {nodes.length > 1 && (
        <select
          class="hl-select"
          aria-label="Node"
          value={String(highlightedNode)}
          onChange={(event) => store.update({ highlightedNode: Number(event.currentTarget.value) })}
        >
          <option value="-1">All nodes</option>
          {nodes.map((node, at) => (
            <option key={node.name} value={String(at)}>
              {node.letter} {node.name}
            </option>
          ))}
        </select>
      )}
    </div>
  );
}

/** How many of them run; of values and inline functions alone, how many there are. */
function countOf({ functions }: Members, structure: Structure | null): number {
  return [...functions].filter((at) => structure?.types[at] === "r").length || functions.size;
}

function Chip({ text, onRemove }: { text: string; onRemove: () => void }): JSX.Element {
  return (
    <button type="button" class="hl-chip" title="Take this filter off" onClick={onRemove}>
      {text} <Icon name="close" />
    </button>
  );
}
