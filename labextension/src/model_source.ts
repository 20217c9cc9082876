// What a view shows, from a widget's model: traits hold structure and state, messages say what changed.

import type { AnyModel } from "@anywidget/types";

import { openKernel, sendOverKernel } from "./kernel_link";
import type { Answers, Patch, ReplyMessage, Request, RequestMessage, State, Structure } from "./protocol";
import type { News, Source } from "./source";

export interface Traits {
  key: string;
  structure: Structure | null;
  state: State | null;
  layout: unknown;
}

export type Model = AnyModel<Traits>;

/** What of JupyterLab's kernel connection tells that it is over; its manager of widgets does not say so. */
interface Connection {
  isDisposed: boolean;
  disposed: { connect(slot: () => void): unknown; disconnect(slot: () => void): unknown };
}

interface Waiting {
  resolve: (value: unknown) => void;
  reject: (error: Error) => void;
}

export class ModelSource implements Source {
  private readonly listeners = new Set<(news: News) => void>();
  private readonly waiting = new Map<number, Waiting>();
  private readonly ends: (() => void)[] = [];
  private readonly kernel: Connection | null;

  constructor(private readonly model: Model) {
    this.kernel = connectionOf(model);
    const over = () => this.hearConnection();
    this.kernel?.disposed.connect(over);
    this.ends.push(() => this.kernel?.disposed.disconnect(over));
    this.follow("change:structure", () => this.tell({ type: "structure", structure: this.structure() }));
    this.follow("change:state", () => this.tell({ type: "state", state: this.state() }));
    this.follow("comm_live_update", () => this.hearConnection());
    this.follow("msg:custom", (message) => this.hear(message as Patch | ReplyMessage));
  }

  dispose(): void {
    this.ends.forEach((end) => end());
    this.giveUp("The view was closed.");
  }

  structure(): Structure | null {
    return this.model.get("structure") ?? null;
  }

  state(): State | null {
    return this.model.get("state") ?? null;
  }

  listen(listener: (news: News) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** The widget's layout is a model of the same kernel; it can be asked, which anywidget's model cannot. */
  connected(): boolean {
    const layout = this.model.get("layout") as { comm_live?: boolean } | null | undefined;
    return layout?.comm_live !== false && this.kernel?.isDisposed !== true;
  }

  request<R extends Request>(request: R): Promise<Answers[R["do"]]> {
    if (!this.connected()) {
      return Promise.reject(new Error("No kernel is there to answer: this shows how it was."));
    }
    const message: RequestMessage = { type: "request", id: nextId(), request };
    return new Promise((resolve, reject) => {
      this.waiting.set(message.id, { resolve: resolve as (value: unknown) => void, reject });
      void this.send(message);
    });
  }

  private async send(message: RequestMessage): Promise<void> {
    const kernel = openKernel(this.kernel);
    try {
      if (kernel) {
        await sendOverKernel(kernel, this.model.get("key"), message);
        return;
      }
    } catch (error) {
      console.warn("handoff_lab: the kernel made no sub-shell, so a running cell is waited for.", error);
    }
    if (this.waiting.has(message.id)) {
      this.model.send(message);
    }
  }

  private hear(message: Patch | ReplyMessage): void {
    if (message.type === "patch") {
      this.tell(message);
      return;
    }
    const waiting = message.type === "reply" ? this.waiting.get(message.id) : undefined;
    if (waiting) {
      this.waiting.delete(message.id);
      if (message.error === undefined) {
        waiting.resolve(message.value);
      } else {
        waiting.reject(new Error(message.error));
      }
    }
  }

  private hearConnection(): void {
    if (!this.connected()) {
      this.giveUp("The kernel went before it answered.");
    }
    this.tell({ type: "connection" });
  }

  private giveUp(reason: string): void {
    for (const { reject } of this.waiting.values()) {
      reject(new Error(reason));
    }
    this.waiting.clear();
  }

  private tell(news: News): void {
    for (const listener of [...this.listeners]) {
      listener(news);
    }
  }

  private follow(event: string, callback: (content: unknown) => void): void {
    this.model.on(event, callback);
    this.ends.push(() => this.model.off(event as never, callback));
  }
}

function connectionOf(model: Model): Connection | null {
  const { kernel } = model.widget_manager as { kernel?: Partial<Connection> | null };
  return kernel?.disposed && kernel.isDisposed === false ? (kernel as Connection) : null;
}

// Replies go to every page that shows the model, so ids must differ between pages too.
let last = Math.floor(Math.random() * 2 ** 40) * 1000;

function nextId(): number {
  return ++last;
}
