// When each function ran and where: a lane per node and slot.

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import type { Store } from "../store";
import { plural } from "./format";
import type { Bar } from "./timeline/lanes";
import { AXIS, LANE } from "./timeline/picture";
import { Timeline } from "./timeline/Timeline";

export function TimelineView({ store }: { store: Store }): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [lanes, setLanes] = useState(0);
  const [bars, setBars] = useState(0);
  const [hint, setHint] = useState<{ text: string; x: number; y: number } | null>(null);
  const [told, setTold] = useState("");

  useEffect(() => {
    const timeline = new Timeline(store, box.current!, canvas.current!, {
      onLanes: (lanes, bars) => {
        setLanes(lanes);
        setBars(bars);
      },
      onPoint: (text, x, y) => setHint(text ? { text, x, y } : null),
      onFocus: setTold,
      onOpen: (bar: Bar) => store.open(bar.at),
    });
    return () => timeline.dispose();
  }, [store]);

  return (
    <div
      class="hl-timeline"
      data-bars={bars}
      data-lanes={lanes}
      style={{ "--hl-lanes": `${AXIS + Math.max(1, lanes) * LANE + 4}px` }}
    >
      <div
        class="hl-timeline-box"
        ref={box}
        tabIndex={0}
        role="application"
        aria-roledescription="timeline"
        aria-label={
          `Timeline, ${plural(lanes, "lane")}. Arrows go from bar to bar, Enter shows details, ` +
          "plus and minus zoom, 0 shows all. The table tells the same."
        }
      >
        <canvas ref={canvas} />
        <div class="hl-timeline-length" />
      </div>
      {lanes === 0 && <p class="hl-timeline-empty">Bars appear when functions start.</p>}
      {hint && (
        <div class="hl-hint" style={{ left: `${hint.x}px`, top: `${hint.y}px` }} aria-hidden="true">
          {hint.text}
        </div>
      )}
      <span class="hl-hidden" aria-live="polite">
        {told}
      </span>
    </div>
  );
}
