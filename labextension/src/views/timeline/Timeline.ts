// The timeline's canvas: follows the store, and what pointer and keys ask of it.

import type { Store } from "../../store";
import { onTheme } from "../../theme";
import { type Colours, readColours } from "./colours";
import { type Bar, type Lanes, lanesOf } from "./lanes";
import { paint } from "./paint";
import { AXIS, barAt, LANE, type Picture, timeAt, xOf } from "./picture";
import type { Span } from "./scale";
import { firstBar, neighbour, same } from "./steps";
import { TimeWindow } from "./time_window";
import { barText } from "./words";

export interface Hooks {
  onLanes: (lanes: number, bars: number) => void;
  /** Where the pointer's bar is told; null: there is none. */
  onPoint: (text: string | null, x: number, y: number) => void;
  onFocus: (text: string) => void;
  onOpen: (bar: Bar) => void;
}

const MANY = 5000;

export class Timeline {
  private lanes: Lanes = { lanes: [], bars: [], end: 0 };
  private readonly window: TimeWindow;
  private room = { width: 0, height: 0, top: 0 };
  private colours: Colours;
  private hovered: Bar | null = null;
  private drag: { x: number; span: Span; moved: boolean } | null = null;
  private frame = 0;
  private outdated = true;
  private built = -Infinity;
  private readonly ends: (() => void)[] = [];

  constructor(
    private readonly store: Store,
    private readonly box: HTMLElement,
    private readonly canvas: HTMLCanvasElement,
    private readonly hooks: Hooks,
  ) {
    this.colours = readColours(box);
    this.window = new TimeWindow(store, () => this.lanes.end);
    const observer = new ResizeObserver(() => this.measure());
    observer.observe(box);
    this.ends.push(
      () => observer.disconnect(),
      onTheme(() => this.recolour()),
      store.subscribe(["structure", "functions", "run", "nodes", "connection"], () => this.renew()),
      store.subscribe(["view"], () => this.draw()),
      store.subscribe(["clock"], () => store.running && this.draw()),
      this.listen(),
    );
    this.measure();
  }

  dispose(): void {
    this.ends.forEach((end) => end());
    cancelAnimationFrame(this.frame);
  }

  /** Not at each frame, for to ask the page for it makes it lay itself out. */
  private measure(): void {
    const { clientWidth: width, clientHeight: height, scrollTop: top } = this.box;
    this.room = { width, height, top };
    this.draw();
  }

  private recolour(): void {
    this.colours = readColours(this.box);
    this.draw();
  }

  private renew(): void {
    this.outdated = true;
    this.draw();
  }

  private draw(): void {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.build();
      paint(this.canvas, this.picture());
    });
  }

  private build(): void {
    const now = performance.now();
    const rest = this.store.size > MANY && this.store.running ? 500 : 0;
    if (this.outdated && now - this.built >= rest) {
      this.lanes = lanesOf(this.store);
      this.hovered = this.lanes.bars.find((bar) => same(bar, this.hovered)) ?? null;
      this.outdated = false;
      this.built = now;
      this.hooks.onLanes(this.lanes.lanes.length, this.lanes.bars.length);
    }
  }

  private picture(): Picture {
    const { store, lanes, colours, hovered, room } = this;
    const gutter = room.width < 560 ? 92 : 128;
    return { store, lanes, span: this.window.span, gutter, ...room, hovered, colours };
  }

  // -- moving ------------------------------------------------------------------------

  private zoom(factor: number, at?: number): void {
    this.window.zoom(factor, at);
    this.draw();
  }

  private move(from: Span, pixels: number): void {
    this.window.move(from, pixels / this.room.width);
    this.draw();
  }

  private listen(): () => void {
    const ends = new AbortController();
    const { signal } = ends;
    const { box } = this;
    box.addEventListener("scroll", () => this.measure(), { signal, passive: true });
    box.addEventListener("wheel", (event) => this.wheel(event), { signal, passive: false });
    box.addEventListener("pointerdown", (event) => this.press(event), { signal });
    box.addEventListener("pointermove", (event) => this.point(event), { signal });
    box.addEventListener("pointerup", (event) => this.release(event), { signal });
    box.addEventListener("pointercancel", () => (this.drag = null), { signal });
    box.addEventListener("pointerleave", () => this.hover(null), { signal });
    box.addEventListener("blur", () => this.hover(null), { signal });
    box.addEventListener("dblclick", (event) => this.zoom(event.shiftKey ? 2 : 0.5, this.timeOf(event)), { signal });
    box.addEventListener("keydown", (event) => this.key(event), { signal });
    return () => ends.abort();
  }

  private place(event: MouseEvent): { x: number; y: number } {
    const { left, top } = this.box.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  private timeOf(event: MouseEvent): number {
    return timeAt(this.picture(), this.place(event).x);
  }

  private wheel(event: WheelEvent): void {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      this.zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) / 150), this.timeOf(event));
    } else if (this.window.part && Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      this.move(this.window.span, event.deltaX);
    }
  }

  private press(event: PointerEvent): void {
    if (event.button === 0) {
      this.drag = { x: event.clientX, span: this.window.span, moved: false };
      this.box.setPointerCapture(event.pointerId);
    }
  }

  private point(event: PointerEvent): void {
    if (this.drag) {
      const { x, span } = this.drag;
      this.drag.moved ||= Math.abs(event.clientX - x) > 3;
      if (this.drag.moved) {
        this.move(span, x - event.clientX);
      }
      return;
    }
    const { x, y } = this.place(event);
    this.hover(barAt(this.picture(), x, y), x, y);
  }

  private release(event: PointerEvent): void {
    const { x, y } = this.place(event);
    const bar = this.drag && !this.drag.moved ? barAt(this.picture(), x, y) : null;
    this.drag = null;
    if (bar) {
      this.store.update({ selected: bar.at });
    }
  }

  private hover(bar: Bar | null, x = 0, y = 0): void {
    if (bar !== this.hovered) {
      this.hovered = bar;
      this.draw();
    }
    this.hooks.onPoint(bar && barText(this.store, this.lanes, bar), Math.min(x, this.room.width - 220), y + 16);
  }

  // -- keys ----------------------------------------------------------------------------

  private key(event: KeyboardEvent): void {
    const act = KEYS[event.key];
    if (act && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      event.stopPropagation();
      act(this);
    }
  }

  zoomBy(factor: number): void {
    this.zoom(factor, this.hovered?.start);
  }

  showAll(): void {
    this.window.show(null);
    this.draw();
  }

  open(): void {
    if (this.hovered) {
      this.hooks.onOpen(this.hovered);
    }
  }

  /** To the bar before or after on the lane, or the nearest one of a lane above or below. */
  step(across: number, down: number): void {
    const bars = this.lanes.bars.filter((bar) => bar.kind !== "planned");
    const from = this.hovered ?? bars.find((bar) => bar.at === this.store.ui.selected) ?? null;
    const next = from ? neighbour(bars, from, across, down) : firstBar(bars);
    if (next) {
      this.hovered = next;
      this.hooks.onFocus(barText(this.store, this.lanes, next));
      this.reveal(next);
    }
  }

  private reveal(bar: Bar): void {
    const y = bar.lane * LANE;
    const { top, height } = this.room;
    this.box.scrollTop = Math.min(y, Math.max(top, y - (height - AXIS - LANE)));
    this.measure();
    this.window.reveal(bar.start);
    const picture = this.picture();
    this.hooks.onPoint(barText(this.store, this.lanes, bar), xOf(picture, bar.start), AXIS + y - picture.top + LANE);
  }
}

const KEYS: Record<string, (timeline: Timeline) => void> = {
  ArrowRight: (timeline) => timeline.step(1, 0),
  ArrowLeft: (timeline) => timeline.step(-1, 0),
  ArrowDown: (timeline) => timeline.step(0, 1),
  ArrowUp: (timeline) => timeline.step(0, -1),
  Enter: (timeline) => timeline.open(),
  "+": (timeline) => timeline.zoomBy(0.5),
  "=": (timeline) => timeline.zoomBy(0.5),
  "-": (timeline) => timeline.zoomBy(2),
  "0": (timeline) => timeline.showAll(),
};
