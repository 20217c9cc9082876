// Pointer and wheel on the graph: drag moves, pinch and the wheel with Ctrl zoom, a plain wheel scrolls the page.

import type { Viewport } from "./viewport";

const SLOP = 4;
const WHEEL = 0.0022;
const MOST_WHEEL = 120;
const LINE = 16;

export interface Gestures {
  dispose(): void;
  /** Whether the pointer was dragged since it went down: then a click is none. */
  dragged(): boolean;
}

export function listenToGestures(room: HTMLElement, viewport: Viewport): Gestures {
  const pointers = new Map<number, { x: number; y: number }>();
  let dragged = false;

  function down(event: PointerEvent): void {
    if (event.button === 0) {
      pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      dragged = pointers.size > 1;
    }
  }

  function move(event: PointerEvent): void {
    const before = pointers.get(event.pointerId);
    if (!before) {
      return;
    }
    if (event.buttons === 0) {
      up(event); // it was let go elsewhere
      return;
    }
    const [dx, dy] = [event.clientX - before.x, event.clientY - before.y];
    if (!dragged && Math.hypot(dx, dy) < SLOP) {
      return;
    }
    if (!dragged) {
      dragged = true;
      room.setPointerCapture(event.pointerId);
    }
    room.classList.add("hl-dragging");
    const now = { x: event.clientX, y: event.clientY };
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      pinch(before, now, other);
    } else {
      viewport.pan(dx, dy);
    }
    pointers.set(event.pointerId, now);
  }

  function pinch(before: Point, now: Point, other: Point): void {
    const factor = distance(now, other) / Math.max(distance(before, other), 1);
    const { left, top } = room.getBoundingClientRect();
    viewport.zoom(factor, (now.x + other.x) / 2 - left, (now.y + other.y) / 2 - top);
    viewport.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
  }

  function up(event: PointerEvent): void {
    pointers.delete(event.pointerId);
    room.classList.remove("hl-dragging");
  }

  function wheel(event: WheelEvent): void {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      event.stopPropagation();
      const delta = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE : 1);
      const { left, top } = room.getBoundingClientRect();
      // A pinch on a touch pad comes as small steps of a wheel.
      const step = Math.max(-MOST_WHEEL, Math.min(MOST_WHEEL, delta)) * (Math.abs(delta) < 20 ? 4 : 1);
      viewport.zoom(Math.exp(-step * WHEEL), event.clientX - left, event.clientY - top);
    }
  }

  const end = new AbortController();
  const { signal } = end;
  room.addEventListener("pointerdown", down, { signal });
  room.addEventListener("pointermove", move, { signal });
  room.addEventListener("pointerup", up, { signal });
  room.addEventListener("pointercancel", up, { signal });
  room.addEventListener("wheel", wheel, { signal, passive: false });
  return { dispose: () => end.abort(), dragged: () => dragged };
}

interface Point {
  x: number;
  y: number;
}

function distance(one: Point, other: Point): number {
  return Math.hypot(one.x - other.x, one.y - other.y);
}
