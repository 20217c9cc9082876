// What a shape says, on its card and to a screen reader.

import { plural, seconds, ticking } from "../format";
import type { Shape } from "../protocol";
import { countsText, noCounts, statusWord, total, type Counts } from "../status";
import type { Store } from "../store";

/** Inputs and inline functions run nowhere by themselves: they have no status to tell. */
export function isQuiet(store: Store, at: number): boolean {
  return store.structure?.types[at] !== "r" && store.status(at) === "w";
}

/** The small line under the title, at length and shorter: a card takes the first that fits. */
export function notesOf(store: Store, at: number): string[] {
  if (isQuiet(store, at)) {
    return [typeWord(store, at)];
  }
  const status = store.status(at);
  const word = statusWord(status);
  const attempts = store.live?.attempts[at] ?? 0;
  const took = store.duration(at);
  if (status === "t") {
    return [`${word} · attempt ${attempts}`, `attempt ${attempts}`, word];
  }
  if (took === null || !"drf".includes(status)) {
    return [word];
  }
  const time = status === "r" ? ticking(took) : seconds(took);
  const tries = attempts > 1 ? [`${time} · attempt ${attempts}`] : [];
  return status === "d" ? [...tries, time] : [`${word} · ${time}`, status === "r" ? time : word];
}

/** "load, done on alpha, 0.3 s" */
export function labelOf(store: Store, at: number): string {
  const id = store.structure?.ids[at] ?? "";
  if (isQuiet(store, at)) {
    return `${id}, ${typeWord(store, at)}`;
  }
  const status = store.status(at);
  const node = store.nodeOf(at);
  const took = store.duration(at);
  const attempts = store.live?.attempts[at] ?? 0;
  return [
    id,
    statusWord(status) + (node ? ` on ${node.name}` : ""),
    took === null || status === "r" ? "" : seconds(took),
    attempts > 1 ? `${attempts} attempts` : "",
    store.live?.errors.get(at) ?? "",
    store.live?.stale.has(at) ? "out of date" : "",
  ]
    .filter(Boolean)
    .join(", ");
}

export function foldLabel(shape: Shape, counts: Counts): string {
  const run = total(counts);
  return `${shape.title}, ${plural(run || shape.members.length, "function")}${run ? `: ${countsText(counts)}` : ""}`;
}

/** Of those that run: how many have which status. */
export function countMembers(store: Store, members: number[]): Counts {
  const counts = noCounts();
  for (const at of members) {
    if (!isQuiet(store, at)) {
      counts[store.status(at)]++;
    }
  }
  return counts;
}

/** The node that all members which run are on, or none. */
export function sharedNode(store: Store, members: number[]): number {
  let shared = -1;
  for (const at of members) {
    if (!isQuiet(store, at)) {
      const node = store.live?.node[at] ?? -1;
      if (node < 0 || (shared >= 0 && node !== shared)) {
        return -1;
      }
      shared = node;
    }
  }
  return shared;
}

export function typeWord(store: Store, at: number): string {
  return store.structure?.types[at] === "v" ? "value" : "inline";
}
