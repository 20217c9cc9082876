// How a status is told: a word, a sign, an icon. Never by colour alone. As handoff_lab/visualization/palette.py has it.

import type { RunState, StatusLetter } from "./protocol";

interface StatusMark {
  word: string;
  sign: string;
  /** The d of a path in a box of 16 by 16, to be stroked (with round ends, 2 wide). */
  icon: string;
}

export const STATUS: Record<StatusLetter, StatusMark> = {
  w: { word: "waiting", sign: "○", icon: "M8 3.5a4.5 4.5 0 1 0 .01 0" },
  q: { word: "queued", sign: "…", icon: "M3 8h.01M8 8h.01M13 8h.01" },
  r: { word: "running", sign: "▶", icon: "M5 3.5v9l7.5-4.5z" },
  d: { word: "done", sign: "✓", icon: "M3 8.5l3.5 3.5 6.5-8" },
  c: { word: "cached", sign: "◆", icon: "M8 2.5l5 5.5-5 5.5-5-5.5z" },
  f: { word: "failed", sign: "✗", icon: "M3.5 3.5l9 9M12.5 3.5l-9 9" },
  t: { word: "retrying", sign: "↻", icon: "M12.6 6A5 5 0 1 0 13 8.6M13 2.5V6h-3.5" },
  s: { word: "skipped", sign: "–", icon: "M3.5 8h9" },
  x: { word: "cancelled", sign: "⊘", icon: "M8 2.5a5.5 5.5 0 1 0 .01 0M4.2 4.2l7.6 7.6" },
};

/** Most urgent first, as visualization/run_graph.py has it: what stands for many shows the first that any of them is. */
export const URGENCY: readonly StatusLetter[] = ["f", "t", "r", "x", "q", "s", "w", "d", "c"];

/** In the order in which a function goes through them: for bars and legends. */
export const PROGRESS: readonly StatusLetter[] = ["d", "c", "f", "x", "s", "t", "r", "q", "w"];

/** The status whose word, sign and icon a run has. */
export const RUN_LETTERS: Record<RunState["status"], StatusLetter> = {
  running: "r",
  done: "d",
  failed: "f",
  cancelled: "x",
};

export type Counts = Record<StatusLetter, number>;

export function noCounts(): Counts {
  return { w: 0, q: 0, r: 0, d: 0, c: 0, f: 0, t: 0, s: 0, x: 0 };
}

export function total(counts: Counts): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

export function mostUrgent(counts: Counts): StatusLetter {
  return URGENCY.find((letter) => counts[letter] > 0) ?? "w";
}

export function statusWord(letter: StatusLetter): string {
  return STATUS[letter].word;
}

/** "3 running, 2 done", most urgent first. */
export function countsText(counts: Counts): string {
  return URGENCY.filter((letter) => counts[letter] > 0)
    .map((letter) => `${counts[letter]} ${STATUS[letter].word}`)
    .join(", ");
}
