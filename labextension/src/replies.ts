// Requests under way, and the replies that settle them.

import type { Answers, ReplyMessage, Request, RequestMessage, State } from "./protocol";

interface Waiting {
  resolve: (value: unknown) => void;
  reject: (error: Error) => void;
}

export class Replies {
  private readonly waiting = new Map<number, Waiting>();
  // Replies go to every page that shows the model or the kernel, so ids must differ between pages too.
  private last = Math.floor(Math.random() * 2 ** 48);

  /** A promise of the answer to `request` on what `state` shows, once `send` was called with the message to send. */
  await<R extends Request>(
    request: R,
    state: State | null,
    send: (message: RequestMessage) => void,
  ): Promise<Answers[R["do"]]> {
    const message: RequestMessage = { type: "request", id: ++this.last, run: state?.run?.id ?? null, request };
    return new Promise<unknown>((resolve, reject) => {
      this.waiting.set(message.id, { resolve, reject });
      send(message);
    }) as Promise<Answers[R["do"]]>;
  }

  has(id: number): boolean {
    return this.waiting.has(id);
  }

  settle({ id, value, error }: ReplyMessage): void {
    if (error === undefined) {
      this.waiting.get(id)?.resolve(value);
      this.waiting.delete(id);
    } else {
      this.fail(id, error);
    }
  }

  fail(id: number, reason: string): void {
    this.waiting.get(id)?.reject(new Error(reason));
    this.waiting.delete(id);
  }

  giveUp(reason: string): void {
    [...this.waiting.keys()].forEach((id) => this.fail(id, reason));
  }
}
