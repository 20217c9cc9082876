// The whole graph, small: what is where, what failed, and which part is in sight. Drag to move there.

import { mostUrgent } from "../status";
import type { Store } from "../store";
import { onTheme } from "../theme";
import { sight } from "./camera";
import type { Scene } from "./scene";
import type { Viewport } from "./viewport";
import { countMembers, sharedNode } from "./words";

const MOST_WIDTH = 168;
const MOST_HEIGHT = 112;
const LEAST = 28;
const REDRAW_MS = 250;

export class Minimap {
  private readonly scaleX: number;
  private readonly scaleY: number;
  private readonly ends: (() => void)[];
  private readonly listening = new AbortController();
  private due: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly store: Store,
    private readonly scene: Scene,
    private readonly viewport: Viewport,
    private readonly canvas: HTMLCanvasElement,
    private readonly frame: HTMLElement,
  ) {
    const { width, height } = scene.layout;
    const scale = Math.min(MOST_WIDTH / width, MOST_HEIGHT / height);
    this.scaleX = Math.max(scale, LEAST / width);
    this.scaleY = Math.max(scale, LEAST / height);
    const sharpness = window.devicePixelRatio || 1;
    canvas.width = Math.ceil(width * this.scaleX * sharpness);
    canvas.height = Math.ceil(height * this.scaleY * sharpness);
    canvas.style.width = `${width * this.scaleX}px`;
    canvas.style.height = `${height * this.scaleY}px`;
    canvas.getContext("2d")?.scale(this.scaleX * sharpness, this.scaleY * sharpness);
    this.ends = [store.subscribe(["functions", "nodes"], () => this.redrawSoon()), onTheme(() => this.redrawSoon())];
    this.listen();
    this.redraw();
    this.move();
  }

  dispose(): void {
    this.ends.forEach((end) => end());
    this.listening.abort();
    clearTimeout(this.due);
  }

  /** The camera moved. */
  move(): void {
    const { left, top, width, height } = sight(this.viewport.camera, this.viewport.view);
    const { style } = this.frame;
    style.transform = `translate(${left * this.scaleX}px,${top * this.scaleY}px)`;
    style.width = `${width * this.scaleX}px`;
    style.height = `${height * this.scaleY}px`;
  }

  private redrawSoon(): void {
    this.due ??= setTimeout(() => {
      this.due = undefined;
      this.redraw();
    }, REDRAW_MS);
  }

  private redraw(): void {
    const context = this.canvas.getContext("2d");
    if (!context) {
      return;
    }
    const { shapes, width, height } = this.scene.layout;
    // Colours that CSS has worked out, which custom properties are not.
    const { color: alarm, outlineColor: plain, caretColor: done } = getComputedStyle(this.canvas);
    const [leastWidth, leastHeight] = [2 / this.scaleX, 2 / this.scaleY];
    context.clearRect(0, 0, width, height);
    for (const shape of shapes) {
      const status = mostUrgent(countMembers(this.store, shape.members));
      const node = this.store.live?.nodes[sharedNode(this.store, shape.members)];
      const failed = status === "f";
      const begun = !"wqs".includes(status);
      const grown = failed ? 2 : 1;
      const w = Math.max(shape.width, leastWidth * grown);
      const h = Math.max(shape.height, leastHeight * grown);
      context.globalAlpha = begun ? 1 : 0.5;
      context.fillStyle = failed ? alarm : begun ? (node?.colour ?? done) : plain;
      context.fillRect(shape.x - w / 2, shape.y - h / 2, w, h);
    }
  }

  private listen(): void {
    const { signal } = this.listening;
    const { canvas } = this;
    const go = (event: PointerEvent): void => {
      const { left, top } = canvas.getBoundingClientRect();
      this.viewport.centre((event.clientX - left) / this.scaleX, (event.clientY - top) / this.scaleY);
    };
    canvas.addEventListener(
      "pointerdown",
      (event) => {
        canvas.setPointerCapture(event.pointerId);
        go(event);
      },
      { signal },
    );
    canvas.addEventListener("pointermove", (event) => event.buttons === 1 && go(event), { signal });
  }
}
