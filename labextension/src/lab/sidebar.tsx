// The left sidebar: nodes, runs and functions of the current notebook's kernel.

import type { JSX } from "preact";

import type { CellPlace, FunctionRow, NodeState, Overview, RunRow } from "../protocol";
import { RUN_LETTERS, statusWord } from "../status";
import { count, plural } from "../views/format";
import { Gauge } from "../views/Gauge";
import { NodeBadge, StatusIcon } from "../views/parts";
import type { IFollower } from "./follower";
import { handoffIcon } from "./icons";
import { PreactWidget } from "./preact_widget";

export interface SidebarActions {
  /** Tells whether a place can be gone to, as the notebook is now. */
  cells(): (place: CellPlace) => boolean;
  goTo(place: CellPlace): void;
  openRun(run: string): void;
}

export class Sidebar extends PreactWidget {
  constructor(
    private readonly follower: IFollower,
    private readonly actions: SidebarActions,
  ) {
    super();
    this.id = "handoff-lab-panel";
    this.addClass("hl-sidebar");
    this.addClass("hl-theme");
    this.title.icon = handoffIcon;
    this.title.caption = "Handoff: nodes, runs and functions of the current notebook";
    this.node.setAttribute("role", "region");
    this.node.setAttribute("aria-label", "Handoff");
    follower.changed.connect(() => this.update());
  }

  protected override view(): JSX.Element {
    const overview = this.follower.panel?.overview;
    return overview ? <Overviews overview={overview} actions={this.actions} /> : <Nothing follower={this.follower} />;
  }
}

function Nothing({ follower }: { follower: IFollower }): JSX.Element {
  const where = follower.panel ? "This notebook does not use Handoff yet. To begin," : "Open a notebook, and";
  return (
    <div class="hl-sidebar-empty">
      <span class="hl-sidebar-mark" dangerouslySetInnerHTML={{ __html: handoffIcon.svgstr }} />
      <p>{where} run in a cell:</p>
      <pre>%load_ext handoff_lab</pre>
      <p>Its nodes, runs and functions are shown here then.</p>
    </div>
  );
}

interface PartProps {
  overview: Overview;
  actions: SidebarActions;
}

function Overviews({ overview, actions }: PartProps): JSX.Element {
  const isThere = actions.cells();
  const nodes = new Map(overview.nodes.map((node) => [node.name, node]));
  return (
    <>
      <Section
        part="nodes"
        title="Nodes"
        size={overview.nodes.length}
        empty="No cluster was started yet: %handoff start"
      >
        {overview.nodes.map((node) => (
          <Node key={node.name} node={node} />
        ))}
      </Section>
      <Section part="runs" title="Runs" size={overview.runs.length} empty="Nothing was run yet: %handoff run">
        <ul>
          {overview.runs.map((run) => (
            <Run
              key={run.id}
              run={run}
              followed={run.id === overview.following}
              onOpen={() => actions.openRun(run.id)}
            />
          ))}
        </ul>
      </Section>
      <Section
        part="functions"
        title="Functions"
        size={overview.functions.length + overview.more}
        note={staleNote(overview.functions)}
        empty="No functions are defined yet: begin a cell with %%handoff"
      >
        <ul>
          {overview.functions.map((row) => (
            <FunctionItem
              key={row.id}
              row={row}
              node={nodes.get(row.node ?? "")}
              onGoto={row.place && isThere(row.place) ? actions.goTo : null}
            />
          ))}
        </ul>
        {overview.more > 0 && <p class="hl-sidebar-note">and {count(overview.more)} more</p>}
      </Section>
    </>
  );
}

interface SectionProps {
  part: string;
  title: string;
  size: number;
  note?: string;
  empty: string;
  children: JSX.Element | JSX.Element[] | (JSX.Element | false)[];
}

function Section({ part, title, size, note, empty, children }: SectionProps): JSX.Element {
  return (
    <section data-part={`panel-${part}`} aria-label={title}>
      <h2>
        {title} <span class="hl-count">{count(size)}</span>
        {note && <span class="hl-note">{note}</span>}
      </h2>
      {size > 0 ? children : <p class="hl-sidebar-note">{empty}</p>}
    </section>
  );
}

function staleNote(rows: FunctionRow[]): string {
  const stale = rows.filter((row) => row.stale).length;
  return stale > 0 ? `${count(stale)} stale` : "";
}

function Node({ node }: { node: NodeState }): JSX.Element {
  const { lost } = node;
  return (
    <div class="hl-sidebar-node" data-node-status={node.status}>
      <h3>
        <NodeBadge node={node} />
        <span class="hl-node-name">{node.name}</span>
        {node.status !== "up" && <span class="hl-node-status">{node.status}</span>}
      </h3>
      {lost && <p class="hl-sidebar-note">{lost.reason}</p>}
      {!lost &&
        Object.entries(node.resources).map(([name, resource]) => (
          <Gauge key={name} node={node} name={name} resource={resource} />
        ))}
    </div>
  );
}

function Run({ run, followed, onOpen }: { run: RunRow; followed: boolean; onOpen: () => void }): JSX.Element {
  const over = run.done + run.failed;
  const started = run.started === null ? "" : new Date(run.started * 1000).toLocaleTimeString();
  return (
    <li>
      <button
        type="button"
        class="hl-row"
        data-run={run.id}
        data-run-status={run.status}
        aria-current={followed ? "true" : undefined}
        title={`${run.id}${started && `, started ${started}`}\nClick: show it in the dashboard`}
        onClick={onOpen}
      >
        <StatusIcon status={RUN_LETTERS[run.status]} />
        <span class="hl-row-name">{run.dag}</span>
        <span class="hl-row-id">{run.id}</span>
        <span class="hl-row-number" aria-label={`${run.status}, ${over} of ${plural(run.total, "function")}`}>
          {run.failed > 0 && <b>{run.failed} failed </b>}
          {run.done}/{run.total}
        </span>
        <span class="hl-segments" aria-hidden="true">
          {(["d", "f", "r"] as const).map((letter) => (
            <span key={letter} data-letter={letter} style={{ width: share(letter, run) }} />
          ))}
        </span>
      </button>
    </li>
  );
}

function share(letter: "d" | "f" | "r", run: RunRow): string {
  const functions = { d: run.done, f: run.failed, r: run.running }[letter];
  return `${(100 * functions) / Math.max(run.total, 1)}%`;
}

interface FunctionProps {
  row: FunctionRow;
  node: NodeState | undefined;
  /** null: its cell is not in this notebook. */
  onGoto: ((place: CellPlace) => void) | null;
}

function FunctionItem({ row, node, onGoto }: FunctionProps): JSX.Element {
  const { place } = row;
  return (
    <li>
      <button
        type="button"
        class="hl-row"
        data-function={row.id}
        data-stale={row.stale ? "true" : undefined}
        aria-disabled={onGoto ? undefined : "true"}
        title={onGoto ? "Go to its cell" : `Defined ${place ? `in ${place.label}` : "outside of this notebook"}`}
        onClick={() => place && onGoto?.(place)}
      >
        <StatusIcon status={row.status ?? "w"} />
        <span class="hl-row-name">{row.id}</span>
        <span class="hl-hidden">{statusWord(row.status ?? "w")}</span>
        {row.stale && <span class="hl-stale">stale</span>}
        {node && <NodeBadge node={node} />}
        {row.node && <span class="hl-hidden">on {row.node}</span>}
      </button>
    </li>
  );
}
