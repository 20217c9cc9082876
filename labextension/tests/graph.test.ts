import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Adjacency } from "../src/adjacency";
import { first, fit, pan, reveal, sight, zoom } from "../src/graph/camera";
import { head } from "../src/graph/edges";
import { emphasised } from "../src/graph/emphasis";
import { widths } from "../src/graph/fold_card";
import { barTitle, countLevels, membersOf } from "../src/graph/levels";
import { direction, move, type Arrow, type Direction } from "../src/graph/moves";
import { countMembers, foldLabel, labelOf, notesOf, sharedNode } from "../src/graph/words";
import type { Curve, Shape } from "../src/protocol";
import { countsText, mostUrgent, noCounts, statusWord, URGENCY, type Counts } from "../src/status";
import { Store } from "../src/store";
import { FakeSource, stateOf, structureOf } from "./fake_source";

// 0 to 1 and 2, both to 3; 4 stands beside 1 and 2 alone.
const PAIRS = [0, 1, 0, 2, 1, 3, 2, 3];
const EDGES = new Adjacency(5, PAIRS);
const DOWN = [shape(0, 100, 20), shape(1, 60, 80), shape(2, 140, 80), shape(3, 100, 140), shape(4, 300, 80)];
const RIGHT = DOWN.map(({ x, y }, at) => shape(at, y * 3, x));

function shape(at: number, x: number, y: number): Shape {
  return { kind: "function", title: `f${at}`, x, y, width: 70, height: 34, members: [at] };
}

function curves(): Curve[] {
  const pairs = [...PAIRS.keys()].filter((at) => at % 2 === 0);
  return pairs.map((at) => ({ from: PAIRS[at]!, to: PAIRS[at + 1]!, path: "M0 0L1 1", count: 1, kind: "plain" }));
}

function counts(some: Partial<Counts>): Counts {
  return { ...noCounts(), ...some };
}

test("neighbours, paths and levels", () => {
  assert.deepEqual([...EDGES.dependents(0)], [1, 2]);
  assert.deepEqual([...EDGES.dependencies(3)], [1, 2]);
  assert.deepEqual([...EDGES.dependents(4)], []);
  assert.deepEqual([...EDGES.down(0)].sort(), [1, 2, 3]);
  assert.deepEqual([...EDGES.up(2)], [0]);
  assert.deepEqual([...EDGES.levels()], [0, 1, 1, 2, 0]);
});

test("a level is the longest way, and 50,000 functions in a row are no trouble", () => {
  assert.deepEqual([...new Adjacency(3, [0, 1, 1, 2, 0, 2]).levels()], [0, 1, 2]);
  const size = 50_000;
  const row = new Adjacency(
    size,
    Array.from({ length: 2 * (size - 1) }, (_, at) => (at + 1) >> 1),
  );
  assert.equal(row.levels()[size - 1], size - 1);
  assert.equal(row.down(0).size, size - 1);
});

for (const [way, shapes] of [
  ["down", DOWN],
  ["right", RIGHT],
] as [Direction, Shape[]][]) {
  const [forward, back, after, before]: Arrow[] =
    way === "down"
      ? ["ArrowDown", "ArrowUp", "ArrowRight", "ArrowLeft"]
      : ["ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp"];
  const go = (at: number, arrow: Arrow | undefined) => move(at, arrow!, shapes, EDGES, way);

  test(`arrows follow edges where they run ${way}, and go across them to neighbours`, () => {
    assert.equal(direction(shapes, curves()), way);
    assert.equal(go(3, back), 1);
    assert.equal(go(1, forward), 3);
    assert.equal(go(1, back), 0);
    assert.equal(go(1, after), 2);
    assert.equal(go(2, after), 4);
    assert.equal(go(4, before), 2);
  });

  test(`arrows stay where nothing is, edges ${way}`, () => {
    assert.equal(go(3, forward), 3);
    assert.equal(go(0, back), 0);
    assert.equal(go(4, after), 4);
    assert.equal(go(4, forward), 4);
  });
}

test("the camera fits the graph into the view, but does not blow up a small one", () => {
  const all = fit({ width: 2000, height: 500 }, { width: 1000, height: 600 });
  assert.ok(all.scale * 2000 <= 1000 && all.x > 0);
  assert.equal(all.y, (600 - 500 * all.scale) / 2);
  assert.equal(fit({ width: 100, height: 50 }, { width: 1000, height: 600 }).scale, 1.1);
});

test("of a long thin graph the beginning is seen first, legibly", () => {
  const tower = { width: 200, height: 9000 };
  const seen = first(tower, { width: 1000, height: 600 });
  assert.ok(seen.scale > 0.5);
  assert.equal(seen.y, 16);
  assert.deepEqual(
    first({ width: 4000, height: 3000 }, { width: 1000, height: 600 }),
    fit({ width: 4000, height: 3000 }, { width: 1000, height: 600 }),
  );
});

test("zooming keeps what is under the pointer, within limits", () => {
  const before = { x: 10, y: 20, scale: 1 };
  const after = zoom(before, 2, 300, 200);
  assert.equal((300 - after.x) / after.scale, 290);
  assert.equal((200 - after.y) / after.scale, 180);
  assert.equal(zoom(before, 1000, 0, 0).scale, 4);
  assert.equal(zoom(before, 1e-6, 0, 0).scale, 0.03);
});

test("panning never loses the graph", () => {
  const [graph, view] = [
    { width: 400, height: 300 },
    { width: 800, height: 600 },
  ];
  const far = pan({ x: 0, y: 0, scale: 1 }, 1e6, -1e6, graph, view);
  const { left, top, width, height } = sight(far, view);
  assert.ok(left < 400 && left + width > 0);
  assert.ok(top < 300 && top + height > 0);
});

test("what is revealed comes into sight by the least move, and stays when it is", () => {
  const view = { width: 800, height: 600 };
  const camera = { x: 0, y: 0, scale: 1 };
  assert.deepEqual(reveal(camera, { left: 100, top: 100, width: 80, height: 34 }, view), camera);
  const moved = reveal(camera, { left: 1000, top: -50, width: 80, height: 34 }, view);
  assert.deepEqual(moved, { x: 800 - 16 - 1080, y: 66, scale: 1 });
});

test("an arrow head points along the last leg of its path", () => {
  assert.equal(head("M0 0L0 50", 10), "M0.0 50.0L-4.5 40.0L4.5 40.0Z");
  assert.equal(head("M0 0C0 10 20 30 40 30", 10), "M40.0 30.0L30.0 34.5L30.0 25.5Z");
  assert.equal(head("M0 0C0 10 40 30 40 30", 10), head("M0 10L40 30", 10));
});

test("a fold never hides a failure: it is the most urgent of its members", () => {
  assert.equal(mostUrgent(counts({ d: 4999, f: 1 })), "f");
  assert.equal(mostUrgent(counts({ d: 3, r: 1, w: 5 })), "r");
  assert.equal(mostUrgent(counts({ d: 3, c: 1 })), "d");
  const parts = widths(counts({ d: 4999, f: 1 }), 5000, 80);
  assert.ok(parts.get("f")! >= 3);
  assert.equal(
    [...parts.values()].reduce((sum, width) => sum + width, 0),
    80,
  );
  const label = foldLabel({ ...shape(0, 0, 0), title: "load ×3", members: [0, 1, 2] }, counts({ d: 2, f: 1 }));
  assert.equal(label, "load ×3, 3 functions: 1 failed, 2 done");
});

test("a fold counts what runs, not what joins its results", () => {
  const structure = { ...structureOf(["f[0:2]", "f[2:4]", "f"]), types: "rri" };
  const fold = { ...shape(0, 0, 0), title: "f ×2", members: [0, 1, 2] };
  const store = new Store(new FakeSource(structure, stateOf("ddw", { node: [1, 1, -1] })));
  const found = countMembers(store, fold.members);
  assert.deepEqual([mostUrgent(found), foldLabel(fold, found)], ["d", "f ×2, 2 functions: 2 done"]);
  assert.equal(sharedNode(store, fold.members), 1);
  assert.equal(foldLabel({ ...fold, title: "f", members: [2] }, countMembers(store, [2])), "f, 1 function");
});

test("the order of urgency is that of Python's pictures", () => {
  const python = readFileSync("../handoff_lab/visualization/run_graph.py", "utf8");
  const [, block = ""] = /^URGENCY = \(([^)]*)\)/m.exec(python) ?? [];
  const words = [...block.matchAll(/FunctionStatus\.(\w+)/g)].map(([, name]) => name!.toLowerCase());
  assert.deepEqual(URGENCY.map(statusWord), words);
});

test("what a function says", () => {
  const structure = { ...structureOf(["load", "x", "fit", "half"]), types: "rvri" };
  const looks = { name: "alpha", letter: "A", colour: "#000", ink: "#fff" };
  const node = { ...looks, status: "up", resources: {}, lost: null } as const;
  const state = stateOf("dwfw", {
    nodes: [node],
    node: [0, -1, 0, -1],
    started: [1, null, 2, null],
    ended: [1.3, null, 4, null],
    attempts: [1, 0, 3, 0],
    errors: { 2: "ValueError: no" },
    stale: [0],
  });
  const store = new Store(new FakeSource(structure, state));
  assert.equal(labelOf(store, 0), "load, done on alpha, 300 ms, out of date");
  assert.equal(labelOf(store, 1), "x, value");
  assert.equal(labelOf(store, 2), "fit, failed on alpha, 2.00 s, 3 attempts, ValueError: no");
  assert.deepEqual(notesOf(store, 0), ["300 ms"]);
  assert.deepEqual(notesOf(store, 2), ["failed · 2.00 s", "failed"]);
  assert.deepEqual(notesOf(store, 3), ["inline"]);
});

test("hovering brings out the path; without it the node, then the filters", () => {
  const state = stateOf("ddfww", { node: [0, 0, 1, -1, -1] });
  const store = new Store(new FakeSource(structureOf(["a", "b", "c", "d", "e"], PAIRS), state));
  const shown = (hovered: number) => [...(emphasised(store, DOWN, EDGES, hovered) ?? ["none"])].sort();
  assert.deepEqual(shown(-1), ["none"]);
  assert.deepEqual(shown(1), [0, 1, 3]);
  store.update({ highlightedNode: 0, statusFilter: "w" });
  assert.deepEqual(shown(-1), [0, 1]);
  store.update({ highlightedNode: -1 });
  assert.deepEqual(shown(-1), [3, 4]);
});

test("levels as bars: few are one each, many are bands, and bars know their functions", () => {
  const levels = Int32Array.from([0, 0, 1, 2, 3]);
  const each = countLevels(levels, (at) => (at === 3 ? "f" : "d"), 10);
  assert.deepEqual(
    each.map(({ first, last, total }) => [first, last, total]),
    [
      [0, 0, 2],
      [1, 1, 1],
      [2, 2, 1],
      [3, 3, 1],
    ],
  );
  assert.equal(each[2]!.counts.f, 1);
  const bands = countLevels(levels, () => "w", 3);
  assert.deepEqual(bands.map(barTitle), ["levels 0 to 1", "levels 2 to 3"]);
  assert.deepEqual([...membersOf(bands[1]!, levels)], [3, 4]);
});

test("counts in words, most urgent first", () => {
  assert.equal(countsText(counts({ d: 2, r: 1 })), "1 running, 2 done");
});
