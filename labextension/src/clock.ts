// The kernel's clock, as the browser knows it from messages.

export class KernelClock {
  /** The latest time that the kernel said, epoch. */
  heard = 0;
  // Kernel's clock minus the browser's. Messages only ever come late, so the largest seen is the truest.
  private offset = -Infinity;

  /** `browserNow`: seconds. */
  constructor(private readonly browserNow: () => number) {}

  hear(now: number): void {
    this.heard = Math.max(this.heard, now);
    this.offset = Math.max(this.offset, now - this.browserNow());
  }

  now(): number {
    return Math.max(this.browserNow() + this.offset, this.heard);
  }
}
