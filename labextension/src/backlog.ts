// Patches that do not follow what is known: they wait for the whole state, which the kernel is asked for.

import type { Patch } from "./protocol";

const RETRY_MS = 2000;
const MOST = 200;

export class Backlog {
  private patches: Patch[] = [];
  private isAsking = false;
  private isOver = false;
  private retry: ReturnType<typeof setTimeout> | undefined;

  /** `ask` has the kernel send the whole state; `giveUp` is called when it cannot. */
  constructor(
    private readonly ask: () => Promise<unknown>,
    private readonly giveUp: () => void,
  ) {}

  add(patch: Patch): void {
    if (this.patches.push(patch) > MOST) {
      this.patches.shift();
    }
    if (!this.isAsking && this.retry === undefined) {
      void this.askNow();
    }
  }

  /** Hands over all. */
  take(): Patch[] {
    const { patches } = this;
    this.patches = [];
    return patches;
  }

  dispose(): void {
    this.isOver = true;
    this.patches = [];
    clearTimeout(this.retry);
  }

  private async askNow(): Promise<void> {
    this.isAsking = true;
    try {
      await this.ask();
    } catch {
      this.giveUp();
    }
    this.isAsking = false;
    if (this.patches.length > 0 && !this.isOver) {
      this.retry = setTimeout(() => this.askAgain(), RETRY_MS);
    }
  }

  private askAgain(): void {
    this.retry = undefined;
    if (this.patches.length > 0) {
      void this.askNow();
    }
  }
}
