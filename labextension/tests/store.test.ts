import assert from "node:assert/strict";
import { test } from "node:test";

import type { Topic } from "../src/listeners";
import type { NodeState } from "../src/protocol";
import { Store } from "../src/store";
import { FakeSource, patchOf, stateOf, structureOf } from "./fake_source";

const IDS = ["load", "clean", "train", "report"];

function make(status = "rwww", changes = {}): { source: FakeSource; store: Store; tick: (to: number) => void } {
  let now = 500;
  const source = new FakeSource(structureOf(IDS, [0, 1, 1, 2, 2, 3]), stateOf(status, changes));
  const store = new Store(source, () => now);
  return { source, store, tick: (to) => (now = to) };
}

function nodeOf(name: string, status: NodeState["status"] = "up"): NodeState {
  return { name, status, letter: name, colour: "#000", ink: "#fff", resources: {}, lost: null };
}

/** The kernel's answer, or that it has none, was heard. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

function heard(store: Store): [Topic, number[] | null][] {
  const told: [Topic, number[] | null][] = [];
  for (const topic of ["structure", "functions", "nodes", "run", "connection", "view", "open"] as const) {
    store.subscribe([topic], (changed) => told.push([topic, changed]));
  }
  return told;
}

test("patches in order change columns and counts, and tell which functions changed", () => {
  const { source, store } = make();
  const told = heard(store);
  source.say(patchOf(1, { 0: "d", 1: "r" }));
  source.say(patchOf(2, { 1: "f" }, { errors: { 1: "ValueError" } }));
  assert.deepEqual(told, [
    ["functions", [0, 1]],
    ["functions", [1]],
  ]);
  assert.deepEqual(store.live?.status, ["d", "f", "w", "w"]);
  assert.equal(store.live?.errors.get(1), "ValueError");
  assert.deepEqual(
    [store.live?.counts.d, store.live?.counts.f, store.live?.counts.w, store.live?.counts.r],
    [1, 1, 2, 0],
  );
});

test("a patch that is known already is ignored", () => {
  const { source, store } = make("dwww", { seq: 5 });
  source.say(patchOf(5, { 0: "f" }));
  source.say(patchOf(3, { 0: "f" }));
  assert.equal(store.status(0), "d");
  assert.deepEqual(source.asked, []);
});

test("a gap asks for the whole state once, and patches after it wait for it", () => {
  const { source, store } = make();
  source.say(patchOf(2, { 1: "r" }));
  source.say(patchOf(3, { 2: "q" }));
  assert.deepEqual(source.asked, [{ do: "state" }]);
  assert.equal(store.status(1), "w");
  source.say({ type: "state", state: stateOf("drww", { seq: 2 }) });
  assert.deepEqual(store.live?.status, ["d", "r", "q", "w"]);
  assert.equal(store.live?.seq, 3);
});

test("where the whole state cannot be had, patches are applied across the gap", async () => {
  const { source, store } = make();
  source.answer = () => Promise.reject(new Error("busy"));
  source.say(patchOf(4, { 1: "r" }));
  await settled();
  assert.equal(store.status(1), "r");
  source.say(patchOf(5, { 1: "d" }));
  assert.equal(store.status(1), "d");
});

test("what is missing when the kernel has answered is asked for again, also when no patch comes", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { source, store } = make();
  source.say(patchOf(4, { 1: "d" }));
  await settled();
  assert.equal(source.asked.length, 1);
  t.mock.timers.tick(2000);
  assert.equal(source.asked.length, 2);
  source.say({ type: "state", state: stateOf("rdww", { seq: 4 }) });
  await settled();
  t.mock.timers.tick(10_000);
  assert.equal(source.asked.length, 2);
  assert.equal(store.status(1), "d");
});

test("a patch of a run whose state has yet to come is for that state, not for the run before", () => {
  const { source, store } = make("dddd", { seq: 7 });
  source.say(patchOf(1, { 0: "r" }, { now: 1005 }));
  assert.equal(store.status(0), "d");
  source.say({ type: "state", state: stateOf("wwww", { seq: 0, now: 1004 }) });
  assert.deepEqual(store.live?.status, ["r", "w", "w", "w"]);
});

test("a patch of the run before is not for the next, whatever its number", () => {
  const { source, store } = make("rwww", { seq: 0 });
  source.say(patchOf(3, { 0: "f" }, { now: 1001 }));
  source.say({ type: "state", state: stateOf("wwww", { seq: 2, now: 1004 }) });
  assert.deepEqual(store.live?.status, ["w", "w", "w", "w"]);
  source.say(patchOf(3, { 1: "r" }, { now: 1005 }));
  assert.deepEqual(store.live?.status, ["w", "r", "w", "w"]);
});

test("until structure and state fit, what was there before is shown", () => {
  const { source, store } = make("rfww");
  const told = heard(store);
  source.say({ type: "structure", structure: structureOf(["x", "y"], [0, 1], "other") });
  assert.deepEqual([store.size, store.status(1), told.length], [4, "f", 0]);
  source.say(patchOf(8, { 1: "f" }, { key: "other" }));
  source.say({ type: "state", state: stateOf("rw", { key: "other", seq: 7 }) });
  assert.equal(store.size, 2);
  assert.deepEqual(store.live?.status, ["r", "f"]);
});

test("state before its structure is kept for it", () => {
  const { source, store } = make();
  source.say({ type: "state", state: stateOf("ff", { key: "other" }) });
  assert.deepEqual(store.live?.counts.f, 0);
  source.say({ type: "structure", structure: structureOf(["x", "y"], [0, 1], "other") });
  assert.deepEqual(store.live?.counts.f, 2);
});

test("what is selected stays the same function when the structure changes", () => {
  const { source, store } = make();
  const show = (ids: string[], key: string) => {
    source.say({ type: "structure", structure: structureOf(ids, [], key) });
    source.say({ type: "state", state: stateOf("w".repeat(ids.length), { key }) });
  };
  store.update({ selected: 2, search: "tra" });
  show(["new", "load", "clean", "train"], "other");
  assert.equal(store.ui.selected, 3);
  assert.deepEqual([...(store.matches ?? [])], [3]);
  show(["new"], "third");
  assert.equal(store.ui.selected, -1);
});

test("the same structure once more is no other: what was chosen stays", () => {
  const { source, store } = make();
  const { structure } = store;
  store.update({ selected: 1, members: { title: "m", functions: new Set([1]) } });
  source.say({ type: "structure", structure: structureOf(IDS, [0, 1, 1, 2, 2, 3]) });
  assert.equal(store.structure, structure);
  assert.deepEqual([store.ui.selected, store.ui.members?.title], [1, "m"]);
});

test("the node that stands out is the same one in the next run, or none", () => {
  const { source, store } = make("rwww", { nodes: [nodeOf("a"), nodeOf("b")] });
  store.update({ highlightedNode: 1 });
  source.say({ type: "state", state: stateOf("rwww", { nodes: [nodeOf("b")], now: 1001 }) });
  assert.equal(store.ui.highlightedNode, 0);
  source.say({ type: "state", state: stateOf("rwww", { nodes: [nodeOf("c")], now: 1002 }) });
  assert.equal(store.ui.highlightedNode, -1);
});

test("nodes keep their place, new ones are appended; a stale mark counts as a change of its function", () => {
  const { source, store } = make("rwww", { nodes: [nodeOf("a"), nodeOf("b")], stale: [1] });
  const told = heard(store);
  source.say(patchOf(1, {}, { nodes: [nodeOf("a", "lost"), nodeOf("c")], stale: [2], run: { status: "failed" } }));
  assert.deepEqual(
    store.live?.nodes.map(({ name, status }) => [name, status]),
    [
      ["a", "lost"],
      ["b", "up"],
      ["c", "up"],
    ],
  );
  assert.deepEqual(told, [
    ["functions", [2, 1]],
    ["nodes", null],
    ["run", null],
  ]);
  assert.equal(store.live?.run?.status, "failed");
});

test("the clock is the kernel's, by the message that was least late", () => {
  const { source, store, tick } = make();
  assert.equal(store.now(), 10);
  tick(502);
  assert.equal(store.now(), 12);
  source.say(patchOf(1, {}, { now: 1001.5 }));
  assert.equal(store.now(), 12);
  source.say(patchOf(2, {}, { now: 1003 }));
  assert.equal(store.now(), 13);
});

test("the clock stands still without a kernel, and at the end", () => {
  const { source, store, tick } = make("drww", { started: [1, 4, null, null], ended: [3, null, null, null] });
  tick(510);
  assert.deepEqual([store.duration(0), store.duration(1), store.duration(2)], [2, 16, null]);
  source.online = false;
  assert.equal(store.now(), 10);
  source.online = true;
  source.say(patchOf(1, {}, { run: { status: "done", ended: 1005 } }));
  tick(600);
  assert.equal(store.now(), 15);
});

test("search, status filter and members narrow together", () => {
  const { store } = make("rwww");
  store.update({ search: "  A ", statusFilter: "w", members: { title: "m", functions: new Set([0, 1]) } });
  assert.deepEqual(
    IDS.map((_, at) => store.passes(at)),
    [false, true, false, false],
  );
  store.update({ search: "" });
  assert.equal(store.matches, null);
});

test("opening selects first, then tells", () => {
  const { store } = make();
  const told = heard(store);
  store.open(2);
  assert.deepEqual(
    told.map(([topic]) => topic),
    ["view", "open"],
  );
  assert.equal(store.ui.selected, 2);
});

test("what goes wrong with a request is shown", async () => {
  const { source, store } = make();
  source.answer = () => Promise.reject(new Error("the run is over"));
  assert.equal(await store.ask({ do: "cancel" }), null);
  assert.equal(store.ui.error, "the run is over");
});

test("state of 50,000 functions is taken and patched quickly", () => {
  const size = 50_000;
  const ids = Array.from({ length: size }, (_, at) => `f${at}`);
  const source = new FakeSource(structureOf(ids), stateOf("w".repeat(size)));
  const store = new Store(source);
  const statuses = Object.fromEntries(Array.from({ length: 500 }, (_, at) => [at, "d" as const]));
  const start = performance.now();
  for (let seq = 1; seq <= 20; seq++) {
    source.say(patchOf(seq, statuses));
  }
  assert.equal(store.live?.counts.d, 500);
  assert.ok(performance.now() - start < 1000);
});
