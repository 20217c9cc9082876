// What is painted, and where in the canvas.

import type { Store } from "../../store";
import type { Colours } from "./colours";
import type { Bar, Lanes } from "./lanes";
import type { Span } from "./scale";

export const LANE = 22;
export const AXIS = 22;
const RIGHT = 10;

export interface Picture {
  store: Store;
  lanes: Lanes;
  span: Span;
  /** Pixels on the left for the names of lanes. */
  gutter: number;
  width: number;
  height: number;
  /** How far the lanes are scrolled. */
  top: number;
  hovered: Bar | null;
  colours: Colours;
}

export function xOf({ span, gutter, width }: Picture, seconds: number): number {
  return gutter + ((seconds - span.from) / (span.to - span.from)) * (width - gutter - RIGHT);
}

export function timeAt({ span, gutter, width }: Picture, x: number): number {
  return span.from + ((x - gutter) / (width - gutter - RIGHT)) * (span.to - span.from);
}

/** The bar at a point of the canvas: what was painted last is on top. */
export function barAt(picture: Picture, x: number, y: number): Bar | null {
  const lane = Math.floor((y - AXIS + picture.top) / LANE);
  if (y < AXIS || x < picture.gutter) {
    return null;
  }
  const now = picture.store.now();
  const near = (bar: Bar) => {
    const [from, to] = [xOf(picture, bar.start), xOf(picture, bar.end ?? now)];
    return bar.lane === lane && x >= from - 2 && x <= Math.max(to, from + 3) + 2;
  };
  const found = picture.lanes.bars.filter(near);
  return found.reverse().find((bar) => bar.kind !== "planned") ?? found[0] ?? null;
}

/** As much of the text as there is room for. */
export function fitted(pen: CanvasRenderingContext2D, text: string, room: number): string {
  if (pen.measureText(text).width <= room) {
    return text;
  }
  let length = Math.floor((text.length * room) / pen.measureText(text).width);
  while (length > 0 && pen.measureText(`${text.slice(0, length)}…`).width > room) {
    length--;
  }
  return length > 0 ? `${text.slice(0, length)}…` : "";
}
