// Buttons beside the graph.

import type { RefObject } from "preact";

import type { Store } from "../store";
import type { Viewport } from "./viewport";

const ZOOM = 1.4;

export function Toolbar({ store, viewport }: { store: Store; viewport: RefObject<Viewport | null> }) {
  const groups = store.structure?.groups ?? [];
  const folded = store.structure?.layout?.folded ?? [];
  return (
    <div class="hl-graph-tools" role="group" aria-label="Picture">
      <Tool
        action="zoom-in"
        title="Zoom in (+, or Ctrl and the wheel)"
        icon="M8 3.5v9M3.5 8h9"
        press={() => viewport.current?.zoomGently(ZOOM)}
      />
      <Tool
        action="zoom-out"
        title="Zoom out (-, or Ctrl and the wheel)"
        icon="M3.5 8h9"
        press={() => viewport.current?.zoomGently(1 / ZOOM)}
      />
      <Tool
        action="fit"
        title="Show all (0)"
        icon="M3 6V3h3M10 3h3v3M13 10v3h-3M6 13H3v-3"
        press={() => viewport.current?.fit()}
      />
      {folded.length < groups.length && (
        <Tool
          action="fold-all"
          title="Fold all groups"
          icon="M4.5 2.5L8 6l3.5-3.5M4.5 13.5L8 10l3.5 3.5M3 8h10"
          press={() => void store.ask({ do: "fold", groups: groups.map((_, group) => group) })}
        />
      )}
    </div>
  );
}

function Tool({ action, title, icon, press }: { action: string; title: string; icon: string; press: () => void }) {
  return (
    <button type="button" class="hl-tool" data-action={action} title={title} aria-label={title} onClick={press}>
      <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
        <path d={icon} />
      </svg>
    </button>
  );
}
