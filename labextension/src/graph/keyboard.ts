// The graph by keyboard. It is one tab stop; arrows go along its edges.

import type { Structure } from "../protocol";
import type { Store } from "../store";
import { toggleGroup } from "./groups";
import { direction, move, type Arrow, type Direction } from "./moves";
import type { Scene } from "./scene";
import type { Viewport } from "./viewport";

const ARROWS: Record<Arrow, [number, number]> = {
  ArrowUp: [0, 1],
  ArrowDown: [0, -1],
  ArrowLeft: [1, 0],
  ArrowRight: [-1, 0],
};
const PAN = 80;
const ZOOM = 1.3;

export class Keyboard {
  private focused = 0;
  private readonly way: Direction;
  private readonly structure: Structure | null;

  constructor(
    private readonly store: Store,
    private readonly scene: Scene,
    private readonly viewport: Viewport,
  ) {
    this.structure = store.structure;
    this.way = direction(scene.layout.shapes, scene.layout.curves);
    this.rove(Math.max(scene.shapeOf[store.ui.selected] ?? -1, 0));
    this.resume();
  }

  /** Another structure came: where the focus is in this picture, it goes on at the same function in the next. */
  leave(): void {
    if (this.store.structure !== this.structure && this.scene.picture.contains(document.activeElement)) {
      const first = this.scene.layout.shapes[this.focused]?.members[0] ?? -1;
      this.store.memory.set("focus", this.structure?.ids[first]);
    }
  }

  private resume(): void {
    const id = this.store.memory.get("focus");
    if (this.store.memory.delete("focus")) {
      const shape = this.scene.shapeOf[this.store.structure?.ids.indexOf(id as string) ?? -1] ?? -1;
      if (shape >= 0) {
        this.focus(shape);
      }
    }
  }

  /** The tab stop is `shape` from now on. */
  rove(shape: number): void {
    this.scene.root(this.focused)?.setAttribute("tabindex", "-1");
    this.focused = shape;
    this.scene.root(shape)?.setAttribute("tabindex", "0");
  }

  focus(shape: number): void {
    this.rove(shape);
    this.scene.root(shape)?.focus({ preventScroll: true });
    this.viewport.reveal(this.scene.box(shape));
  }

  /** Whether the key meant something. */
  press(event: KeyboardEvent): boolean {
    if (event.ctrlKey || event.metaKey || event.altKey) {
      return false;
    }
    const { key } = event;
    if (key in ARROWS) {
      this.arrow(key as Arrow, event.shiftKey);
    } else if (key === "Home" || key === "End") {
      this.focus(key === "Home" ? 0 : this.scene.layout.shapes.length - 1);
    } else if (key === "Enter") {
      openShape(this.store, this.scene, this.focused);
    } else if (key === " ") {
      this.toggle();
    } else if (key === "+" || key === "=") {
      this.viewport.zoomGently(ZOOM);
    } else if (key === "-") {
      this.viewport.zoomGently(1 / ZOOM);
    } else if (key === "0") {
      this.viewport.fit();
    } else {
      return key === "Escape" && this.escape();
    }
    return true;
  }

  private arrow(key: Arrow, pans: boolean): void {
    if (pans) {
      const [x, y] = ARROWS[key];
      this.viewport.pan(x * PAN, y * PAN);
    } else {
      const { shapes } = this.scene.layout;
      this.focus(move(this.focused, key, shapes, this.scene.edges, this.way));
    }
  }

  private toggle(): void {
    const first = this.scene.layout.shapes[this.focused]?.members[0] ?? -1;
    const group = this.store.structure?.group[first] ?? -1;
    if (group >= 0) {
      toggleGroup(this.store, group);
    }
  }

  /** One thing at a time: first the details, which the app closes, then what stands out; then the app is left. */
  private escape(): boolean {
    const { selected, members, highlightedNode, statusFilter } = this.store.ui;
    if (selected >= 0 || !(members || highlightedNode >= 0 || statusFilter)) {
      return false;
    }
    this.store.update({ members: null, highlightedNode: -1, statusFilter: null });
    return true;
  }
}

/** A function's details; of a fold, the table of its members. */
export function openShape(store: Store, scene: Scene, at: number): void {
  const shape = scene.layout.shapes[at];
  if (shape?.kind === "function") {
    store.open(shape.members[0]!);
  } else if (shape) {
    store.update({ members: { title: shape.title, functions: new Set(shape.members) } });
  }
}
