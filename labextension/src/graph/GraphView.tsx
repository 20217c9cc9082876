// The graph: drawn from the kernel's coordinates, or by levels where there are too many functions to draw.

import { useLayoutEffect, useRef } from "preact/hooks";

import { useStore } from "../hooks";
import type { Layout } from "../protocol";
import type { Store } from "../store";
import { listenToGestures } from "./gestures";
import { toggleGroup } from "./groups";
import { Histogram } from "./Histogram";
import { Keyboard, openShape } from "./keyboard";
import { Minimap } from "./minimap";
import { Scene } from "./scene";
import { Toolbar } from "./Toolbar";
import { Viewport } from "./viewport";

const MAP_ABOVE = 100;
const HOVER_MS = 70;

export function GraphView({ store }: { store: Store }) {
  useStore(store, "structure");
  const { structure } = store;
  const layout = structure?.layout;
  return (
    <section class="hl-graph" data-part="graph" aria-label="Graph">
      {layout && layout.shapes.length > 0 ? (
        <Drawing key={structure.key} store={store} layout={layout} />
      ) : store.size > 0 ? (
        <Histogram store={store} />
      ) : (
        <p class="hl-empty">This DAG has no functions yet.</p>
      )}
    </section>
  );
}

// role="application": arrows walk along edges here, so a screen reader must hand the keys on; each function is a button
// that says its name, status and node. A tree would promise one parent each. The table is the equal for reading by row.
function Drawing({ store, layout }: { store: Store; layout: Layout }) {
  const room = useRef<HTMLDivElement>(null);
  const map = useRef<HTMLCanvasElement>(null);
  const frame = useRef<HTMLDivElement>(null);
  const viewport = useRef<Viewport | null>(null);
  // Before the page is painted: after a fold no frame is empty.
  useLayoutEffect(() => {
    const scene = new Scene(store, layout, fontOf(room.current!));
    room.current!.replaceChildren(scene.picture);
    const view = new Viewport(store, room.current!, scene.picture, layout);
    viewport.current = view;
    const minimap = map.current && new Minimap(store, scene, view, map.current, frame.current!);
    view.onMove = () => minimap?.move();
    const end = behave(store, scene, view, room.current!);
    return () => {
      end();
      minimap?.dispose();
      view.dispose();
      scene.dispose();
    };
  }, [store, layout]);
  const name = `Graph of ${store.structure?.name ?? ""}: arrows follow the edges, Enter shows details`;
  return (
    <>
      <div class="hl-room" ref={room} role="application" aria-roledescription="graph" aria-label={name} />
      {layout.shapes.length > MAP_ABOVE && (
        <div class="hl-minimap" aria-hidden="true">
          <canvas ref={map} />
          <div class="hl-sight" ref={frame} />
        </div>
      )}
      <Toolbar store={store} viewport={viewport} />
    </>
  );
}

/** An element that is not in the page yet has no style. */
function fontOf(room: HTMLElement): string {
  return getComputedStyle(room).fontFamily || getComputedStyle(document.body).fontFamily;
}

/** What pointer and keys do; returns what ends it. */
function behave(store: Store, scene: Scene, viewport: Viewport, room: HTMLElement): () => void {
  const keyboard = new Keyboard(store, scene, viewport);
  const gestures = listenToGestures(room, viewport);
  const ends = new AbortController();
  const { signal } = ends;
  let hovering: ReturnType<typeof setTimeout> | undefined;
  let pointer: [number, number] = [-1, -1];
  let pointed = -1;

  function hover(shape: number): void {
    clearTimeout(hovering);
    hovering = setTimeout(() => scene.hover(shape), HOVER_MS);
  }

  /** Only where the pointer moves: a picture that moves under it means nothing. */
  function point(event: PointerEvent): void {
    const [x, y] = pointer;
    pointer = [event.clientX, event.clientY];
    if (x !== event.clientX || y !== event.clientY) {
      const shape = scene.shapeAt(event.target);
      if (shape !== pointed) {
        pointed = shape;
        hover(shape);
      }
    }
  }

  function click(event: MouseEvent): void {
    const button = (event.target as Element).closest<SVGGElement>("[data-group]");
    const shape = scene.shapeAt(event.target);
    if (gestures.dragged()) {
      return;
    }
    if (button) {
      toggleGroup(store, Number(button.dataset["group"]));
    } else if (scene.layout.shapes[shape]?.kind === "function") {
      keyboard.focus(shape);
      store.update({ selected: scene.layout.shapes[shape].members[0]! });
    } else if (shape >= 0) {
      keyboard.focus(shape);
      openShape(store, scene, shape);
    }
  }

  function doubleClick(event: MouseEvent): void {
    const shape = scene.shapeAt(event.target);
    const { left, top } = room.getBoundingClientRect();
    if (shape >= 0) {
      openShape(store, scene, shape);
    } else {
      viewport.zoomGently(event.shiftKey ? 0.5 : 2, event.clientX - left, event.clientY - top);
    }
  }

  room.addEventListener("pointerover", point, { signal });
  room.addEventListener("pointermove", point, { signal, passive: true });
  room.addEventListener("pointerleave", () => hover((pointed = -1)), { signal });
  room.addEventListener("click", click, { signal });
  room.addEventListener("dblclick", doubleClick, { signal });
  room.addEventListener("focusin", (event) => keyboard.rove(Math.max(scene.shapeAt(event.target), 0)), { signal });
  room.addEventListener(
    "keydown",
    (event) => {
      if (keyboard.press(event)) {
        event.preventDefault();
        event.stopPropagation();
      }
    },
    { signal },
  );
  const unfollow = followSelection(store, scene, viewport);
  const unleave = store.subscribe(["structure"], () => keyboard.leave());
  return () => {
    unleave();
    unfollow();
    clearTimeout(hovering);
    gestures.dispose();
    ends.abort();
  };
}

/** What is selected elsewhere comes into sight. */
function followSelection(store: Store, scene: Scene, viewport: Viewport): () => void {
  let { selected } = store.ui;
  return store.subscribe(["view"], () => {
    if (store.ui.selected !== selected) {
      selected = store.ui.selected;
      const shape = scene.shapeOf[selected] ?? -1;
      if (shape >= 0) {
        viewport.reveal(scene.box(shape));
      }
    }
  });
}
