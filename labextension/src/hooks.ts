// The store in components.

import { useEffect, useReducer, useRef, useState } from "preact/hooks";

import type { Topic } from "./listeners";
import type { Store } from "./store";

const MANY = 5000;
const MANY_MS = 500;
const FEW_MS = 60;

/** Render again when one of `topics` changes, at most once per frame. */
export function useStore(store: Store, ...topics: Topic[]): void {
  useStoreValue(store, () => ({}), ...topics);
}

/** Of the store; renders again when it is another after one of `topics` changed, at most once per frame. */
export function useStoreValue<Value>(store: Store, read: () => Value, ...topics: Topic[]): Value {
  const [, render] = useReducer<number, void>((count) => count + 1, 0);
  const seen = store.version;
  const value = read();
  const latest = useRef({ read, value });
  latest.current = { read, value };
  useEffect(() => {
    let frame = 0;
    const look = () => {
      frame = 0;
      if (latest.current.read() !== latest.current.value) {
        render();
      }
    };
    const end = store.subscribe(topics, () => {
      frame ||= requestAnimationFrame(look);
    });
    if (store.version !== seen) {
      look();
    }
    return () => {
      end();
      cancelAnimationFrame(frame);
    };
  }, [store, topics.join()]);
  return value;
}

/** A page has many views, each with its own copy of this module: ids in it need names that are nobody else's. */
export function useUniqueName(): string {
  return useState(() => `hl-${Math.random().toString(36).slice(2)}`)[0];
}

/** Counts changes of functions; of many functions at most twice a second, for going through them takes time. */
export function useChanges(store: Store): number {
  const [count, setCount] = useState(0);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const end = store.subscribe(["functions", "structure"], () => {
      timer ??= setTimeout(
        () => {
          timer = undefined;
          setCount((before) => before + 1);
        },
        store.size > MANY ? MANY_MS : FEW_MS,
      );
    });
    return () => {
      end();
      clearTimeout(timer);
    };
  }, [store]);
  return count;
}
