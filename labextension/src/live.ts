// A state that patches change in place. 50,000 functions are columns of plain arrays, not objects.

import type {
  AttemptRow,
  Columns,
  NodeState,
  Patch,
  PlanState,
  RunState,
  State,
  StatusLetter,
  TransferRow,
} from "./protocol";
import { noCounts, type Counts } from "./status";

/** What a patch changed. */
export interface Change {
  /** Functions whose columns, error or stale mark changed. */
  functions: number[];
  nodes: boolean;
  run: boolean;
}

type Times = (number | null)[];

export class Live {
  seq: number;
  /** Epoch: the kernel's clock when it was so. */
  now: number;
  readonly key: string;
  run: RunState | null;
  readonly nodes: NodeState[];
  readonly status: StatusLetter[];
  readonly node: number[];
  readonly slot: number[];
  readonly attempts: number[];
  readonly queued: Times;
  readonly started: Times;
  readonly ended: Times;
  readonly peak: Times;
  readonly transfer: Times;
  readonly errors: Map<number, string>;
  stale: Set<number>;
  readonly earlier: AttemptRow[];
  readonly transfers: TransferRow[];
  plan: PlanState | null;
  /** How many functions have each status; values and inline functions have none of their own. */
  readonly counts: Counts = noCounts();

  /** `types` as in a structure. */
  constructor(state: State, types: string) {
    this.seq = state.seq;
    this.now = state.now;
    this.key = state.key;
    this.run = state.run;
    this.nodes = state.nodes.slice();
    this.status = state.status.split("") as StatusLetter[];
    this.node = state.node.slice();
    this.slot = state.slot.slice();
    this.attempts = state.attempts.slice();
    this.queued = state.queued.slice();
    this.started = state.started.slice();
    this.ended = state.ended.slice();
    this.peak = state.peak.slice();
    this.transfer = state.transfer.slice();
    this.errors = new Map(Object.entries(state.errors).map(([at, text]) => [Number(at), text]));
    this.stale = new Set(state.stale);
    this.earlier = state.earlier.slice();
    this.transfers = state.transfers.slice();
    this.plan = state.plan;
    this.status.forEach((letter, at) => {
      if (types[at] === "r") {
        this.counts[letter]++;
      }
    });
  }

  /** Take in the patch that follows. */
  apply(patch: Patch): Change {
    this.seq = patch.seq;
    this.now = Math.max(this.now, patch.now);
    const functions = new Set<number>(patch.functions?.at);
    if (patch.functions) {
      this.applyColumns(patch.functions);
    }
    if (patch.run && this.run) {
      this.run = { ...this.run, ...patch.run };
    }
    for (const [at, text] of Object.entries(patch.errors ?? {})) {
      this.applyError(Number(at), text);
      functions.add(Number(at));
    }
    if (patch.stale) {
      for (const at of this.applyStale(patch.stale)) {
        functions.add(at);
      }
    }
    for (const node of patch.nodes ?? []) {
      this.applyNode(node);
    }
    push(this.earlier, patch.earlier);
    push(this.transfers, patch.transfers);
    this.plan = patch.plan ?? this.plan;
    return {
      functions: [...functions],
      nodes: patch.nodes !== undefined,
      run: patch.run !== undefined || patch.plan !== undefined,
    };
  }

  private applyColumns(columns: Columns): void {
    columns.at.forEach((at, row) => {
      this.counts[this.status[at]!]--;
      this.status[at] = columns.status[row] as StatusLetter;
      this.counts[this.status[at]!]++;
      this.node[at] = columns.node[row]!;
      this.slot[at] = columns.slot[row]!;
      this.attempts[at] = columns.attempts[row]!;
      this.queued[at] = columns.queued[row]!;
      this.started[at] = columns.started[row]!;
      this.ended[at] = columns.ended[row]!;
      this.peak[at] = columns.peak[row]!;
      this.transfer[at] = columns.transfer[row]!;
    });
  }

  private applyError(at: number, text: string | null): void {
    if (text === null) {
      this.errors.delete(at);
    } else {
      this.errors.set(at, text);
    }
  }

  /** Returns those whose mark came or went. */
  private applyStale(stale: number[]): number[] {
    const before = this.stale;
    this.stale = new Set(stale);
    return [...stale.filter((at) => !before.has(at)), ...[...before].filter((at) => !this.stale.has(at))];
  }

  private applyNode(node: NodeState): void {
    const known = this.nodes.findIndex((other) => other.name === node.name);
    this.nodes[known < 0 ? this.nodes.length : known] = node;
  }
}

function push<Row>(rows: Row[], more: Row[] | undefined): void {
  for (const row of more ?? []) {
    rows.push(row);
  }
}
