// Keys that work anywhere in the app.

import type { Store } from "../store";
import { nextFailure } from "./Search";

export const KEYS: readonly [string, string][] = [
  ["/", "search"],
  ["Enter, Shift+Enter", "in the search: next match, match before"],
  ["f", "next failure"],
  ["Esc", "close the details; then leave, to the notebook's cell"],
  ["arrows", "graph: along edges; table: row by row; timeline: bar by bar"],
  ["Enter", "details"],
  ["Home, End", "first, last"],
  ["+  −  0", "zoom in, zoom out, show all"],
  ["Tab", "from part to part"],
  ["?", "these keys"],
];

interface Doings {
  help: () => void;
  close: () => void;
  /** There is something to close. */
  closable: boolean;
  leave: () => void;
}

/** Returns whether the key was for the app. */
export function pressKey(event: KeyboardEvent, store: Store, root: HTMLElement, doings: Doings): boolean {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) {
    return false;
  }
  if (event.key === "Escape") {
    (doings.closable ? doings.close : doings.leave)();
    return true;
  }
  if ((event.target as Element).closest("input, select, textarea")) {
    return false;
  }
  if (event.key === "/") {
    root.querySelector<HTMLInputElement>(".hl-search input")?.focus();
  } else if (event.key === "f") {
    openNextFailure(store);
  } else if (event.key === "?") {
    doings.help();
  } else {
    return false;
  }
  return true;
}

export function openNextFailure(store: Store): void {
  const at = nextFailure(store);
  if (at >= 0) {
    store.open(at);
  }
}
