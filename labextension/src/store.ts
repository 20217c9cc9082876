// What all views of a model share: its structure and live state, the clock, and what the user points at.

import { Adjacency } from "./adjacency";
import { KernelClock } from "./clock";
import { Live } from "./live";
import type { Answers, NodeState, Patch, Request, State, StatusLetter, Structure } from "./protocol";
import type { News, Source } from "./source";

/**
 * structure: another graph (all else is new too). functions: columns, errors or stale marks of some. nodes, run: as in
 * the state; a plan counts as run. connection: the kernel came or went. clock: time passed, a few times a second while
 * a run goes on. view: what the user looks at (`store.ui`). open: details are to be shown and take the focus.
 */
export type Topic = "structure" | "functions" | "nodes" | "run" | "connection" | "clock" | "view" | "open";

/** For "functions": those that changed, null for all. Otherwise null. */
export type Listener = (changed: number[] | null) => void;

/** Functions and nodes go by index; -1 is none. */
export interface UserInterface {
  /** Its details are shown. */
  selected: number;
  search: string;
  highlightedNode: number;
  statusFilter: StatusLetter | null;
  /** Only these: what a fold or a level stands for. */
  members: Members | null;
  /** What went wrong with the last request. */
  error: string | null;
}

export interface Members {
  title: string;
  functions: Set<number>;
}

const QUIET_UI: UserInterface = {
  selected: -1,
  search: "",
  highlightedNode: -1,
  statusFilter: null,
  members: null,
  error: null,
};

const ALL: readonly Topic[] = ["structure", "functions", "nodes", "run", "connection", "clock", "view"];
const TICK_MS = 250;
const RETRY_MS = 2000;
const MOST_PENDING = 200;

export class Store {
  structure: Structure | null = null;
  live: Live | null = null;
  ui: Readonly<UserInterface> = QUIET_UI;
  /** Goes up with every change of anything. */
  version = 0;
  /** Functions that the search finds; null: there is no search. */
  matches: Set<number> | null = null;
  /** Views keep here what a second view of the model should start with, such as the zoom. */
  readonly memory = new Map<string, unknown>();

  private readonly listeners = new Map<Topic, Set<Listener>>();
  private readonly unlisten: () => void;
  private latest: State | null = null;
  private pending: Patch[] = [];
  private asked = -Infinity;
  private ticking: ReturnType<typeof setInterval> | null = null;
  private readonly clock: KernelClock;
  private edges: Adjacency | null = null;
  private depth: Int32Array | null = null;

  constructor(
    readonly source: Source,
    browserNow: () => number = () => Date.now() / 1000,
  ) {
    this.clock = new KernelClock(browserNow);
    this.structure = source.structure();
    this.take(source.state());
    this.unlisten = source.listen((news) => this.hear(news));
  }

  /** Be told of changes; returns what ends it. */
  subscribe(topics: readonly Topic[], listener: Listener): () => void {
    for (const topic of topics) {
      const listeners = this.listeners.get(topic) ?? new Set();
      this.listeners.set(topic, listeners.add(listener));
    }
    this.tickIfNeeded();
    return () => {
      for (const topic of topics) {
        this.listeners.get(topic)?.delete(listener);
      }
      this.tickIfNeeded();
    };
  }

  dispose(): void {
    this.unlisten();
    this.listeners.clear();
    this.tickIfNeeded();
  }

  // -- what is known ------------------------------------------------------------

  get size(): number {
    return this.structure?.ids.length ?? 0;
  }

  get running(): boolean {
    return this.live?.run?.status === "running";
  }

  /** Seconds since the run started; stands still when it is over or no kernel is there. */
  now(): number {
    const run = this.live?.run;
    if (!run) {
      return 0;
    }
    if (run.ended !== null) {
      return run.ended - run.started;
    }
    return Math.max(0, (this.source.connected() ? this.clock.now() : this.clock.heard) - run.started);
  }

  status(at: number): StatusLetter {
    return this.live?.status[at] ?? "w";
  }

  nodeOf(at: number): NodeState | null {
    return this.live?.nodes[this.live.node[at] ?? -1] ?? null;
  }

  /** Seconds that it ran, or runs so far; null: it did not start. */
  duration(at: number): number | null {
    const started = this.live?.started[at] ?? null;
    return started === null ? null : Math.max(0, (this.live?.ended[at] ?? this.now()) - started);
  }

  /** Whether search, status filter and members let `at` through. */
  passes(at: number): boolean {
    const { statusFilter, members } = this.ui;
    return (
      (this.matches === null || this.matches.has(at)) &&
      (statusFilter === null || this.status(at) === statusFilter) &&
      (members === null || members.functions.has(at))
    );
  }

  /** Built when first asked for. */
  get adjacency(): Adjacency {
    this.edges ??= new Adjacency(this.size, this.structure?.edges ?? []);
    return this.edges;
  }

  /** Per function: how many come before it along the longest way. */
  get levels(): Int32Array {
    this.depth ??= this.adjacency.levels();
    return this.depth;
  }

  // -- what the user does ---------------------------------------------------------

  update(changes: Partial<UserInterface>): void {
    const ui = { ...this.ui, ...changes };
    if (ui.search !== this.ui.search) {
      this.matches = this.find(ui.search);
    }
    this.ui = ui;
    this.emit("view");
  }

  /** Select `at` and show its details, which take the focus. */
  open(at: number): void {
    this.update({ selected: at });
    this.emit("open");
  }

  /** Ask the kernel; what goes wrong becomes `ui.error`, and null comes back. */
  async ask<R extends Request>(request: R): Promise<Answers[R["do"]] | null> {
    try {
      return await this.source.request(request);
    } catch (error) {
      this.update({ error: error instanceof Error ? error.message : String(error) });
      return null;
    }
  }

  private find(search: string): Set<number> | null {
    const wanted = search.trim().toLowerCase();
    if (!wanted) {
      return null;
    }
    const found = new Set<number>();
    this.structure?.ids.forEach((id, at) => id.toLowerCase().includes(wanted) && found.add(at));
    return found;
  }

  // -- what the kernel says ---------------------------------------------------------

  private hear(news: News): void {
    if (news.type === "patch") {
      this.patch(news);
    } else if (news.type === "connection") {
      this.emit("connection");
    } else if (news.type === "state") {
      this.take(news.state);
      this.emitAll();
    } else {
      const before = this.structure;
      this.structure = news.structure;
      this.restart(before);
      this.take(this.latest);
      this.emitAll();
    }
    this.tickIfNeeded();
  }

  /** Another graph: indices mean something else now. */
  private restart(before: Structure | null): void {
    this.edges = this.depth = null;
    const id = before?.ids[this.ui.selected];
    const selected = id === undefined ? -1 : (this.structure?.ids.indexOf(id) ?? -1);
    this.ui = { ...this.ui, selected, members: null };
    this.matches = this.find(this.ui.search);
  }

  private take(state: State | null): void {
    this.latest = state;
    this.live = null;
    if (!state || state.key !== this.structure?.key) {
      return;
    }
    this.live = new Live(state, this.structure.types);
    this.clock.hear(state.now);
    this.takePending();
  }

  private takePending(before?: (live: Live, patch: Patch) => void): void {
    const pending = this.pending;
    this.pending = [];
    for (const patch of pending) {
      if (this.live && patch.key === this.live.key) {
        before?.(this.live, patch);
        this.patch(patch);
      }
    }
  }

  private patch(patch: Patch): void {
    this.clock.hear(patch.now);
    if (this.live && patch.key === this.live.key && patch.seq <= this.live.seq) {
      return;
    }
    if (!this.live || patch.key !== this.live.key || patch.seq !== this.live.seq + 1) {
      this.resynchronise(patch);
      return;
    }
    const change = this.live.apply(patch);
    if (change.functions.length > 0) {
      this.emit("functions", change.functions);
    }
    if (change.nodes) {
      this.emit("nodes");
    }
    if (change.run) {
      this.emit("run");
    }
  }

  /** Something was missed: keep the patch until the whole state has come. */
  private resynchronise(patch: Patch): void {
    if (this.pending.push(patch) > MOST_PENDING) {
      this.pending.shift();
    }
    const now = performance.now();
    if (now - this.asked > RETRY_MS) {
      this.asked = now;
      this.source.request({ do: "state" }).catch(() => this.skipGap());
    }
  }

  /** The whole state cannot be had now: what is known of it is better than nothing. */
  private skipGap(): void {
    this.takePending((live, patch) => (live.seq = Math.max(live.seq, patch.seq - 1)));
  }

  // -- telling ----------------------------------------------------------------------

  private emit(topic: Topic, changed: number[] | null = null): void {
    this.version++;
    for (const listener of [...(this.listeners.get(topic) ?? [])]) {
      listener(changed);
    }
  }

  private emitAll(): void {
    ALL.forEach((topic) => this.emit(topic));
  }

  private tickIfNeeded(): void {
    const needed = this.running && this.source.connected() && (this.listeners.get("clock")?.size ?? 0) > 0;
    if (needed && this.ticking === null) {
      this.ticking = setInterval(() => this.emit("clock"), TICK_MS);
    } else if (!needed && this.ticking !== null) {
      clearInterval(this.ticking);
      this.ticking = null;
    }
  }
}
