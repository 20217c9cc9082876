// What a view shows, from a widget's model: traits hold structure and state, messages say what changed.

import type { AnyModel } from "@anywidget/types";

import { openKernel, sendOverKernel } from "./kernel_link";
import type { Answers, Patch, ReplyMessage, Request, RequestMessage, State, Structure } from "./protocol";
import { Replies } from "./replies";
import type { News, Source } from "./source";

export interface Traits {
  key: string;
  structure: Structure | null;
  state: State | null;
  layout: unknown;
}

export type Model = AnyModel<Traits>;

interface Signal<Argument> {
  connect(slot: (sender: unknown, argument: Argument) => void): unknown;
  disconnect(slot: (sender: unknown, argument: Argument) => void): unknown;
}

/** What of JupyterLab's kernel connection tells that it is over or interrupted; its manager of widgets does not. */
interface Connection {
  isDisposed: boolean;
  disposed: Signal<void>;
  connectionStatus?: string;
  connectionStatusChanged?: Signal<string>;
}

export class ModelSource implements Source {
  private readonly listeners = new Set<(news: News) => void>();
  private readonly replies = new Replies();
  private readonly ends: (() => void)[] = [];
  private readonly kernel: Connection | null;

  constructor(private readonly model: Model) {
    this.kernel = connectionOf(model);
    this.connect(this.kernel?.disposed, () => this.hearConnection());
    this.connect(this.kernel?.connectionStatusChanged, () => this.hearConnection());
    this.follow("change:structure", () => this.tell({ type: "structure" }));
    this.follow("change:state", () => this.tell({ type: "state" }));
    this.follow("comm_live_update", () => this.hearConnection());
    this.follow("msg:custom", (message) => this.hear(message as Patch | ReplyMessage));
  }

  dispose(): void {
    this.ends.forEach((end) => end());
    this.replies.giveUp("The view was closed.");
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

  connected(): boolean {
    return !this.isGone && (this.kernel?.connectionStatus ?? "connected") === "connected";
  }

  request<R extends Request>(request: R): Promise<Answers[R["do"]]> {
    if (!this.connected()) {
      return Promise.reject(new Error("No kernel is there to answer: this shows how it was."));
    }
    return this.replies.await(request, this.state(), (message) => void this.send(message));
  }

  /** The widget's layout is a model of the same kernel; it can be asked, which anywidget's model cannot. */
  private get isGone(): boolean {
    const layout = this.model.get("layout") as { comm_live?: boolean } | null | undefined;
    return layout?.comm_live === false || this.kernel?.isDisposed === true;
  }

  private async send(message: RequestMessage): Promise<void> {
    const kernel = openKernel(this.kernel);
    try {
      if (kernel) {
        await sendOverKernel(kernel, this.model.get("key"), message);
        return;
      }
    } catch (error) {
      console.warn("handoff_lab: a running cell is waited for, as the kernel did not answer beside it.", error);
    }
    if (this.replies.has(message.id)) {
      this.model.send(message);
    }
  }

  private hear(message: Patch | ReplyMessage): void {
    if (message.type === "patch") {
      this.tell(message);
    } else if (message.type === "reply") {
      this.replies.settle(message);
    }
  }

  private hearConnection(): void {
    if (this.isGone) {
      this.replies.giveUp("The kernel went before it answered.");
    } else if (this.connected()) {
      this.request({ do: "state" }).catch(() => undefined); // what was said meanwhile may have been missed
    }
    this.tell({ type: "connection" });
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

  private connect<Argument>(signal: Signal<Argument> | undefined, slot: () => void): void {
    signal?.connect(slot);
    this.ends.push(() => signal?.disconnect(slot));
  }
}

function connectionOf(model: Model): Connection | null {
  const { kernel } = model.widget_manager as { kernel?: Partial<Connection> | null };
  return kernel?.disposed && kernel.isDisposed === false ? (kernel as Connection) : null;
}
