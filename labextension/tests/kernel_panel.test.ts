// The panel's side of a kernel: how it finds the comm, asks, and forgets.

import assert from "node:assert/strict";
import { test } from "node:test";

import type { Kernel } from "@jupyterlab/services";
import { Signal } from "@lumino/signaling";

import { KernelPanel } from "../src/lab/kernel_panel";
import type { Overview, PanelMessage, PanelNews } from "../src/protocol";

class FakeComm {
  onMsg: (message: unknown) => void = () => undefined;
  onClose: () => void = () => undefined;
  readonly sent: PanelMessage[] = [];
  isDisposed = false;

  constructor(readonly commId: string) {}

  send(message: PanelMessage): void {
    this.sent.push(message);
  }

  hears(data: PanelNews): void {
    this.onMsg({ content: { data } });
  }

  dispose(): void {
    this.isDisposed = true;
  }
}

class FakeKernel {
  readonly info = Promise.resolve({});
  readonly statusChanged = new Signal<this, string>(this);
  readonly connectionStatusChanged = new Signal<this, string>(this);
  readonly supportsSubshells = false;
  connectionStatus = "connected";
  isDisposed = false;
  comm = new FakeComm("comm-1");
  open: ((comm: FakeComm) => void) | null = null;

  constructor(readonly known: string[] = []) {}

  registerCommTarget(target: string, open: (comm: FakeComm) => void): void {
    assert.equal(target, "handoff_lab.panel");
    this.open = open;
  }

  removeCommTarget(_target: string, open: (comm: FakeComm) => void): void {
    assert.equal(open, this.open);
    this.open = null;
  }

  async requestCommInfo(): Promise<unknown> {
    return { content: { status: "ok", comms: Object.fromEntries(this.known.map((id) => [id, {}])) } };
  }

  hasComm(): boolean {
    return false;
  }

  createComm(_target: string, id: string): FakeComm {
    this.comm = new FakeComm(id);
    return this.comm;
  }
}

const OVERVIEW: Overview = { dag: "d", functions: [], more: 0, runs: [], nodes: [], following: null };

function connect(kernel = new FakeKernel()): { kernel: FakeKernel; panel: KernelPanel } {
  return { kernel, panel: new KernelPanel(kernel as unknown as Kernel.IKernelConnection) };
}

function opened(): { kernel: FakeKernel; panel: KernelPanel } {
  const { kernel, panel } = connect();
  kernel.open!(kernel.comm);
  kernel.comm.hears({ type: "overview", whole: true, overview: OVERVIEW });
  return { kernel, panel };
}

const settled = () => new Promise((resolve) => setTimeout(resolve));

test("a comm that the kernel opens is greeted", () => {
  const { kernel, panel } = connect();
  assert.equal(panel.connected(), false);
  kernel.open!(kernel.comm);
  assert.deepEqual(kernel.comm.sent, [{ type: "hello" }]);
  assert.equal(panel.connected(), true);
});

test("a comm that is there already is found after a reload", async () => {
  const { kernel, panel } = connect(new FakeKernel(["comm-9"]));
  await settled();
  assert.equal(kernel.comm.commId, "comm-9");
  assert.deepEqual(kernel.comm.sent, [{ type: "hello" }]);
  assert.equal(panel.connected(), true);
});

test("nothing is sent to a kernel without handoff_lab", async () => {
  const { kernel, panel } = connect();
  await settled();
  assert.deepEqual(kernel.comm.sent, []);
  await assert.rejects(panel.request({ do: "cancel" }), /kernel is gone/);
});

test("an overview is whole first, then has what changed", () => {
  const { kernel, panel } = connect();
  kernel.open!(kernel.comm);
  kernel.comm.hears({ type: "overview", whole: false, overview: { more: 3 } });
  assert.equal(panel.overview, null);
  kernel.comm.hears({ type: "overview", whole: true, overview: OVERVIEW });
  kernel.comm.hears({ type: "overview", whole: false, overview: { more: 3 } });
  assert.deepEqual(panel.overview, { ...OVERVIEW, more: 3 });
});

test("a request gets its own reply", async () => {
  const { kernel, panel } = opened();
  const export_ = panel.request({ do: "export", format: "csv" });
  const cancel = panel.request({ do: "cancel" });
  const [, first, second] = kernel.comm.sent as { id: number }[];
  kernel.comm.hears({ type: "reply", id: first!.id + 1000, value: "of another page" });
  kernel.comm.hears({ type: "reply", id: second!.id, error: "the run is over" });
  kernel.comm.hears({ type: "reply", id: first!.id, value: { name: "a.csv" } });
  await assert.rejects(cancel, /the run is over/);
  assert.deepEqual(await export_, { name: "a.csv" });
});

test("a restart forgets what was known, and what was asked", async () => {
  const { kernel, panel } = opened();
  const cancel = panel.request({ do: "cancel" });
  kernel.statusChanged.emit("restarting");
  await assert.rejects(cancel, /restarted/);
  assert.equal(panel.overview, null);
  assert.equal(panel.connected(), false);
  kernel.open!(new FakeComm("comm-2"));
  assert.equal(panel.connected(), true);
});

test("a comm that was replaced may close", () => {
  const { kernel, panel } = opened();
  const first = kernel.comm;
  kernel.open!(new FakeComm("comm-2"));
  first.onClose();
  assert.equal(panel.connected(), true);
});

test("a page that was away greets again", () => {
  const { kernel } = opened();
  kernel.connectionStatusChanged.emit("connecting");
  kernel.connectionStatusChanged.emit("connected");
  assert.deepEqual(kernel.comm.sent, [{ type: "hello" }, { type: "hello" }]);
});

test("a comm that was opened while the page was away is found", async () => {
  const kernel = new FakeKernel();
  const { panel } = connect(kernel);
  await settled();
  kernel.known.push("comm-5");
  kernel.connectionStatusChanged.emit("connected");
  await settled();
  assert.equal(kernel.comm.commId, "comm-5");
  assert.equal(panel.connected(), true);
});

test("when it is disposed, the comm stays for other pages", () => {
  const { kernel, panel } = opened();
  panel.dispose();
  assert.equal(kernel.open, null);
  assert.equal(kernel.comm.isDisposed, true);
  assert.deepEqual(kernel.comm.sent, [{ type: "hello" }]);
});
