// Who needs whom, for graphs of up to some 100,000 edges: compressed rows, built once per structure.

export class Adjacency {
  private readonly outStart: Int32Array;
  private readonly inStart: Int32Array;
  private readonly outs: Int32Array;
  private readonly ins: Int32Array;

  /** `pairs`: producer, consumer, producer, consumer, ... among `size` vertices. */
  constructor(
    readonly size: number,
    pairs: ArrayLike<number>,
  ) {
    [this.outStart, this.outs] = rows(size, pairs, 0);
    [this.inStart, this.ins] = rows(size, pairs, 1);
  }

  /** Those that need `vertex`. */
  dependents(vertex: number): Int32Array {
    return this.outs.subarray(this.outStart[vertex], this.outStart[vertex + 1]);
  }

  /** Those that `vertex` needs. */
  dependencies(vertex: number): Int32Array {
    return this.ins.subarray(this.inStart[vertex], this.inStart[vertex + 1]);
  }

  /** All that come after `vertex` by edges, without itself. */
  down(vertex: number): Set<number> {
    return reach(vertex, (at) => this.dependents(at));
  }

  /** All that come before `vertex` by edges, without itself. */
  up(vertex: number): Set<number> {
    return reach(vertex, (at) => this.dependencies(at));
  }

  /** How many vertices come before each along the longest way; the vertices are in topological order. */
  levels(): Int32Array {
    const levels = new Int32Array(this.size);
    for (let vertex = 0; vertex < this.size; vertex++) {
      let level = 0;
      for (const before of this.dependencies(vertex)) {
        level = Math.max(level, levels[before]! + 1);
      }
      levels[vertex] = level;
    }
    return levels;
  }
}

function rows(size: number, pairs: ArrayLike<number>, side: 0 | 1): [Int32Array, Int32Array] {
  const start = new Int32Array(size + 1);
  for (let at = side; at < pairs.length; at += 2) {
    start[pairs[at]! + 1]!++;
  }
  for (let vertex = 0; vertex < size; vertex++) {
    start[vertex + 1]! += start[vertex]!;
  }
  const next = start.slice();
  const ends = new Int32Array(pairs.length >> 1);
  for (let at = 0; at < pairs.length; at += 2) {
    ends[next[pairs[at + side]!]!++] = pairs[at + 1 - side]!;
  }
  return [start, ends];
}

function reach(from: number, neighbours: (vertex: number) => Int32Array): Set<number> {
  const found = new Set<number>();
  const open = [from];
  for (let vertex = open.pop(); vertex !== undefined; vertex = open.pop()) {
    for (const next of neighbours(vertex)) {
      if (!found.has(next)) {
        found.add(next);
        open.push(next);
      }
    }
  }
  return found;
}
