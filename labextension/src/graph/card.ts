// A function as it is drawn: a card with its node's stripe and letter, its title, what became of it, and an icon.
//
// Coordinates are around the card's centre. Status, node and marks are attributes and classes; graph.css draws them.

import type { Shape } from "../protocol";
import { STATUS, statusWord } from "../status";
import type { Store } from "../store";
import { element, paint, put, write } from "./svg";
import { firstFitting, fitted } from "./text";
import { isQuiet, labelOf, notesOf } from "./words";

const RADIUS = 6;
const STRIPE = 18;
const ICON = 14;

/** What the scene knows of a card. */
export interface ShapeView {
  readonly root: SVGGElement;
  update(): void;
}

export class FunctionCard implements ShapeView {
  readonly root: SVGGElement;
  private readonly letter: SVGTextElement;
  private readonly note: SVGTextElement;
  private readonly icon: SVGPathElement;
  private readonly stripe: SVGPathElement;
  private extra: SVGElement | null = null;
  private readonly at: number;

  constructor(
    private readonly store: Store,
    private readonly shape: Shape,
    private readonly font: string,
  ) {
    this.at = shape.members[0]!;
    const { width, height } = shape;
    const left = -width / 2;
    const type = store.structure?.types[this.at] ?? "r";
    const radius = type === "v" ? height / 2 : RADIUS;
    this.stripe = stripe(width, height, radius);
    this.letter = element("text", { class: "hl-letter", x: left + STRIPE / 2, y: 4 });
    const title = element("text", { class: "hl-title", x: left + STRIPE + 7, y: -1.5 });
    title.textContent = fitted(shape.title, width - STRIPE - ICON - 14, `500 12px ${font}`);
    this.note = element("text", { class: "hl-note", x: left + STRIPE + 7, y: 11 });
    this.icon = element("path", { class: "hl-icon", style: `--hl-at:${width / 2 - ICON - 5}px;--hl-drop:-4px` });
    this.root = element(
      "g",
      {
        class: `hl-fn hl-type-${type}`,
        transform: `translate(${shape.x} ${shape.y})`,
        role: "button",
        "aria-roledescription": "function",
        tabindex: -1,
        "data-function": store.structure?.ids[this.at] ?? "",
      },
      frame("hl-box", width, height, radius),
      this.stripe,
      this.letter,
      title,
      this.note,
      this.icon,
    );
    this.update();
  }

  update(): void {
    const { store, at, root } = this;
    const status = store.status(at);
    const node = store.nodeOf(at);
    put(root, "data-status", statusWord(status));
    put(root, "data-node", node?.name ?? "");
    put(root, "aria-label", labelOf(store, at));
    paint(root, node);
    root.classList.toggle("hl-quiet", isQuiet(store, at));
    root.classList.toggle("hl-unplaced", node === null);
    put(this.icon, "d", STATUS[status].icon);
    write(this.letter, node?.letter ?? "");
    write(this.note, firstFitting(notesOf(store, at), this.shape.width - STRIPE - 12, `10px ${this.font}`));
    this.updateExtra("rfcx".includes(status) ? status : "");
    this.updateStale(store.live?.stale.has(at) ?? false);
  }

  /** More than a frame: a pulse, a second frame inside or behind, hatching. */
  private updateExtra(kind: string): void {
    const name = kind && `hl-extra-${kind}`;
    if ((this.extra?.getAttribute("class") ?? "") === name) {
      return;
    }
    this.extra?.remove();
    this.extra = kind ? extraOf(kind, name, this.shape) : null;
    if (this.extra) {
      this.root.insertBefore(this.extra, kind === "c" ? this.root.firstChild : this.stripe);
    }
  }

  private updateStale(stale: boolean): void {
    const badge = this.root.querySelector(".hl-stale");
    if (stale && !badge) {
      this.root.append(staleBadge(this.shape));
    } else if (!stale) {
      badge?.remove();
    }
  }
}

export function frame(name: string, width: number, height: number, radius: number): SVGRectElement {
  return element("rect", { class: name, x: -width / 2, y: -height / 2, width, height, rx: radius });
}

/** The left end of a card, with its round corners. */
function stripe(width: number, height: number, radius: number): SVGPathElement {
  const [left, top] = [-width / 2, -height / 2];
  const straight = height - 2 * radius;
  const right = left + Math.max(STRIPE, radius);
  return element("path", {
    class: "hl-stripe",
    d:
      `M${right} ${top}H${left + radius}a${radius} ${radius} 0 0 0 ${-radius} ${radius}v${straight}` +
      `a${radius} ${radius} 0 0 0 ${radius} ${radius}H${right}z`,
  });
}

function extraOf(kind: string, name: string, { width, height }: Shape): SVGElement {
  if (kind === "x") {
    return element("path", { class: name, d: hatching(width, height) });
  }
  const inset = kind === "f" ? 6 : 0;
  const rect = frame(name, width - inset, height - inset, RADIUS - inset / 2);
  if (kind === "c") {
    rect.setAttribute("transform", "translate(3.5 -3.5)");
  }
  return rect;
}

/** Slanting lines across a card. */
function hatching(width: number, height: number): string {
  let lines = "";
  for (let x = -width / 2 + 2; x + height < width / 2; x += 8) {
    lines += `M${x} ${height / 2}L${x + height} ${-height / 2}`;
  }
  return lines;
}

function staleBadge(shape: Shape): SVGGElement {
  const text = element("text", { y: 3 });
  text.textContent = "stale";
  const place = `translate(${shape.width / 2 - 16} ${shape.height / 2 + 1})`;
  return element("g", { class: "hl-stale", transform: place }, frame("hl-stale-box", 30, 12, 6), text);
}
