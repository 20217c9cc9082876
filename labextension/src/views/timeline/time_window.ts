// Which part of the time is in view: all of it, or what the user chose, of one run.

import type { Store } from "../../store";
import { moved, type Span, zoomed } from "./scale";

interface Chosen {
  run: string | undefined;
  span: Span;
}

export class TimeWindow {
  private chosen: Chosen | null;

  /** `end`: when the last bar ends, as far as it is known. */
  constructor(
    private readonly store: Store,
    private readonly end: () => number,
  ) {
    this.chosen = (store.memory.get("span") as Chosen | null | undefined) ?? null;
  }

  get span(): Span {
    return this.part ?? this.bounds;
  }

  /** What the user chose; null: all is in view. */
  get part(): Span | null {
    return this.chosen?.run === this.store.live?.run?.id ? (this.chosen?.span ?? null) : null;
  }

  show(span: Span | null): void {
    const { from, to } = this.bounds;
    const isPart = span !== null && span.to - span.from < (to - from) * 0.999;
    this.chosen = isPart ? { run: this.store.live?.run?.id, span } : null;
    this.store.memory.set("span", this.chosen);
  }

  /** `factor` times as much about `at`, or about the middle. */
  zoom(factor: number, at?: number): void {
    const { span } = this;
    this.show(zoomed(span, at ?? (span.from + span.to) / 2, factor, this.bounds));
  }

  /** From where it was, by a part of its length. */
  move(from: Span, share: number): void {
    this.show(moved(from, share * (from.to - from.from), this.bounds));
  }

  /** Have `time` in view. */
  reveal(time: number): void {
    const { part } = this;
    if (part && (time < part.from || time > part.to)) {
      this.show(moved(part, time - (part.from + part.to) / 2, this.bounds));
    }
  }

  /** All of the time there is, with a little room. */
  private get bounds(): Span {
    const { store } = this;
    const run = store.live?.run;
    const expected = run && store.running && run.expected !== null ? run.expected - run.started : 0;
    const end = Math.max(this.end(), store.running ? store.now() : 0, expected);
    return { from: 0, to: (end || 1) * 1.02 };
  }
}
