// Who is told of what.

/**
 * structure: another graph (all else is new too). functions: columns, errors or stale marks of some. nodes, run: as in
 * the state; a plan counts as run. connection: the kernel came or went. clock: time passed, a few times a second while
 * a run goes on. view: what the user looks at (`store.ui`). open: details are to be shown and take the focus.
 */
export type Topic = "structure" | "functions" | "nodes" | "run" | "connection" | "clock" | "view" | "open";

/** For "functions": those that changed, null for all. Otherwise null. */
export type Listener = (changed: number[] | null) => void;

export class Listeners {
  private readonly byTopic = new Map<Topic, Set<Listener>>();

  add(topics: readonly Topic[], listener: Listener): void {
    for (const topic of topics) {
      this.byTopic.set(topic, (this.byTopic.get(topic) ?? new Set()).add(listener));
    }
  }

  remove(topics: readonly Topic[], listener: Listener): void {
    for (const topic of topics) {
      this.byTopic.get(topic)?.delete(listener);
    }
  }

  clear(): void {
    this.byTopic.clear();
  }

  has(topic: Topic): boolean {
    return (this.byTopic.get(topic)?.size ?? 0) > 0;
  }

  tell(topic: Topic, changed: number[] | null): void {
    for (const listener of [...(this.byTopic.get(topic) ?? [])]) {
      listener(changed);
    }
  }
}
