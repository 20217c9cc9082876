import assert from "node:assert/strict";
import { test } from "node:test";

import type { NodeState, State } from "../src/protocol";
import { Store } from "../src/store";
import { cannotCancel } from "../src/views/asking";
import { amount, bytes, clock, duration, unitOf } from "../src/views/format";
import { allows } from "../src/views/harmless";
import { pressKey } from "../src/views/keys";
import { shownRows, sortRows, waited } from "../src/views/rows";
import { nextFailure, nextMatch } from "../src/views/Search";
import { lanesOf } from "../src/views/timeline/lanes";
import { moved, ticks, zoomed } from "../src/views/timeline/scale";
import { firstBar, neighbour } from "../src/views/timeline/steps";
import { TimeWindow } from "../src/views/timeline/time_window";
import { barText } from "../src/views/timeline/words";
import { FakeSource, stateOf, structureOf } from "./fake_source";

const IDS = ["load_2", "load_10", "clean", "fit"];
const EDGES = [0, 2, 1, 2, 2, 3];

function node(name: string, letter: string): NodeState {
  return { name, letter, colour: "#56B4E9", ink: "#000", status: "up", resources: {}, lost: null };
}

/** load_2 is done on alpha, load_10 failed once on beta and runs on alpha, clean is queued, fit waits. */
function storeOf(changes: Partial<State> = {}): Store {
  const state = stateOf(changes.status ?? "drqw", {
    nodes: [node("alpha", "A"), node("beta", "B")],
    node: [0, 0, -1, -1],
    slot: [0, 1, -1, -1],
    attempts: [1, 2, 0, 0],
    queued: [0, 0, 6, null],
    started: [1, 5, null, null],
    ended: [4, null, null, null],
    peak: [null, 2e6, null, null],
    earlier: [[1, 1, 1, 0, 1, 3, "f"]],
    ...changes,
  });
  return new Store(new FakeSource(structureOf(IDS, EDGES), state), () => 1000);
}

test("amounts are told in the unit that suits the capability", () => {
  assert.equal(`${amount("memory", 1234, 16000)} ${unitOf("memory", 16000)}`, "1.2 GB");
  assert.equal(`${amount("memory", 120, 800)} ${unitOf("memory", 800)}`, "120 MB");
  assert.equal(`${amount("cpu", 1, 1)} ${unitOf("cpu", 1)}`, "1 core");
  assert.equal(bytes(999_600), "1 MB");
  assert.equal(bytes(1536), "1.54 kB");
  assert.equal(clock(3725.9), "1:02:05");
  assert.equal(clock(59.99), "0:59");
  assert.equal(duration(null), "–");
});

test("rows sort by what they show, and what is not known comes last either way", () => {
  const store = storeOf();
  const sorted = (column: Parameters<typeof sortRows>[2]) => sortRows(shownRows(store), store, column);
  assert.deepEqual(sorted(null), [0, 1, 2, 3]);
  assert.deepEqual(sorted({ column: "function", descending: false }), [2, 3, 0, 1]); // load_2 before load_10
  assert.deepEqual(sorted({ column: "run", descending: false }), [0, 1, 2, 3]);
  assert.deepEqual(sorted({ column: "run", descending: true }), [1, 0, 2, 3]);
  assert.deepEqual(sorted({ column: "peak", descending: true }), [1, 0, 2, 3]);
  assert.deepEqual(sorted({ column: "attempts", descending: true }), [1, 0, 2, 3]);
});

test("filters by status, node and search let through what is all of them", () => {
  const store = storeOf();
  store.update({ search: "LOAD" });
  assert.deepEqual(shownRows(store), [0, 1]);
  store.update({ statusFilter: "r" });
  assert.deepEqual(shownRows(store), [1]);
  store.update({ search: "", statusFilter: null, highlightedNode: 1 });
  assert.deepEqual(shownRows(store), []);
});

test("what cannot be interrupted can be cancelled before it runs, and no more when it does", () => {
  const store = storeOf();
  assert.equal(cannotCancel(store, 1), null);
  store.live!.run!.cannot.interrupt = "Dask can't interrupt a running function";
  assert.equal(cannotCancel(store, 1), "Dask can't interrupt a running function");
  assert.equal(cannotCancel(store, 2), null);
});

test("waiting goes on until the start", () => {
  const { live } = storeOf();
  assert.equal(waited(live!, 0, 10), 1);
  assert.equal(waited(live!, 2, 10), 4);
  assert.equal(waited(live!, 3, 10), null);
});

test("matches and failures come round", () => {
  const store = storeOf({ status: "fdfw" });
  store.update({ search: "load" });
  const found = [1, 1, -1].map((way) => {
    store.update({ selected: nextMatch(store, way as 1 | -1) });
    return store.ui.selected;
  });
  assert.deepEqual(found, [0, 1, 0]);
  store.update({ selected: -1 });
  const failures = [0, 0, 0].map(() => {
    store.update({ selected: nextFailure(store) });
    return store.ui.selected;
  });
  assert.deepEqual(failures, [0, 2, 0]);
  assert.equal(nextFailure(storeOf()), -1);
});

test("a lane per node and slot, with attempts where they ran", () => {
  const { lanes, bars, end } = lanesOf(storeOf());
  assert.deepEqual(lanes, [
    { node: 0, slot: 0 },
    { node: 0, slot: 1 },
    { node: 1, slot: 0 },
  ]);
  const told = bars.map(({ kind, lane, at, start, end }) => [kind, lane, at, start, end]);
  assert.deepEqual(told, [
    ["earlier", 2, 1, 1, 3],
    ["actual", 0, 0, 1, 4],
    ["actual", 1, 1, 5, null],
  ]);
  assert.equal(end, 5);
});

test("attempts without a slot get the first lane that is free", () => {
  const times = { started: [0, 1, 2, 3], ended: [2, 4, 3, 5] };
  const store = storeOf({ ...times, status: "dddd", node: [0, 0, 0, 0], slot: [-1, -1, -1, -1], earlier: [] });
  assert.deepEqual(
    lanesOf(store).bars.map(({ lane }) => lane),
    [0, 1, 0, 0],
  );
});

test("a transfer is on the lane of the function that takes the result", () => {
  const changes = { status: "dddw", node: [1, 0, 0, -1], slot: [0, 0, 1, -1], started: [0, 0, 3, null] };
  const store = storeOf({ ...changes, ended: [2, 1, 4, null], transfers: [[0, 1, 0, 2, 2.5, 4e6]], earlier: [] });
  const lanes = lanesOf(store);
  const moved = lanes.bars.find(({ kind }) => kind === "transfer")!;
  assert.deepEqual(lanes.lanes[moved.lane], { node: 0, slot: 1 });
  assert.equal(barText(store, lanes, moved), "result of load_2 comes to alpha: 4 MB in 500 ms, from 2.00 s");
});

test("a plan is drawn beside what became of it", () => {
  const plan = { node: [0, 1, 0, 0], slot: [0, 0, 0, 0], start: [0, 0, 3, null], end: [3, 2, 4, null] };
  const planned = lanesOf(storeOf({ plan })).bars.filter(({ kind }) => kind === "planned");
  assert.deepEqual(
    planned.map(({ at, lane }) => [at, lane]),
    [
      [0, 0],
      [1, 2],
      [2, 0],
    ],
  );
});

test("steps go to the bar beside, and stop at the ends", () => {
  const { bars } = lanesOf(storeOf());
  const first = firstBar(bars)!;
  assert.deepEqual([first.at, first.lane], [0, 0]);
  assert.equal(neighbour(bars, first, 1, 0), null);
  assert.equal(neighbour(bars, first, 0, 1)?.lane, 1);
  assert.equal(neighbour(bars, first, 0, -1), null);
});

test("ticks are round, and about as many as there is room for", () => {
  const texts = (from: number, to: number, width: number) => ticks({ from, to }, width).map(({ text }) => text);
  assert.deepEqual(texts(0, 10, 500), ["0 s", "2 s", "4 s", "6 s", "8 s", "10 s"]);
  assert.deepEqual(texts(0, 0.4, 400), ["0.0 s", "0.1 s", "0.2 s", "0.3 s", "0.4 s"]);
  assert.deepEqual(texts(0, 300, 450), ["0:00", "1:00", "2:00", "3:00", "4:00", "5:00"]);
  assert.deepEqual(texts(3600, 7200, 360), ["1:00:00", "1:15:00", "1:30:00", "1:45:00", "2:00:00"]);
});

test("zoom keeps the time under the pointer, and stays within bounds", () => {
  const bounds = { from: 0, to: 10 };
  assert.deepEqual(zoomed({ from: 0, to: 10 }, 4, 0.5, bounds), { from: 2, to: 7 });
  assert.deepEqual(zoomed({ from: 2, to: 7 }, 4, 4, bounds), bounds);
  assert.deepEqual(moved({ from: 2, to: 7 }, 100, bounds), { from: 5, to: 10 });
});

test("the part of the time that was chosen is of its run", () => {
  const store = storeOf();
  const window = new TimeWindow(store, () => 10);
  assert.deepEqual([window.span, window.part], [{ from: 0, to: 10.2 }, null]);
  window.show({ from: 2, to: 4 });
  window.reveal(3);
  assert.deepEqual(window.span, { from: 2, to: 4 });
  window.reveal(9);
  assert.deepEqual(window.span, { from: 8, to: 10 });
  assert.deepEqual(new TimeWindow(store, () => 10).span, { from: 8, to: 10 });
  store.live!.run = { ...store.live!.run!, id: "another" };
  assert.equal(window.part, null);
  window.show({ from: 0, to: 10.2 });
  assert.equal(window.part, null);
});

test("foreign HTML calls nothing, but links lead anywhere", () => {
  const harmless = [
    ["a", "href", "https://example.com"],
    ["img", "src", "data:image/png;base64,AA"],
    ["use", "xlink:href", "#mark"],
    ["td", "style", "color: red; text-align: right"],
    ["td", "title", "url(x)"],
  ];
  const harmful = [
    ["img", "src", "https://example.com/x.png"],
    ["img", "src", "/api/contents"],
    ["img", "srcset", "x.png 2x"],
    ["image", "href", "https://example.com/x.svg"],
    ["iframe", "src", "data:text/html,x"],
    ["td", "style", "background: URL (https://example.com)"],
    ["td", "style", "background: u\\72l(https://example.com)"],
    ["rect", "fill", "url(https://example.com/#x)"],
  ];
  assert.deepEqual(harmless.filter(([tag, name, value]) => !allows(tag!, name!, value!)), []);
  assert.deepEqual(harmful.filter(([tag, name, value]) => allows(tag!, name!, value!)), []);
});

test("keys are the app's only where no text is written and no Ctrl is held", () => {
  const store = storeOf({ status: "dfww" });
  const done: string[] = [];
  const doings = {
    help: () => done.push("help"),
    close: () => done.push("close"),
    closable: true,
    leave: () => done.push("leave"),
  };
  const press = (key: string, inInput = false, ctrlKey = false) => {
    const target = { closest: () => (inInput ? {} : null) };
    return pressKey({ key, ctrlKey, target } as unknown as KeyboardEvent, store, {} as HTMLElement, doings);
  };
  assert.equal(press("f", true), false);
  assert.equal(press("f", false, true), false);
  assert.equal(store.ui.selected, -1);
  assert.equal(press("f"), true);
  assert.equal(store.ui.selected, 1);
  assert.equal(press("Escape", true), true);
  doings.closable = false;
  assert.equal(press("Escape"), true);
  assert.deepEqual(done, ["close", "leave"]);
});
