// Where an arrow key leads from a shape: along the edges where they run, across them to its neighbours. Pure.

import type { Adjacency } from "../adjacency";
import type { Curve, Shape } from "../protocol";

export type Arrow = "ArrowUp" | "ArrowDown" | "ArrowLeft" | "ArrowRight";

export type Direction = "down" | "right";

const FORWARD: Record<Direction, Arrow> = { down: "ArrowDown", right: "ArrowRight" };
const BACK: Record<Direction, Arrow> = { down: "ArrowUp", right: "ArrowLeft" };
const AFTER: Record<Direction, Arrow> = { down: "ArrowRight", right: "ArrowDown" };

/** Which way edges run: forward all of them go down, or all to the right; aside they go both ways. */
export function direction(shapes: Shape[], curves: Curve[]): Direction {
  let [down, right] = [0, 0];
  for (const { from, to, kind } of curves) {
    if (kind !== "collocated") {
      down += Math.sign(shapes[to]!.y - shapes[from]!.y);
      right += Math.sign(shapes[to]!.x - shapes[from]!.x);
    }
  }
  return down >= right ? "down" : "right";
}

/** The shape that `arrow` leads to from `at`; `at` itself where there is none. */
export function move(at: number, arrow: Arrow, shapes: Shape[], edges: Adjacency, way: Direction): number {
  if (arrow === FORWARD[way]) {
    return nearest(at, edges.dependents(at), shapes, way);
  }
  if (arrow === BACK[way]) {
    return nearest(at, edges.dependencies(at), shapes, way);
  }
  return sibling(at, arrow === AFTER[way] ? 1 : -1, shapes, way);
}

function nearest(at: number, candidates: Int32Array, shapes: Shape[], way: Direction): number {
  const here = shapes[at]!;
  return best(at, candidates, (other) => {
    const there = shapes[other]!;
    const along = Math.abs(rank(there, way) - rank(here, way));
    return Math.abs(across(there, way) - across(here, way)) + along / 1000;
  });
}

/** The next shape on the same rank to one side. */
function sibling(at: number, side: 1 | -1, shapes: Shape[], way: Direction): number {
  const here = shapes[at]!;
  const depth = way === "down" ? here.height : here.width;
  const others = [];
  for (const [other, there] of shapes.entries()) {
    const aside = (across(there, way) - across(here, way)) * side;
    if (aside > 0 && Math.abs(rank(there, way) - rank(here, way)) < depth) {
      others.push(other);
    }
  }
  return best(at, others, (other) => Math.abs(across(shapes[other]!, way) - across(here, way)));
}

function best(fallback: number, candidates: Iterable<number>, cost: (candidate: number) => number): number {
  let found = fallback;
  let least = Infinity;
  for (const candidate of candidates) {
    const price = cost(candidate);
    if (price < least) {
      least = price;
      found = candidate;
    }
  }
  return found;
}

function rank(shape: Shape, way: Direction): number {
  return way === "down" ? shape.y : shape.x;
}

function across(shape: Shape, way: Direction): number {
  return way === "down" ? shape.x : shape.y;
}
