// Which shapes stand out while the rest steps back. What is asked last and most directly wins.

import type { Adjacency } from "../adjacency";
import type { Shape } from "../protocol";
import type { Store } from "../store";

/** Shapes that stand out, or null: none does. */
export function emphasised(store: Store, shapes: Shape[], edges: Adjacency, hovered: number): Set<number> | null {
  if (hovered >= 0) {
    return new Set([hovered, ...edges.up(hovered), ...edges.down(hovered)]);
  }
  const wanted = predicate(store);
  if (!wanted) {
    return null;
  }
  const found = new Set<number>();
  shapes.forEach((shape, at) => shape.members.some(wanted) && found.add(at));
  return found;
}

function predicate(store: Store): ((at: number) => boolean) | null {
  const { highlightedNode, statusFilter, members } = store.ui;
  if (highlightedNode >= 0) {
    return (at) => store.live?.node[at] === highlightedNode;
  }
  return store.matches || statusFilter !== null || members ? (at) => store.passes(at) : null;
}
