// How a request reaches the kernel at once, also while a cell runs.
//
// A comm message waits for the running cell: ipykernel sends it to the shell that the comm last spoke from, whatever
// its header says. An execute_request in a sub-shell (JEP 91) is answered beside the cell. The answer itself comes as
// a message of the comm.

import type { PanelMessage } from "./protocol";

type StatusSlot = (sender: unknown, status: string) => void;

/** What of JupyterLab's IKernelConnection is used here; other front ends have none of it. */
export interface Kernel {
  readonly clientId: string;
  readonly username: string;
  readonly isDisposed: boolean;
  readonly supportsSubshells: boolean;
  readonly statusChanged: Record<"connect" | "disconnect", (slot: StatusSlot) => unknown>;
  requestCreateSubshell(content: Record<string, never>): { done: Promise<{ content: object }> };
  sendShellMessage(message: never, expectReply: true, disposeOnDone: true): { done: Promise<unknown> };
}

const subshells = new WeakMap<Kernel, Promise<string>>();

/** The kernel, where it can answer beside a running cell. */
export function openKernel(candidate: unknown): Kernel | null {
  const kernel = candidate as Partial<Kernel> | null | undefined;
  return kernel && kernel.supportsSubshells === true && kernel.isDisposed === false ? (kernel as Kernel) : null;
}

/** Have `handoff_lab.widgets` answer for the viewer `key`; rejects when the kernel cannot. */
export async function sendOverKernel(kernel: Kernel, key: string, message: PanelMessage): Promise<void> {
  const text = JSON.stringify(JSON.stringify(message)); // a JSON string is a Python string
  const code = `__import__("handoff_lab.widgets").widgets.answer(${JSON.stringify(key)}, ${text})`; // leaves no name
  const sent = kernel.sendShellMessage(executeRequest(kernel, await subshellOf(kernel), code) as never, true, true);
  const reply = (await sent.done) as { content: { status: string; ename?: string; evalue?: string } };
  if (reply.content.status !== "ok") {
    throw new Error(`the kernel could not answer: ${reply.content.evalue || reply.content.ename || "unknown reason"}`);
  }
}

/** One sub-shell per connection, for all widgets and the panel. */
function subshellOf(kernel: Kernel): Promise<string> {
  let subshell = subshells.get(kernel);
  if (!subshell) {
    const forget = () => {
      subshells.delete(kernel);
      kernel.statusChanged.disconnect(hear);
    };
    const hear = (_: unknown, status: string) => {
      if (status === "restarting" || status === "autorestarting") forget(); // it went with the old process
    };
    subshell = createSubshell(kernel);
    subshell.catch(forget);
    kernel.statusChanged.connect(hear);
    subshells.set(kernel, subshell);
  }
  return subshell;
}

async function createSubshell(kernel: Kernel): Promise<string> {
  const { content } = await kernel.requestCreateSubshell({}).done;
  const { subshell_id, evalue } = content as { subshell_id?: string; evalue?: string };
  if (!subshell_id) throw new Error(`the kernel made no sub-shell: ${evalue ?? "unknown reason"}`);
  return subshell_id;
}

function executeRequest(kernel: Kernel, subshell: string, code: string): object {
  return {
    channel: "shell",
    header: {
      msg_id: uniqueId(),
      msg_type: "execute_request",
      session: kernel.clientId,
      username: kernel.username,
      date: new Date().toISOString(),
      version: "5.4",
      subshell_id: subshell,
    },
    parent_header: {},
    metadata: {},
    buffers: [],
    content: {
      code,
      silent: true,
      store_history: false,
      user_expressions: {},
      allow_stdin: false,
      stop_on_error: false,
    },
  };
}

/** As crypto.randomUUID, which pages over plain http lack. */
function uniqueId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
