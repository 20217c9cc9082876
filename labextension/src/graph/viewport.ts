// The camera in the page: moves the picture by one transform, and keeps it right when the room changes.

import type { Store } from "../store";
import { first, fit, pan, reveal, zoom, type Box, type Camera, type Size } from "./camera";

const CALM_MS = 160;
const FAR = 0.5;
const VERY_FAR = 0.26;
const NO_ROOM: Size = { width: 1, height: 1 };

interface Remembered {
  key: string;
  camera: Camera;
}

export class Viewport {
  camera: Camera;
  view: Size = NO_ROOM;
  /** Told after each move. */
  onMove: () => void = () => undefined;
  /** What the camera keeps to while the room changes; null: the user chose it. */
  private keeps: typeof fit | null;
  private frame = 0;
  private calm: ReturnType<typeof setTimeout> | undefined;
  private readonly observer = new ResizeObserver(() => this.resize());

  constructor(
    private readonly store: Store,
    private readonly room: HTMLElement,
    private readonly picture: SVGSVGElement,
    private readonly graph: Size,
  ) {
    this.view = { width: room.clientWidth || 1, height: room.clientHeight || 1 };
    const remembered = store.memory.get("camera") as Remembered | undefined;
    this.keeps = remembered?.key === store.structure?.key ? null : first;
    this.camera = this.keeps?.(graph, this.view) ?? remembered!.camera;
    this.draw();
    this.observer.observe(room);
  }

  dispose(): void {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
    clearTimeout(this.calm);
  }

  fit(): void {
    this.store.memory.delete("camera");
    this.keeps = fit;
    this.glide(fit(this.graph, this.view));
  }

  /** About a point of the view, or its middle. */
  zoom(factor: number, x = this.view.width / 2, y = this.view.height / 2): void {
    this.move(zoom(this.camera, factor, x, y));
  }

  zoomGently(factor: number, x = this.view.width / 2, y = this.view.height / 2): void {
    this.remember(zoom(this.camera, factor, x, y));
    this.glide(this.camera);
  }

  pan(dx: number, dy: number): void {
    this.move(pan(this.camera, dx, dy, this.graph, this.view));
  }

  reveal(box: Box): void {
    const camera = reveal(this.camera, box, this.view);
    if (camera.x !== this.camera.x || camera.y !== this.camera.y) {
      this.remember(camera);
      this.glide(camera);
    }
  }

  /** Put a point of the graph into the middle. */
  centre(x: number, y: number): void {
    const { scale } = this.camera;
    this.move({ x: this.view.width / 2 - x * scale, y: this.view.height / 2 - y * scale, scale });
  }

  private move(camera: Camera): void {
    this.remember(camera);
    this.room.classList.remove("hl-gliding");
    this.room.classList.add("hl-moving");
    clearTimeout(this.calm);
    this.calm = setTimeout(() => this.room.classList.remove("hl-moving"), CALM_MS);
    this.drawSoon();
  }

  private glide(camera: Camera): void {
    this.camera = camera;
    this.room.classList.add("hl-gliding");
    this.drawSoon();
  }

  private remember(camera: Camera): void {
    this.camera = camera;
    this.keeps = null;
    this.store.memory.set("camera", { key: this.store.structure?.key ?? "", camera } satisfies Remembered);
  }

  private resize(): void {
    const view = { width: this.room.clientWidth || 1, height: this.room.clientHeight || 1 };
    if (view.width === this.view.width && view.height === this.view.height) {
      return;
    }
    this.view = view;
    this.camera = this.keeps?.(this.graph, view) ?? this.camera;
    this.room.classList.remove("hl-gliding");
    this.drawSoon();
  }

  private drawSoon(): void {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  private draw(): void {
    const { x, y, scale } = this.camera;
    this.picture.style.transform = `translate(${x}px,${y}px) scale(${scale})`;
    this.room.classList.toggle("hl-far", scale < FAR);
    this.room.classList.toggle("hl-very-far", scale < VERY_FAR);
    this.onMove();
  }
}
