// Paints the timeline on a canvas: thousands of bars at every frame while it is dragged.

import type { NodeState } from "../../protocol";
import { hatched, paintBar } from "./bars";
import { AXIS, fitted, LANE, type Picture, xOf } from "./picture";
import { ticks } from "./scale";

export function paint(canvas: HTMLCanvasElement, picture: Picture): void {
  const { width, height, colours } = picture;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d")!;
  pen.scale(ratio, ratio);
  pen.font = `11px ${colours.font}`;
  pen.textBaseline = "middle";
  paintGrid(pen, picture);
  clip(pen, picture.gutter, AXIS, width - picture.gutter, height - AXIS, () => {
    const now = picture.store.now();
    const first = Math.floor(picture.top / LANE);
    const last = Math.ceil((picture.top + height) / LANE);
    const hatch = hatched(pen, colours["ink-soft"]);
    for (const bar of picture.lanes.bars) {
      if (bar.lane >= first && bar.lane <= last && bar.start <= picture.span.to) {
        paintBar(pen, picture, bar, now, hatch);
      }
    }
    paintNow(pen, picture, now);
  });
  clip(pen, 0, AXIS, picture.gutter, height - AXIS, () => paintNames(pen, picture));
}

function clip(pen: CanvasRenderingContext2D, x: number, y: number, w: number, h: number, work: () => void): void {
  pen.save();
  pen.beginPath();
  pen.rect(x, y, Math.max(0, w), Math.max(0, h));
  pen.clip();
  work();
  pen.restore();
}

function paintGrid(pen: CanvasRenderingContext2D, picture: Picture): void {
  const { colours, span, width, height, gutter } = picture;
  pen.fillStyle = colours["ink-soft"];
  pen.strokeStyle = colours.line;
  pen.beginPath();
  for (const { at, text } of ticks(span, width - gutter)) {
    const x = Math.round(xOf(picture, at)) + 0.5;
    pen.moveTo(x, AXIS - 5);
    pen.lineTo(x, height);
    const half = pen.measureText(text).width / 2;
    pen.fillText(text, Math.min(Math.max(x - half, gutter), width - 2 * half - 1), 9);
  }
  const { lanes } = picture.lanes;
  lanes.forEach((lane, place) => {
    if (lane.slot === 0) {
      const y = AXIS + place * LANE - picture.top + 0.5;
      pen.moveTo(y < AXIS ? width : 0, y);
      pen.lineTo(width, y);
    }
  });
  pen.stroke();
}

function paintNames(pen: CanvasRenderingContext2D, { lanes, store, top, height, gutter, colours }: Picture): void {
  lanes.lanes.forEach((lane, place) => {
    const y = AXIS + place * LANE - top;
    const node = store.live?.nodes[lane.node];
    if (!node || y < AXIS - LANE || y > height) {
      return;
    }
    if (lane.slot === 0) {
      paintBadge(pen, node, y);
      pen.fillStyle = colours.ink;
      pen.fillText(fitted(pen, node.name, gutter - 52), 31, y + LANE / 2);
    }
    const text = String(lane.slot);
    pen.fillStyle = colours["ink-faint"];
    pen.fillText(text, gutter - 8 - pen.measureText(text).width, y + LANE / 2);
  });
}

function paintBadge(pen: CanvasRenderingContext2D, node: NodeState, y: number): void {
  pen.fillStyle = node.colour;
  pen.beginPath();
  pen.roundRect(10, y + 3, 16, 16, 4);
  pen.fill();
  pen.fillStyle = node.ink;
  pen.save();
  pen.font = `bold ${pen.font}`;
  pen.fillText(node.letter, 18 - pen.measureText(node.letter).width / 2, y + LANE / 2);
  pen.restore();
}

function paintNow(pen: CanvasRenderingContext2D, picture: Picture, now: number): void {
  if (picture.store.running) {
    const x = Math.round(xOf(picture, now));
    pen.fillStyle = picture.colours.running;
    pen.fillRect(x - 1, AXIS, 2, picture.height);
  }
}
