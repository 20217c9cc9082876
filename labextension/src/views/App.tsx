// All views of a run in one: the header, graph or table, nodes, timeline, and details of what is selected.

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { GraphView } from "../graph/GraphView";
import { useStoreValue, useUniqueName } from "../hooks";
import type { Layout } from "../protocol";
import type { Store } from "../store";
import { DetailsView } from "./DetailsView";
import { Header } from "./Header";
import { pressKey } from "./keys";
import { KeysHelp } from "./KeysHelp";
import { NodesView } from "./NodesView";
import { useRemembered } from "./remembered";
import { Section } from "./Section";
import { TableView } from "./TableView";
import { Filters, type Tab, Tabs } from "./Tabs";
import { TimelineView } from "./TimelineView";

interface Props {
  store: Store;
  /** Goes to the cell that defines the function, where the front end can. */
  onGoto?: (at: number) => void;
}

export function App({ store, onGoto }: Props): JSX.Element {
  const status = useStoreValue(store, () => store.live?.run?.status ?? "none", "run");
  const name = useStoreValue(store, () => store.structure?.name || "DAG", "structure");
  const selected = useStoreValue(store, () => store.ui.selected, "view");
  const root = useRef<HTMLDivElement>(null);
  const [keys, setKeys] = useState(false);
  const details = useDetailsFocus(store, root);

  const keyDown = (event: KeyboardEvent) => {
    const done = pressKey(event, store, root.current!, {
      help: () => setKeys(!keys),
      close: () => (keys ? setKeys(false) : details.close()),
      closable: keys || store.ui.selected >= 0,
      leave: () => leave(root.current!),
    });
    if (done) {
      event.preventDefault();
    }
    // JupyterLab hears keys at the document: its shortcuts act on the cell, so only those with Ctrl or Cmd may pass,
    // such as saving. Its attribute against shortcuts is no help: those of the command mode match the focus itself.
    if (!event.ctrlKey && !event.metaKey) {
      event.stopPropagation();
    }
  };
  return (
    <div
      class="hl-app hl-theme"
      ref={root}
      role="region"
      aria-label={`Handoff: ${name}`}
      data-run-status={status}
      onKeyDown={keyDown}
    >
      <Header store={store} onKeys={() => setKeys(!keys)} />
      <div class="hl-body" data-details={selected >= 0 ? "true" : undefined}>
        <div class="hl-stack">
          <div class="hl-parts">
            <Main store={store} />
            <Section store={store} name="nodes" title="Nodes" note={<NodesLegend />}>
              <NodesView store={store} />
            </Section>
            <Section store={store} name="timeline" title="Timeline" note={<TimelineLegend />}>
              <TimelineView store={store} />
            </Section>
          </div>
        </div>
        {selected >= 0 && (
          <DetailsView store={store} at={selected} focus={details.focus} onClose={details.close} onGoto={onGoto} />
        )}
      </div>
      {keys && <KeysHelp onClose={() => setKeys(false)} />}
    </div>
  );
}

/** Back to what the app is in, such as the notebook's cell, whose keys work then. */
function leave(root: HTMLElement): void {
  (document.activeElement as HTMLElement | null)?.blur();
  root.parentElement?.closest<HTMLElement>("[tabindex]")?.focus({ preventScroll: true });
}

/** Graph or table: equals, so that one place holds either. What a fold or a level stands for is shown as a table. */
function Main({ store }: { store: Store }): JSX.Element {
  const [wished, setWished] = useRemembered<Tab>(store, "tab", "graph");
  const layout = useStoreValue(store, () => store.structure?.layout ?? null, "structure");
  const members = useStoreValue(store, () => store.ui.members, "view");
  const [forced, setForced] = useState<Tab | null>(members && "table");
  useEffect(() => setForced(members && "table"), [members]);
  const panel = useUniqueName();
  const tab = forced ?? wished;
  const pick = (tab: Tab) => {
    setForced(null);
    setWished(tab);
  };
  return (
    <div class="hl-main">
      <div class="hl-main-head">
        <Tabs tab={tab} panel={panel} onTab={pick} />
        <Filters store={store} />
      </div>
      <div class="hl-panel" id={panel} role="tabpanel" style={{ "--hl-wish": `${wishedHeight(layout)}px` }}>
        {tab === "graph" ? (
          <GraphView store={store} />
        ) : (
          <section class="hl-table-part" data-part="table" aria-label="Table">
            <TableView store={store} />
          </section>
        )}
      </div>
    </div>
  );
}

const USUAL_WIDTH = 760;

/** High enough for the graph at its own size; in a notebook, not higher. */
function wishedHeight(layout: Layout | null): number {
  return layout ? Math.round(layout.height * Math.min(1, USUAL_WIDTH / layout.width)) + 64 : 360;
}

function NodesLegend(): JSX.Element {
  return (
    <span class="hl-key" aria-hidden="true">
      <i class="hl-key-claimed" /> claimed <i class="hl-key-used" /> used
    </span>
  );
}

function TimelineLegend(): JSX.Element {
  return (
    <span class="hl-key" aria-hidden="true">
      <i class="hl-key-used" /> ran <i class="hl-key-planned" /> planned <i class="hl-key-moved" /> result on its way
    </span>
  );
}

/** Details take the focus when they are opened by key, and give it back when they close. */
function useDetailsFocus(store: Store, root: { current: HTMLElement | null }): { focus: number; close: () => void } {
  const [focus, setFocus] = useState(0);
  const opener = useRef<HTMLElement | null>(null);
  useEffect(
    () =>
      store.subscribe(["open"], () => {
        const active = document.activeElement as HTMLElement | null;
        const app = active?.closest(".hl-app") ?? root.current;
        if (app !== root.current) {
          return; // another view of the model
        }
        if (active && root.current?.contains(active) && !active.closest(".hl-details")) {
          opener.current = active;
        }
        setFocus((count) => count + 1);
      }),
    [store],
  );
  // However they closed, the next ones take the focus only if they are opened: not from who goes through matches.
  useEffect(() => store.subscribe(["view"], () => store.ui.selected < 0 && setFocus(0)), [store]);
  const close = () => {
    const inside = document.activeElement?.closest(".hl-details");
    store.update({ selected: -1 });
    if (inside) {
      const stop = root.current?.querySelector<HTMLElement | SVGElement>(".hl-table, .hl-room [tabindex='0']");
      (opener.current?.isConnected ? opener.current : stop)?.focus();
    }
  };
  return { focus, close };
}
