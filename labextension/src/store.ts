// What all views of a model share: its structure and live state, the clock, and what the user points at.

import { Adjacency } from "./adjacency";
import { Backlog } from "./backlog";
import { KernelClock } from "./clock";
import { type Listener, Listeners, type Topic } from "./listeners";
import { Live } from "./live";
import type { Answers, NodeState, Patch, Request, State, StatusLetter, Structure } from "./protocol";
import type { News, Source } from "./source";
import { carriedOver, find, QUIET_UI, type UserInterface } from "./ui";

const ALL: readonly Topic[] = ["structure", "functions", "nodes", "run", "connection", "clock", "view"];
const TICK_MS = 250;

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

  private readonly listeners = new Listeners();
  private readonly unlisten: () => void;
  private readonly backlog: Backlog;
  private ticking: ReturnType<typeof setInterval> | null = null;
  private readonly clock: KernelClock;
  private edges: Adjacency | null = null;
  private depth: Int32Array | null = null;

  constructor(
    readonly source: Source,
    browserNow: () => number = () => Date.now() / 1000,
  ) {
    this.clock = new KernelClock(browserNow);
    this.backlog = new Backlog(
      () => source.request({ do: "state" }),
      () => this.skipGap(),
    );
    this.show(source.structure(), source.state());
    this.unlisten = source.listen((news) => this.hear(news));
  }

  /** Be told of changes; returns what ends it. */
  subscribe(topics: readonly Topic[], listener: Listener): () => void {
    this.listeners.add(topics, listener);
    this.tickIfNeeded();
    return () => {
      this.listeners.remove(topics, listener);
      this.tickIfNeeded();
    };
  }

  dispose(): void {
    this.unlisten();
    this.backlog.dispose();
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
      this.matches = find(this.structure, ui.search);
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

  // -- what the kernel says ---------------------------------------------------------

  private hear(news: News): void {
    if (news.type === "patch") {
      this.patch(news);
    } else if (news.type === "connection") {
      this.emit("connection");
    } else {
      this.settle();
    }
    this.tickIfNeeded();
  }

  /** Structure and state come one after the other: until both fit, what was there before is shown. */
  private settle(): void {
    const [structure, state] = [this.source.structure(), this.source.state()];
    if (!structure || !state || structure.key === state.key) {
      this.show(structure, state);
      ALL.forEach((topic) => this.emit(topic));
    }
  }

  private show(structure: Structure | null, state: State | null): void {
    const before = { structure: this.structure, live: this.live };
    if (structure?.key !== before.structure?.key) {
      this.structure = structure;
      this.edges = this.depth = null;
      this.matches = find(structure, this.ui.search);
    }
    this.live = structure && state?.key === structure.key ? new Live(state, structure.types) : null;
    this.ui = carriedOver(this.ui, before, this);
    if (this.live) {
      this.clock.hear(this.live.now);
      this.takeUp(this.live);
    }
  }

  /** Patches that waited for the state `live`; what was said before it, it has already. */
  private takeUp(live: Live): void {
    for (const patch of this.backlog.take()) {
      if (patch.key === live.key && patch.now >= live.now) {
        this.patch(patch);
      }
    }
  }

  private patch(patch: Patch): void {
    this.clock.hear(patch.now);
    const { live } = this;
    if (live?.key === patch.key && patch.seq <= live.seq && patch.now <= live.now) {
      return; // it is in the state
    }
    // A number that is too small, but later: of another run, whose state is on its way.
    if (live?.key !== patch.key || patch.seq !== live.seq + 1) {
      this.backlog.add(patch);
      return;
    }
    const change = live.apply(patch);
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

  /** The whole state cannot be had now: what is known of it is better than nothing. */
  private skipGap(): void {
    for (const patch of this.backlog.take()) {
      if (this.live && patch.key === this.live.key) {
        this.live.seq = Math.max(this.live.seq, patch.seq - 1);
        this.patch(patch);
      }
    }
    this.tickIfNeeded();
  }

  // -- telling ----------------------------------------------------------------------

  private emit(topic: Topic, changed: number[] | null = null): void {
    this.version++;
    this.listeners.tell(topic, changed);
  }

  private tickIfNeeded(): void {
    const needed = this.running && this.source.connected() && this.listeners.has("clock");
    if (needed && this.ticking === null) {
      this.ticking = setInterval(() => this.emit("clock"), TICK_MS);
    } else if (!needed && this.ticking !== null) {
      clearInterval(this.ticking);
      this.ticking = null;
    }
  }
}
