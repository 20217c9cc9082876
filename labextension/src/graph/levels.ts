// Functions by level, for graphs that are too big to draw: at most some 100 bars, each with its counts. Pure.

import type { StatusLetter } from "../protocol";
import { noCounts, type Counts } from "../status";

export interface Bar {
  /** Levels first to last. */
  first: number;
  last: number;
  total: number;
  counts: Counts;
}

/** Bars of equally many levels each, at most `most`. */
export function countLevels(levels: Int32Array, status: (at: number) => StatusLetter, most: number): Bar[] {
  const height = levels.reduce((highest, level) => Math.max(highest, level), -1) + 1;
  const span = Math.ceil(height / most);
  const bars: Bar[] = [];
  for (let first = 0; first < height; first += span) {
    bars.push({ first, last: Math.min(first + span, height) - 1, total: 0, counts: noCounts() });
  }
  levels.forEach((level, at) => {
    const bar = bars[Math.floor(level / span)]!;
    bar.total++;
    bar.counts[status(at)]++;
  });
  return bars;
}

export function membersOf(bar: Bar, levels: Int32Array): Set<number> {
  const members = new Set<number>();
  levels.forEach((level, at) => level >= bar.first && level <= bar.last && members.add(at));
  return members;
}

export function barTitle({ first, last }: Bar): string {
  return first === last ? `level ${first}` : `levels ${first} to ${last}`;
}
