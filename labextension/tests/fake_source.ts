// A source whose kernel is the test.

import type { Answers, PanelNews, Patch, Request, RunState, State, StatusLetter, Structure } from "../src/protocol";
import type { News, Source } from "../src/source";

type Published = Extract<PanelNews, { type: "structure" | "state" }>;

export class FakeSource implements Source {
  readonly asked: Request[] = [];
  online = true;
  answer: (request: Request) => Promise<unknown> = async () => null;
  private listeners = new Set<(news: News) => void>();

  constructor(
    private nowStructure: Structure | null,
    private nowState: State | null,
  ) {}

  structure(): Structure | null {
    return this.nowStructure;
  }

  state(): State | null {
    return this.nowState;
  }

  listen(listener: (news: News) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  request<R extends Request>(request: R): Promise<Answers[R["do"]]> {
    this.asked.push(request);
    return this.answer(request) as Promise<Answers[R["do"]]>;
  }

  connected(): boolean {
    return this.online;
  }

  /** The kernel says so. */
  say(news: News | Published): void {
    if ("structure" in news) {
      this.nowStructure = news.structure;
    } else if ("state" in news) {
      this.nowState = news.state;
    }
    this.listeners.forEach((listener) => listener(news));
  }
}

const RUN: RunState = {
  id: "r",
  status: "running",
  strategy: null,
  started: 990,
  ended: null,
  expected: null,
  error: null,
  cannot: {},
};

export function structureOf(ids: string[], edges: number[] = [], key = "k"): Structure {
  const group = ids.map(() => -1);
  return { key, name: "fake", ids, types: "r".repeat(ids.length), groups: [], group, edges, layout: null };
}

export function stateOf(status: string, changes: Partial<State> = {}): State {
  const fill = <Value>(value: Value): Value[] => Array.from(status, () => value);
  return {
    seq: 0,
    key: "k",
    now: 1000,
    run: { ...RUN },
    nodes: [],
    status,
    node: fill(-1),
    slot: fill(-1),
    attempts: fill(0),
    queued: fill(null),
    started: fill(null),
    ended: fill(null),
    peak: fill(null),
    transfer: fill(null),
    errors: {},
    stale: [],
    earlier: [],
    transfers: [],
    plan: null,
    ...changes,
  };
}

/** A patch in which functions got these statuses. */
export function patchOf(seq: number, statuses: Record<number, StatusLetter>, changes: Partial<Patch> = {}): Patch {
  const at = Object.keys(statuses).map(Number);
  const fill = <Value>(value: Value): Value[] => at.map(() => value);
  const functions = {
    at,
    status: Object.values(statuses).join(""),
    node: fill(0),
    slot: fill(0),
    attempts: fill(1),
    queued: fill(1),
    started: fill(2),
    ended: fill(null),
    peak: fill(null),
    transfer: fill(null),
  };
  return { type: "patch", seq, key: "k", now: 1000, ...(at.length > 0 ? { functions } : {}), ...changes };
}
