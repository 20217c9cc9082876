// Paints single bars.

import type { NodeState } from "../../protocol";
import { STATUS } from "../../status";
import type { Store } from "../../store";
import type { Bar } from "./lanes";
import { AXIS, fitted, LANE, type Picture, xOf } from "./picture";

export function paintBar(
  pen: CanvasRenderingContext2D,
  picture: Picture,
  bar: Bar,
  now: number,
  hatch: CanvasPattern | string,
): void {
  const { store, colours, gutter, width } = picture;
  const from = Math.max(gutter - 9, xOf(picture, bar.start));
  const to = Math.min(width + 9, xOf(picture, bar.end ?? Math.max(now, bar.start)));
  if (to < gutter) {
    return;
  }
  const y = AXIS + bar.lane * LANE - picture.top;
  const w = Math.max(to - from, bar.kind === "transfer" ? 1.5 : 2);
  const node = store.live?.nodes[picture.lanes.lanes[bar.lane]!.node];
  const stepsBack = !store.passes(bar.at) || !isOn(store, bar, picture);
  pen.globalAlpha = stepsBack ? 0.22 : 1;
  pen.lineWidth = 1;
  if (bar.kind === "planned") {
    paintPlanned(pen, colours["ink-faint"], from, y + 1.5, w);
  } else if (bar.kind === "transfer") {
    pen.fillStyle = hatch;
    pen.fillRect(from, y + 6, w, LANE - 12);
    pen.strokeStyle = colours["ink-soft"];
    pen.strokeRect(from + 0.5, y + 6.5, Math.max(w - 1, 1), LANE - 13);
  } else {
    paintAttempt(pen, picture, bar, node, from, y + 4, w);
  }
  pen.globalAlpha = 1;
}

/** Hollow; where there is no room for an outline, lines above and below. */
function paintPlanned(pen: CanvasRenderingContext2D, colour: string, x: number, y: number, w: number): void {
  const h = LANE - 3;
  pen.strokeStyle = colour;
  pen.beginPath();
  if (w > 5) {
    pen.setLineDash([3, 2]);
    pen.rect(x + 0.5, y, w - 1, h);
  } else {
    pen.moveTo(x + 0.5, y);
    pen.lineTo(x + w - 0.5, y);
    pen.moveTo(x + 0.5, y + h);
    pen.lineTo(x + w - 0.5, y + h);
  }
  pen.stroke();
  pen.setLineDash([]);
}

function isOn({ ui }: Store, bar: Bar, { lanes }: Picture): boolean {
  return ui.highlightedNode < 0 || lanes.lanes[bar.lane]!.node === ui.highlightedNode;
}

function paintAttempt(
  pen: CanvasRenderingContext2D,
  { store, colours, hovered }: Picture,
  bar: Bar,
  node: NodeState | undefined,
  x: number,
  y: number,
  w: number,
): void {
  const h = LANE - 8;
  const bad = bar.status === "f" || bar.kind === "earlier";
  const open = bar.end === null;
  pen.fillStyle = bad ? colours.bg : (node?.colour ?? colours["ink-faint"]);
  pen.fillRect(x, y, w, h);
  if (bad) {
    pen.fillStyle = node?.colour ?? colours["ink-faint"];
    pen.fillRect(x, y, Math.min(3, w), h);
  }
  const marked = bar === hovered || (bar.at === store.ui.selected && bar.kind === "actual");
  if (w > 4 || bad || marked) {
    const edge = marked ? colours.accent : bad ? colours.alarm : open ? colours.running : colours["ink-soft"];
    pen.strokeStyle = edge;
    pen.lineWidth = marked ? 2.5 : bad || open ? 1.5 : 0.5;
    pen.strokeRect(x, y, w, h);
  }
  if (w > 18) {
    const ink = bad ? colours.ink : (node?.ink ?? colours.bg);
    paintIcon(pen, bar, x + 4, y + 2, bad ? colours.alarm : ink);
    pen.fillStyle = ink;
    if (w > 44) {
      pen.fillText(fitted(pen, store.structure?.ids[bar.at] ?? "", w - 24), x + 19, y + h / 2 + 0.5);
    }
  }
}

const paths = new Map<string, Path2D>();

function paintIcon(pen: CanvasRenderingContext2D, bar: Bar, x: number, y: number, colour: string): void {
  const { icon } = STATUS[bar.kind === "earlier" && bar.status === "d" ? "x" : bar.status];
  const path = paths.get(icon) ?? new Path2D(icon);
  paths.set(icon, path);
  pen.save();
  pen.translate(x, y);
  pen.scale(0.62, 0.62);
  pen.strokeStyle = colour;
  pen.lineWidth = 2.6;
  pen.lineCap = pen.lineJoin = "round";
  pen.stroke(path);
  pen.restore();
}

export function hatched(pen: CanvasRenderingContext2D, colour: string): CanvasPattern | string {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 5;
  const ink = tile.getContext("2d")!;
  ink.strokeStyle = colour;
  ink.lineWidth = 1.2;
  ink.beginPath();
  ink.moveTo(-1, 6);
  ink.lineTo(6, -1);
  ink.stroke();
  return pen.createPattern(tile, "repeat") ?? colour;
}
