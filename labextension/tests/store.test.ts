import assert from "node:assert/strict";
import { test } from "node:test";

import type { NodeState } from "../src/protocol";
import { Store, type Topic } from "../src/store";
import { FakeSource, patchOf, stateOf, structureOf } from "./fake_source";

const IDS = ["load", "clean", "train", "report"];

function make(status = "rwww", changes = {}): { source: FakeSource; store: Store; tick: (to: number) => void } {
  let now = 500;
  const source = new FakeSource(structureOf(IDS, [0, 1, 1, 2, 2, 3]), stateOf(status, changes));
  const store = new Store(source, () => now);
  return { source, store, tick: (to) => (now = to) };
}

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
  await Promise.resolve().then(() => undefined);
  assert.equal(store.status(1), "r");
  source.say(patchOf(5, { 1: "d" }));
  assert.equal(store.status(1), "d");
});

test("a patch for another structure waits until that has come", () => {
  const { source, store } = make();
  source.say(patchOf(8, { 1: "f" }, { key: "other" }));
  assert.equal(store.status(1), "w");
  source.say({ type: "structure", structure: structureOf(["x", "y"], [0, 1], "other") });
  assert.deepEqual([store.size, store.status(0)], [2, "w"]);
  source.say({ type: "state", state: stateOf("rw", { key: "other", seq: 7 }) });
  assert.deepEqual(store.live?.status, ["r", "f"]);
});

test("state before its structure is kept for it", () => {
  const { source, store } = make();
  source.say({ type: "state", state: stateOf("ff", { key: "other" }) });
  source.say({ type: "structure", structure: structureOf(["x", "y"], [0, 1], "other") });
  assert.deepEqual(store.live?.counts.f, 2);
});

test("what is selected stays the same function when the structure changes", () => {
  const { source, store } = make();
  store.update({ selected: 2, search: "tra" });
  source.say({ type: "structure", structure: structureOf(["new", "load", "clean", "train"], [], "other") });
  assert.equal(store.ui.selected, 3);
  assert.deepEqual([...(store.matches ?? [])], [3]);
  source.say({ type: "structure", structure: structureOf(["new"], [], "third") });
  assert.equal(store.ui.selected, -1);
});

test("nodes keep their place, new ones are appended; a stale mark counts as a change of its function", () => {
  const node = (name: string, status: NodeState["status"]): NodeState => ({
    ...{ name, status, letter: name, colour: "#000", ink: "#fff" },
    resources: {},
    lost: null,
  });
  const { source, store } = make("rwww", { nodes: [node("a", "up"), node("b", "up")], stale: [1] });
  const told = heard(store);
  source.say(patchOf(1, {}, { nodes: [node("a", "lost"), node("c", "up")], stale: [2], run: { status: "failed" } }));
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
