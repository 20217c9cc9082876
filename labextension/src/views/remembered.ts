// How the user likes it: kept with the model, and in the browser for the next one.

import { useState } from "preact/hooks";

import type { Store } from "../store";

export function useRemembered<T extends string | boolean>(
  store: Store,
  name: string,
  initial: T,
): [T, (to: T) => void] {
  const [value, setValue] = useState<T>(() => (store.memory.get(name) as T | undefined) ?? stored(name) ?? initial);
  const change = (to: T) => {
    store.memory.set(name, to);
    setValue(to);
    try {
      localStorage.setItem(`handoff-lab:${name}`, JSON.stringify(to));
    } catch {
      // Front ends in a sandbox have no storage: then it is kept with the model only.
    }
  };
  return [value, change];
}

function stored<T>(name: string): T | undefined {
  try {
    return (JSON.parse(localStorage.getItem(`handoff-lab:${name}`) ?? "null") as T | null) ?? undefined;
  } catch {
    return undefined;
  }
}
