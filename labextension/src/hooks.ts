// The store in components.

import { useEffect, useReducer } from "preact/hooks";

import type { Store, Topic } from "./store";

/** Render again when one of `topics` changes, at most once per frame. */
export function useStore(store: Store, ...topics: Topic[]): void {
  const [, render] = useReducer<number, void>((count) => count + 1, 0);
  const seen = store.version;
  useEffect(() => {
    let frame = 0;
    const end = store.subscribe(topics, () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        render();
      });
    });
    if (store.version !== seen) {
      render();
    }
    return () => {
      end();
      cancelAnimationFrame(frame);
    };
  }, [store, topics.join()]);
}
