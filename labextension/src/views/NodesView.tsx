// The nodes: how full each is, and what runs there.

import type { JSX } from "preact";
import { useMemo } from "preact/hooks";

import { useChanges, useStore, useStoreValue } from "../hooks";
import type { NodeState, StatusLetter } from "../protocol";
import type { Store } from "../store";
import { moment, plural } from "./format";
import { Gauge } from "./Gauge";
import { NodeBadge, StatusIcon } from "./parts";

export function NodesView({ store }: { store: Store }): JSX.Element {
  useStore(store, "nodes", "structure");
  const highlighted = useStoreValue(store, () => store.ui.highlightedNode, "view");
  const nodes = store.live?.nodes ?? [];
  const sums = useMemo(() => sumUp(store), [useChanges(store), nodes.length]);
  return (
    <div class="hl-nodes">
      {nodes.length === 0 && <p class="hl-empty">No node has a function yet.</p>}
      {nodes.map((node, at) => (
        <Node key={node.name} store={store} node={node} at={at} on={at === highlighted} sum={sums[at]!} />
      ))}
    </div>
  );
}

interface Sum {
  running: number;
  failed: number;
  done: number;
}

/** What each node's functions are up to. */
function sumUp({ live }: Store): Sum[] {
  const sums = (live?.nodes ?? []).map(() => ({ running: 0, failed: 0, done: 0 }));
  live?.node.forEach((node, at) => {
    const [sum, kind] = [sums[node], KINDS[live.status[at]!]];
    if (sum && kind) {
      sum[kind] += 1;
    }
  });
  return sums;
}

const KINDS: Partial<Record<StatusLetter, keyof Sum>> = { r: "running", f: "failed", d: "done", c: "done" };

interface NodeProps {
  store: Store;
  node: NodeState;
  at: number;
  /** Its functions stand out. */
  on: boolean;
  sum: Sum;
}

function Node({ store, node, at, on, sum }: NodeProps): JSX.Element {
  return (
    <article
      class="hl-node"
      data-node-status={node.status}
      data-highlighted={on ? "true" : undefined}
      aria-label={`node ${node.name}`}
    >
      <button
        type="button"
        class="hl-node-head"
        aria-pressed={on}
        title={on ? "Show all functions alike" : `Make the functions on ${node.name} stand out`}
        onClick={() => store.update({ highlightedNode: on ? -1 : at })}
      >
        <NodeBadge node={node} />
        <span class="hl-node-name">{node.name}</span>
        {node.status !== "up" && <span class="hl-node-status">{node.status}</span>}
        <span class="hl-grow" />
        <span class="hl-node-sum">
          {sum.failed > 0 && <Part letter="f" count={sum.failed} word="failed" />}
          {sum.running > 0 && <Part letter="r" count={sum.running} word="running" />}
          {sum.done > 0 && <Part letter="d" count={sum.done} word="done" />}
        </span>
      </button>
      {node.status === "lost" ? (
        <Loss store={store} node={node} />
      ) : (
        Object.entries(node.resources).map(([name, resource]) => (
          <Gauge key={name} node={node} name={name} resource={resource} />
        ))
      )}
    </article>
  );
}

function Part({ letter, count, word }: { letter: StatusLetter; count: number; word: string }): JSX.Element {
  return (
    <span class="hl-node-part" data-letter={letter} title={`${count} ${word}`}>
      <StatusIcon status={letter} />
      {count}
      <span class="hl-hidden"> {word}</span>
    </span>
  );
}

/** When and why the node went, and what moved. */
function Loss({ store, node }: { store: Store; node: NodeState }): JSX.Element {
  const { lost } = node;
  if (!lost) {
    return <p class="hl-loss">It is gone.</p>;
  }
  return (
    <div class="hl-loss">
      <p>
        Lost at {moment(lost.at)}: {lost.reason}.{" "}
        {lost.moved.length > 0 ? `${plural(lost.moved.length, "function")} moved:` : "No function had to move."}
      </p>
      {lost.moved.length > 0 && (
        <ul>
          {lost.moved.map((at) => (
            <li key={at}>
              <button type="button" class="hl-link" onClick={() => store.open(at)}>
                {store.structure?.ids[at]}
              </button>
              {store.nodeOf(at) && <span> → {store.nodeOf(at)!.name}</span>}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
