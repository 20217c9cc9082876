// Asking the kernel, for components: what is under way, and whether it takes long.

import { useState } from "preact/hooks";

import type { Request } from "../protocol";
import type { Store } from "../store";

export const SLOW_MS = 1500;

export const BUSY =
  "The kernel is busy with a cell. This will reach it when the cell ends; interrupt the kernel to cancel now.";

export interface Asking {
  /** The request under way. */
  pending: Request | null;
  /** It has been under way for so long that the kernel must be busy. */
  slow: boolean;
  ask: (request: Request) => Promise<unknown>;
}

export function useAsking(store: Store): Asking {
  const [pending, setPending] = useState<Request | null>(null);
  const [slow, setSlow] = useState(false);
  const ask = async (request: Request): Promise<unknown> => {
    if (pending?.do === request.do) {
      return null; // pressed twice
    }
    store.update({ error: null });
    setPending(request);
    const timer = setTimeout(() => setSlow(true), SLOW_MS);
    const answer = await store.ask(request);
    clearTimeout(timer);
    setSlow(false);
    setPending((latest) => (latest === request ? null : latest));
    return answer;
  };
  return { pending, slow, ask };
}

const NO_KERNEL = "no kernel is there: this shows how it was";

/** Why the verb cannot be used now, or null. */
export function cannot(store: Store, verb: "cancel" | "failed" | "stale" | "rerun" | "export"): string | null {
  const { live } = store;
  if (!store.source.connected()) {
    return NO_KERNEL;
  }
  if (!live || (verb !== "stale" && verb !== "export" && !live.run)) {
    return "it was not run yet";
  }
  const reason = live.run?.cannot[verb] ?? null;
  if (verb === "cancel") {
    return reason ?? (store.running ? null : "the run is over");
  }
  if (verb === "stale" && live.stale.size === 0) {
    return reason ?? "no result is out of date";
  }
  return reason;
}

/** Why the function `at` cannot be cancelled now, or null. */
export function cannotCancel(store: Store, at: number): string | null {
  const lack = store.status(at) === "r" ? store.live?.run?.cannot.interrupt : null;
  return cannot(store, "cancel") ?? lack ?? null;
}

/** Hand the browser a file. */
export function save(name: string, mime: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: mime }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
