import assert from "node:assert/strict";
import { test } from "node:test";

import { type Model, ModelSource } from "../src/model_source";
import type { RequestMessage } from "../src/protocol";
import type { News } from "../src/source";

type Callback = (content?: unknown) => void;

function signal(slots: Set<() => void>): object {
  return { connect: (slot: () => void) => slots.add(slot), disconnect: (slot: () => void) => slots.delete(slot) };
}

/** anywidget's side: what it is told, and what was sent. */
class FakeModel {
  readonly sent: RequestMessage[] = [];
  readonly layout = { comm_live: true };
  readonly over = new Set<() => void>();
  readonly changed = new Set<() => void>();
  readonly widget_manager = {
    kernel: {
      isDisposed: false,
      disposed: signal(this.over),
      connectionStatus: "connected",
      connectionStatusChanged: signal(this.changed),
    },
  };
  private readonly callbacks = new Map<string, Set<Callback>>();

  get(name: string): unknown {
    return { key: "k", layout: this.layout, structure: null, state: null }[name];
  }

  on(event: string, callback: Callback): void {
    this.callbacks.set(event, (this.callbacks.get(event) ?? new Set()).add(callback));
  }

  off(event: string, callback: Callback): void {
    this.callbacks.get(event)?.delete(callback);
  }

  send(message: RequestMessage): void {
    this.sent.push(message);
  }

  trigger(event: string, content?: unknown): void {
    this.callbacks.get(event)?.forEach((callback) => callback(content));
  }
}

function pair(): { model: FakeModel; source: ModelSource } {
  const model = new FakeModel();
  return { model, source: new ModelSource(model as unknown as Model) };
}

test("a reply settles the request with its id, and no other", async () => {
  const { model, source } = pair();
  const first = source.request({ do: "cancel" });
  const second = source.request({ do: "state" });
  const [one, two] = model.sent.map(({ id }) => id);
  assert.notEqual(one, two);
  model.trigger("msg:custom", { type: "reply", id: two, error: "no" });
  model.trigger("msg:custom", { type: "reply", id: 7, value: 1 });
  model.trigger("msg:custom", { type: "reply", id: one, value: null });
  assert.equal(await first, null);
  await assert.rejects(second, /^Error: no$/);
});

test("patches and new traits are told to those who listen", () => {
  const { model, source } = pair();
  const heard: string[] = [];
  const end = source.listen((news: News) => heard.push(news.type));
  model.trigger("msg:custom", { type: "patch", seq: 1 });
  model.trigger("change:structure");
  model.trigger("change:state");
  end();
  model.trigger("change:state");
  assert.deepEqual(heard, ["patch", "structure", "state"]);
});

test("without a kernel a request fails at once, and those under way are given up", async () => {
  const { model, source } = pair();
  const under = source.request({ do: "cancel" });
  model.layout.comm_live = false;
  model.trigger("comm_live_update");
  await assert.rejects(under, /kernel went/);
  await assert.rejects(source.request({ do: "cancel" }), /No kernel/);
  assert.equal(model.sent.length, 1);
});

test("a kernel that was shut down is no connection, though the model does not say so", () => {
  const { model, source } = pair();
  const heard: string[] = [];
  source.listen((news) => heard.push(news.type));
  assert.equal(source.connected(), true);
  model.widget_manager.kernel.isDisposed = true;
  model.over.forEach((slot) => slot());
  assert.equal(source.connected(), false);
  assert.deepEqual(heard, ["connection"]);
});

test("while the connection is lost there is no kernel; when it is back, what was missed is asked for", async () => {
  const { model, source } = pair();
  const { kernel } = model.widget_manager;
  const under = source.request({ do: "cancel" });
  kernel.connectionStatus = "connecting";
  model.changed.forEach((slot) => slot());
  assert.equal(source.connected(), false);
  await assert.rejects(source.request({ do: "cancel" }), /No kernel/);
  kernel.connectionStatus = "connected";
  model.changed.forEach((slot) => slot());
  assert.deepEqual(model.sent.at(-1)?.request, { do: "state" });
  model.trigger("msg:custom", { type: "reply", id: model.sent[0]?.id, value: null });
  assert.equal(await under, null);
});

test("a source that was disposed of listens no more", () => {
  const { model, source } = pair();
  const heard: string[] = [];
  source.listen((news) => heard.push(news.type));
  source.dispose();
  model.trigger("change:state");
  assert.equal(model.over.size + model.changed.size, 0);
  assert.deepEqual(heard, []);
});
