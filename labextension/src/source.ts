// Where a view gets what it shows: the widget's model, or the panel's comm. Views know nothing else.

import type { Answers, Patch, Request, State, Structure } from "./protocol";

export interface Source {
  structure(): Structure | null;
  state(): State | null;
  /** Called when structure or state are others, the kernel came or went, and with patches; returns what ends it. */
  listen(listener: (news: News) => void): () => void;
  /** Ask the kernel; rejects with an Error whose message is for the user. */
  request<R extends Request>(request: R): Promise<Answers[R["do"]]>;
  /** false: no kernel is there, what is shown is how it was. */
  connected(): boolean;
}

export type News = { type: "structure" | "state" | "connection" } | Patch;
