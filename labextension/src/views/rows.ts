// Which functions the table shows, and in what order.

import type { Live } from "../live";
import type { StatusLetter } from "../protocol";
import { URGENCY } from "../status";
import type { Store } from "../store";

export type Column = "function" | "status" | "node" | "queued" | "run" | "transfer" | "peak" | "attempts";

export interface Sort {
  column: Column;
  descending: boolean;
}

/** The functions that search, filters and node let through. */
export function shownRows(store: Store): number[] {
  const node = store.ui.highlightedNode;
  const rows: number[] = [];
  for (let at = 0; at < store.size; at++) {
    if (store.passes(at) && (node < 0 || store.live?.node[at] === node)) {
      rows.push(at);
    }
  }
  return rows;
}

/** Sorts in place; without a sort the order is the graph's. What is not known comes last either way. */
export function sortRows(rows: number[], store: Store, sort: Sort | null): number[] {
  const { live, structure } = store;
  if (!sort || !structure) {
    return rows;
  }
  const way = sort.descending ? -1 : 1;
  if (sort.column === "function") {
    const { ids } = structure;
    return rows.sort((a, b) => way * COLLATOR.compare(ids[a]!, ids[b]!));
  }
  const value = (at: number) => (live ? valueOf(store, live, sort.column, at) : null);
  const keys = new Map(rows.map((at) => [at, value(at)]));
  return rows.sort((a, b) => compare(keys.get(a) ?? null, keys.get(b) ?? null, way) || a - b);
}

const COLLATOR = new Intl.Collator("en", { numeric: true });

function compare(a: number | null, b: number | null, way: number): number {
  return a === null || b === null ? Number(a === null) - Number(b === null) : way * (a - b);
}

function valueOf(store: Store, live: Live, column: Column, at: number): number | null {
  switch (column) {
    case "status":
      return URGENCY.indexOf(live.status[at] as StatusLetter);
    case "node":
      return live.node[at]! < 0 ? null : live.node[at]!;
    case "queued":
      return waited(live, at, store.now());
    case "run":
      return store.duration(at);
    case "transfer":
      return live.transfer[at] ?? null;
    case "peak":
      return live.peak[at] ?? null;
    default:
      return live.attempts[at] ?? 0;
  }
}

/** Seconds that a function was ready before it started; null: it was not ready yet. */
export function waited(live: Live, at: number, now: number): number | null {
  const queued = live.queued[at] ?? null;
  if (queued === null) {
    return null;
  }
  const until = live.started[at] ?? (live.status[at] === "q" ? now : null);
  return until === null ? null : Math.max(0, until - queued);
}
