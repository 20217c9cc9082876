import type { JSX } from "preact";

import { useStore } from "../hooks";
import { statusWord } from "../status";
import type { Store } from "../store";
import { bytes, duration } from "./format";
import { FunctionStatus, NodeBadge } from "./parts";
import { waited } from "./rows";

interface Props {
  store: Store;
  at: number;
  /** The row's id in the page. */
  name: string;
  /** Of the row in the whole table, from 1. */
  number: number;
  active: boolean;
  onPick: () => void;
}

export function Row({ store, at, name, number, active, onPick }: Props): JSX.Element {
  const { live, structure } = store;
  const status = store.status(at);
  const node = store.nodeOf(at);
  const stale = live?.stale.has(at) ?? false;
  return (
    <tr
      id={name}
      role="row"
      aria-rowindex={number}
      aria-selected={at === store.ui.selected}
      data-active={active ? "true" : undefined}
      data-function={structure!.ids[at]}
      data-status={statusWord(status)}
      data-node={node?.name ?? ""}
      onClick={onPick}
    >
      <td role="rowheader" title={structure!.ids[at]}>
        {structure!.ids[at]}
        {stale && <span class="hl-stale-mark">stale</span>}
      </td>
      <td role="gridcell" title={live?.errors.get(at)}>
        <FunctionStatus store={store} at={at} />
      </td>
      <td role="gridcell">
        {node && (
          <span class="hl-at-node">
            <NodeBadge node={node} /> {node.name}
          </span>
        )}
      </td>
      {live && status === "r" ? <Ticking store={store} at={at} /> : <Times store={store} at={at} />}
      <td role="gridcell">{duration(live?.transfer[at] ?? null)}</td>
      <td role="gridcell">{bytes(live?.peak[at] ?? null)}</td>
      <td role="gridcell">{live?.attempts[at] || "–"}</td>
    </tr>
  );
}

function Ticking({ store, at }: { store: Store; at: number }): JSX.Element {
  useStore(store, "clock");
  return <Times store={store} at={at} />;
}

function Times({ store, at }: { store: Store; at: number }): JSX.Element {
  const { live } = store;
  return (
    <>
      <td role="gridcell">{duration(live ? waited(live, at, store.now()) : null)}</td>
      <td role="gridcell">{duration(store.duration(at))}</td>
    </>
  );
}
