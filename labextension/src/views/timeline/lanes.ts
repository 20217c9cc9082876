// What the timeline shows: a lane per node and slot, and the bars on it.

import type { StatusLetter } from "../../protocol";
import type { Store } from "../../store";

export interface Lane {
  node: number;
  /** From 0 within its node. */
  slot: number;
}

/** planned: as the plan has it; actual: the last attempt; earlier: those before; transfer: of a result to the node. */
export interface Bar {
  kind: "planned" | "actual" | "earlier" | "transfer";
  lane: number;
  /** The function; of a transfer, the one whose result it is. */
  at: number;
  start: number;
  /** null: it goes on. */
  end: number | null;
  status: StatusLetter;
  /** Which attempt; of a transfer, how many bytes. */
  number: number;
}

export interface Lanes {
  lanes: Lane[];
  /** In the order in which they are painted. */
  bars: Bar[];
  /** When the last of them ends, as far as it is known. */
  end: number;
}

interface Piece extends Omit<Bar, "lane"> {
  node: number;
  slot: number;
}

export function lanesOf(store: Store): Lanes {
  const pieces = [...plannedPieces(store), ...earlierPieces(store), ...actualPieces(store)];
  const free = new FreeSlots();
  for (const piece of pieces.filter(({ slot }) => slot < 0).sort((a, b) => a.start - b.start)) {
    piece.slot = free.take(piece);
  }
  const moved = transferPieces(store, pieces);
  const all = [...pieces, ...moved];
  const { lanes, place } = lay(all, store.live?.nodes.length ?? 0);
  const bars = all.map(({ node, slot, ...bar }): Bar => ({ ...bar, lane: place(node, slot) }));
  return { lanes, bars, end: bars.reduce((last, bar) => Math.max(last, bar.end ?? bar.start), 0) };
}

function plannedPieces({ live }: Store): Piece[] {
  const plan = live?.plan;
  const pieces: Piece[] = [];
  plan?.start.forEach((start, at) => {
    const [node, slot, end] = [plan.node[at]!, plan.slot[at]!, plan.end[at] ?? null];
    if (start !== null && end !== null && node >= 0) {
      pieces.push({ kind: "planned", at, node, slot, start, end, status: "w", number: 0 });
    }
  });
  return pieces;
}

function earlierPieces({ live }: Store): Piece[] {
  const pieces: Piece[] = [];
  for (const [at, number, node, slot, start, end, status] of live?.earlier ?? []) {
    if (start !== null && node >= 0) {
      pieces.push({ kind: "earlier", at, node, slot, start, end: end ?? start, status, number });
    }
  }
  return pieces;
}

function actualPieces({ live }: Store): Piece[] {
  const pieces: Piece[] = [];
  live?.started.forEach((start, at) => {
    const node = live.node[at]!;
    const status = live.status[at]!;
    if (start !== null && node >= 0) {
      const end = live.ended[at] ?? (status === "r" ? null : start);
      pieces.push({ kind: "actual", at, node, slot: live.slot[at]!, start, end, status, number: live.attempts[at]! });
    }
  });
  return pieces;
}

/** A transfer goes to the slot of the function there that waited for it. */
function transferPieces(store: Store, pieces: Piece[]): Piece[] {
  const rows = store.live?.transfers ?? [];
  if (rows.length === 0) {
    return [];
  }
  const actual = new Map(pieces.filter((piece) => piece.kind === "actual").map((piece) => [piece.at, piece]));
  return rows.map(([at, , node, start, end, nbytes]) => {
    const takers = [...store.adjacency.dependents(at)].map((taker) => actual.get(taker));
    const taker = takers.filter((piece) => piece?.node === node).sort((a, b) => a!.start - b!.start)[0];
    return { kind: "transfer", at, node, slot: taker?.slot ?? 0, start, end, status: "d", number: nbytes };
  });
}

/** Slots for attempts that have none, as in the notebook's own process: the first where none is under way. */
class FreeSlots {
  private readonly until = new Map<string, number[]>();

  take(piece: Piece): number {
    const key = `${piece.kind === "planned"} ${piece.node}`;
    const ends = this.until.get(key) ?? [];
    this.until.set(key, ends);
    const free = ends.findIndex((end) => end <= piece.start);
    const slot = free < 0 ? ends.length : free;
    ends[slot] = piece.end ?? Infinity;
    return slot;
  }
}

function lay(pieces: Piece[], nodes: number): { lanes: Lane[]; place: (node: number, slot: number) => number } {
  const slots = new Array<number>(nodes).fill(1);
  for (const { node, slot } of pieces) {
    slots[node] = Math.max(slots[node] ?? 1, slot + 1);
  }
  const first: number[] = [];
  const lanes: Lane[] = [];
  slots.forEach((count, node) => {
    first.push(lanes.length);
    for (let slot = 0; slot < count; slot++) {
      lanes.push({ node, slot });
    }
  });
  return { lanes, place: (node, slot) => first[node]! + slot };
}
