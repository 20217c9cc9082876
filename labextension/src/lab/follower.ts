// Which kernel the panel is about: that of the notebook or console that was used last.

import type { ISessionContext } from "@jupyterlab/apputils";
import type { IConsoleTracker } from "@jupyterlab/console";
import type { INotebookTracker, NotebookPanel } from "@jupyterlab/notebook";
import type { Kernel } from "@jupyterlab/services";
import { Token } from "@lumino/coreutils";
import { Signal } from "@lumino/signaling";
import type { Widget } from "@lumino/widgets";

import { KernelPanel } from "./kernel_panel";

type Document = Widget & { sessionContext: ISessionContext };

export interface IFollower {
  /** Of the current document's kernel; null: it has none, or handoff_lab cannot speak to it from here. */
  readonly panel: KernelPanel | null;
  /** The current document, if it is a notebook. */
  readonly notebook: NotebookPanel | null;
  /** Another panel, or news of the one that is followed. */
  readonly changed: Signal<IFollower, void>;
}

export const IFollower = new Token<IFollower>("handoff-lab:IFollower", "The kernel that Handoff's views follow.");

export class Follower implements IFollower {
  readonly changed: Signal<IFollower, void> = new Signal<IFollower, void>(this);
  private current: Document | null = null;
  private readonly panels = new Map<string, KernelPanel>(); // by the kernel's id

  constructor(
    private readonly notebooks: INotebookTracker | null,
    consoles: IConsoleTracker | null,
  ) {
    for (const tracker of [notebooks, consoles]) {
      tracker?.forEach((document) => this.track(document));
      tracker?.widgetAdded.connect((_, document) => this.track(document));
      tracker?.currentChanged.connect((_, document) => this.turnTo(document));
    }
    this.turnTo(notebooks?.currentWidget ?? consoles?.currentWidget ?? null);
  }

  get panel(): KernelPanel | null {
    return this.panels.get(this.current?.sessionContext.session?.kernel?.id ?? "") ?? null;
  }

  get notebook(): NotebookPanel | null {
    const notebook = this.notebooks?.currentWidget ?? null;
    return notebook === this.current ? notebook : null;
  }

  private turnTo(document: Document | null): void {
    if (document || this.current?.isDisposed) {
      this.current = document;
      this.changed.emit();
    }
  }

  private track(document: Document): void {
    const { sessionContext } = document;
    sessionContext.kernelChanged.connect((_, { oldValue, newValue }) => this.onKernel(oldValue, newValue));
    document.disposed.connect(() => {
      if (this.current === document) {
        this.current = null;
        this.changed.emit();
      }
    });
    this.onKernel(null, sessionContext.session?.kernel ?? null);
  }

  private onKernel(before: Kernel.IKernelConnection | null, kernel: Kernel.IKernelConnection | null): void {
    if (before && this.panels.get(before.id)?.kernel === before) {
      this.drop(before.id);
    }
    // Of several documents on one kernel, only the connection of the first can have comms.
    if (kernel?.handleComms && !this.panels.has(kernel.id)) {
      this.add(kernel);
    }
    this.changed.emit();
  }

  private add(kernel: Kernel.IKernelConnection): void {
    const panel = new KernelPanel(kernel);
    this.panels.set(kernel.id, panel);
    panel.changed.connect(() => {
      if (panel === this.panel) {
        this.changed.emit();
      }
    });
    kernel.disposed.connect(() => {
      if (this.panels.get(kernel.id) === panel) {
        this.drop(kernel.id);
        this.changed.emit();
      }
    });
  }

  private drop(id: string): void {
    this.panels.get(id)?.dispose();
    this.panels.delete(id);
  }
}
