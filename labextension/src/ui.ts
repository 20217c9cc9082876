// What the user looks at.

import type { Live } from "./live";
import type { StatusLetter, Structure } from "./protocol";

/** Functions and nodes go by index; -1 is none. */
export interface UserInterface {
  /** Its details are shown. */
  selected: number;
  search: string;
  highlightedNode: number;
  statusFilter: StatusLetter | null;
  /** Only these: what a fold or a level stands for. */
  members: Members | null;
  /** What went wrong with the last request. */
  error: string | null;
}

export interface Members {
  title: string;
  functions: Set<number>;
}

export const QUIET_UI: UserInterface = {
  selected: -1,
  search: "",
  highlightedNode: -1,
  statusFilter: null,
  members: null,
  error: null,
};

/** A graph and what became of it. */
export interface Shown {
  structure: Structure | null;
  live: Live | null;
}

/** The same function and node where something else is shown, in which indices mean something else. */
export function carriedOver(ui: UserInterface, before: Shown, now: Shown): UserInterface {
  const node = before.live?.nodes[ui.highlightedNode]?.name;
  const highlightedNode = now.live?.nodes.findIndex(({ name }) => name === node) ?? -1;
  if (before.structure === now.structure) {
    return { ...ui, highlightedNode };
  }
  const id = before.structure?.ids[ui.selected];
  const selected = id === undefined ? -1 : (now.structure?.ids.indexOf(id) ?? -1);
  return { ...ui, highlightedNode, selected, members: null };
}

/** Functions whose ids have `search` in them; null: nothing is searched. */
export function find(structure: Structure | null, search: string): Set<number> | null {
  const wanted = search.trim().toLowerCase();
  if (!wanted) {
    return null;
  }
  const found = new Set<number>();
  structure?.ids.forEach((id, at) => id.toLowerCase().includes(wanted) && found.add(at));
  return found;
}
