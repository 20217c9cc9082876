// The panel's side of one kernel: finds the comm that handoff_lab opens there, and is a Source of the run it follows.

import type { Kernel, KernelMessage } from "@jupyterlab/services";
import type { JSONObject } from "@lumino/coreutils";
import type { IDisposable } from "@lumino/disposable";
import { Signal } from "@lumino/signaling";

import { openKernel, sendOverKernel } from "../kernel_link";
import type { Answers, Overview, PanelMessage, PanelNews, Request, State, Structure } from "../protocol";
import { Replies } from "../replies";
import type { News, Source } from "../source";
import { Store } from "../store";

const TARGET = "handoff_lab.panel";

export class KernelPanel implements Source, IDisposable {
  /** null: the kernel has not said anything. */
  overview: Overview | null = null;
  readonly store: Store;
  /** The overview is another, or the kernel came or went. */
  readonly changed = new Signal<this, void>(this);
  isDisposed = false;

  private comm: Kernel.IComm | null = null;
  private readonly latest: { structure: Structure | null; state: State | null } = { structure: null, state: null };
  private readonly listeners = new Set<(news: News) => void>();
  private readonly replies = new Replies();

  constructor(readonly kernel: Kernel.IKernelConnection) {
    this.store = new Store(this);
    kernel.registerCommTarget(TARGET, this.adopt);
    kernel.statusChanged.connect(this.onStatus, this);
    kernel.connectionStatusChanged.connect(this.onConnection, this);
    this.findComm();
  }

  dispose(): void {
    if (this.isDisposed) {
      return;
    }
    this.isDisposed = true;
    if (!this.kernel.isDisposed) {
      this.kernel.removeCommTarget(TARGET, this.adopt);
    }
    this.comm?.dispose(); // without a word to the kernel: other pages may use the comm
    this.forget("the notebook was closed");
    this.store.dispose();
    Signal.clearData(this);
  }

  // -- a source -----------------------------------------------------------------

  structure(): Structure | null {
    return this.latest.structure;
  }

  state(): State | null {
    return this.latest.state;
  }

  listen(listener: (news: News) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  connected(): boolean {
    return this.comm !== null && this.kernel.connectionStatus === "connected";
  }

  request<R extends Request>(request: R): Promise<Answers[R["do"]]> {
    if (!this.comm) {
      return Promise.reject(new Error("the kernel is gone; what is shown is how it was"));
    }
    return this.replies.await(request, this.state(), (message) => {
      this.send(message).catch((error: Error) => this.replies.fail(message.id, error.message));
    });
  }

  /** Have structure, state and patches of another run. The newest is followed until a newer one begins. */
  follow(run: string): void {
    const newest = this.overview?.runs[0]?.id;
    this.send({ type: "follow", run: run === newest ? null : run }).catch((error: Error) =>
      this.store.update({ error: error.message }),
    );
  }

  // -- the comm -------------------------------------------------------------------

  /** After a reload of the page, the comm is there already. */
  private findComm(): void {
    this.requestComm().catch(() => undefined); // the kernel went meanwhile
  }

  private async requestComm(): Promise<void> {
    await this.kernel.info;
    const { content } = await this.kernel.requestCommInfo({ target_name: TARGET });
    const id = content.status === "ok" ? Object.keys(content.comms)[0] : undefined;
    if (id && !this.isDisposed && !this.comm && !this.kernel.hasComm(id)) {
      this.adopt(this.kernel.createComm(TARGET, id));
    }
  }

  private readonly adopt = (comm: Kernel.IComm): void => {
    this.comm = comm;
    comm.onMsg = (message) => this.hear(message);
    comm.onClose = () => {
      if (this.comm === comm) {
        this.forget("handoff_lab was unloaded");
      }
    };
    this.greet();
    this.tell({ type: "connection" });
  };

  /** Beside the running cell, for whose end the comm would wait; a kernel's status does not tell whether one runs. */
  private async send(message: PanelMessage): Promise<void> {
    const { comm } = this;
    const beside = openKernel(this.kernel);
    if (comm && beside) {
      await sendOverKernel(beside, comm.commId, message);
    } else {
      comm?.send(message as unknown as JSONObject);
    }
  }

  private greet(): void {
    this.send({ type: "hello" }).catch(() => this.comm?.send({ type: "hello" }));
  }

  private hear(message: KernelMessage.ICommMsgMsg): void {
    const news = message.content.data as unknown as PanelNews;
    if (news.type === "overview") {
      this.take(news);
    } else if (news.type === "reply") {
      this.replies.settle(news);
    } else {
      if (news.type === "structure") {
        this.latest.structure = news.structure;
      } else if (news.type === "state") {
        this.latest.state = news.state;
      }
      this.tell(news);
    }
  }

  private take(news: PanelNews & { type: "overview" }): void {
    if (news.whole) {
      this.overview = news.overview;
    } else if (this.overview) {
      this.overview = { ...this.overview, ...news.overview };
    } // else the hello has not come to the kernel yet
    this.changed.emit();
  }

  private tell(news: News): void {
    this.listeners.forEach((listener) => listener(news));
    if (news.type !== "patch") {
      this.changed.emit();
    }
  }

  // -- the kernel comes and goes -----------------------------------------------------

  private onStatus(_: unknown, status: Kernel.Status): void {
    if (["restarting", "autorestarting", "dead", "terminating"].includes(status)) {
      this.forget("the kernel was restarted");
    }
  }

  private onConnection(_: unknown, status: Kernel.ConnectionStatus): void {
    if (status === "connected" && this.comm) {
      this.greet(); // what was said meanwhile was missed
    } else if (status === "connected") {
      this.findComm();
    }
    this.tell({ type: "connection" });
  }

  private forget(why: string): void {
    this.comm = null;
    this.overview = null;
    this.replies.giveUp(why);
    this.tell({ type: "connection" });
  }
}
