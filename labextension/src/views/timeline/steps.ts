// From bar to bar.

import type { Bar } from "./lanes";

/** The bar that starts first, on the highest lane. */
export function firstBar(bars: Bar[]): Bar | null {
  return bars.reduce<Bar | null>((best, bar) => (best && !isBefore(bar, best) ? best : bar), null);
}

function isBefore(bar: Bar, other: Bar): boolean {
  return bar.start < other.start || (bar.start === other.start && bar.lane < other.lane);
}

/** The bar after (1) or before (-1) on the lane, or the nearest one of the next lane down (1) or up (-1). */
export function neighbour(bars: Bar[], from: Bar, across: number, down: number): Bar | null {
  const far = across !== 0 ? along(from, across) : beside(from, down);
  return bars.reduce<Bar | null>((best, bar) => (far(bar) < (best ? far(best) : Infinity) ? bar : best), null);
}

function along(from: Bar, across: number): (bar: Bar) => number {
  return (bar) => {
    const seconds = (bar.start - from.start) * across;
    return bar.lane === from.lane && seconds > 0 ? seconds : Infinity;
  };
}

const LANE_WEIGHT = 1e9; // more seconds than any run has

function beside(from: Bar, down: number): (bar: Bar) => number {
  return (bar) => {
    const lanes = (bar.lane - from.lane) * down;
    return lanes > 0 ? lanes * LANE_WEIGHT + Math.abs(bar.start - from.start) : Infinity;
  };
}

/** Whether they show the same, though not as long. */
export function same(bar: Bar, other: Bar | null): boolean {
  return bar.at === other?.at && bar.kind === other.kind && bar.number === other.number && bar.lane === other.lane;
}
