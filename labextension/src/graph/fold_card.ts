// Many functions drawn as one: how many have which status, and the most urgent of these as its own.

import type { Shape } from "../protocol";
import { PROGRESS, STATUS, mostUrgent, statusWord, total, type Counts } from "../status";
import type { Store } from "../store";
import { frame, type ShapeView } from "./card";
import { element, paint, put } from "./svg";
import { fitted } from "./text";
import { countMembers, foldLabel, sharedNode } from "./words";

const RADIUS = 6;
const BAR = 7;
const SIDE = 9;
const LEAST_SEGMENT = 3;

export class FoldCard implements ShapeView {
  readonly root: SVGGElement;
  private readonly icon: SVGPathElement;
  private readonly bar: SVGGElement;
  private shown = "";

  constructor(
    private readonly store: Store,
    private readonly shape: Shape,
    font: string,
  ) {
    const { width, height } = shape;
    const left = -width / 2;
    const title = element("text", { class: "hl-title", x: left + SIDE, y: -3 });
    title.textContent = fitted(shape.title, width - 2 * SIDE - 18, `600 12px ${font}`);
    this.icon = element("path", { class: "hl-icon", style: `--hl-at:${width / 2 - 20}px;--hl-drop:-7px` });
    this.bar = element("g", { class: "hl-bar", transform: `translate(${left + SIDE} ${height / 2 - BAR - 7})` });
    this.root = element(
      "g",
      {
        class: `hl-fn hl-fold hl-kind-${shape.kind}`,
        transform: `translate(${shape.x} ${shape.y})`,
        role: "button",
        "aria-roledescription": "group of functions",
        tabindex: -1,
        "data-fold": shape.title,
      },
      pile(width, height, 5),
      pile(width, height, 2.5),
      frame("hl-box", width, height, RADIUS),
      title,
      this.bar,
      this.icon,
    );
    this.update();
  }

  update(): void {
    const { store, shape, root } = this;
    const counts = countMembers(store, shape.members);
    const status = mostUrgent(counts);
    const node = store.live?.nodes[sharedNode(store, shape.members)] ?? null;
    put(root, "data-status", statusWord(status));
    put(root, "data-node", node?.name ?? "");
    put(root, "aria-label", foldLabel(shape, counts));
    paint(root, node);
    put(this.icon, "d", STATUS[status].icon);
    const shown = JSON.stringify(counts);
    if (shown !== this.shown) {
      this.shown = shown;
      this.bar.replaceChildren(...segments(counts, shape.width - 2 * SIDE));
    }
  }
}

function pile(width: number, height: number, offset: number): SVGRectElement {
  const rect = frame("hl-pile", width - offset, height, RADIUS);
  rect.setAttribute("transform", `translate(0 ${offset})`);
  return rect;
}

/** Few failures among many would be too thin to see: each status has a least width. */
export function widths(counts: Counts, total: number, room: number): Map<keyof Counts, number> {
  const present = PROGRESS.filter((letter) => counts[letter] > 0);
  const raw = present.map((letter) => Math.max((counts[letter] / total) * room, LEAST_SEGMENT));
  const surplus = raw.reduce((sum, width) => sum + width, 0) - room;
  const widest = raw.indexOf(Math.max(...raw));
  return new Map(present.map((letter, at) => [letter, at === widest ? raw[at]! - surplus : raw[at]!]));
}

function segments(counts: Counts, room: number): SVGElement[] {
  let x = 0;
  const rects = [];
  for (const [letter, width] of widths(counts, total(counts), room)) {
    rects.push(element("rect", { class: `hl-bar-${letter}`, x, y: 0, width, height: BAR }));
    x += width;
  }
  return rects;
}
