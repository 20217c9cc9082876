// What part of a scrolling box is in view.

import type { RefObject } from "preact";
import { useEffect, useState } from "preact/hooks";

export interface Viewport {
  top: number;
  width: number;
  height: number;
}

export function useViewport(box: RefObject<HTMLElement | null>): Viewport {
  const [view, setView] = useState<Viewport>({ top: 0, width: 0, height: 0 });
  useEffect(() => {
    const el = box.current!;
    let frame = 0;
    const look = () => {
      frame = 0;
      if (el.clientHeight === 0) {
        return; // hidden for a moment, as while the theme changes: its end may not be told
      }
      const now = { top: el.scrollTop, width: el.clientWidth, height: el.clientHeight };
      setView((old) => (old.top === now.top && old.width === now.width && old.height === now.height ? old : now));
    };
    const later = () => {
      frame ||= requestAnimationFrame(look);
    };
    const observer = new ResizeObserver(later);
    observer.observe(el);
    el.addEventListener("scroll", later, { passive: true });
    look();
    return () => {
      observer.disconnect();
      el.removeEventListener("scroll", later);
      cancelAnimationFrame(frame);
    };
  }, []);
  return view;
}
