// The status bar: how far the run is, and on how many nodes.

import type { JSX } from "preact";

import { RUN_LETTERS, STATUS } from "../status";
import { plural } from "../views/format";
import type { IFollower } from "./follower";
import { PreactWidget } from "./preact_widget";

export class StatusItem extends PreactWidget {
  constructor(
    private readonly follower: IFollower,
    private readonly open: () => void,
  ) {
    super();
    this.addClass("hl-status-item");
    follower.changed.connect(() => this.update());
  }

  /** Whether there is anything to tell. */
  get isActive(): boolean {
    return this.follower.panel?.overview != null;
  }

  protected override view(): JSX.Element | null {
    const overview = this.follower.panel?.overview;
    if (!overview) {
      return null;
    }
    const run = overview.runs.find(({ status }) => status === "running") ?? overview.runs[0];
    const nodes = plural(overview.nodes.length, "node");
    const count = run?.status === "running" ? run.running : run?.done;
    const text = run ? `${STATUS[RUN_LETTERS[run.status]].sign} ${count}/${run.total}` : "Handoff";
    const story = run
      ? `Handoff: run ${run.id} of ${run.dag} is ${run.status}: ` +
        `${run.running} running, ${run.done} done, ${run.failed} failed of ${plural(run.total, "function")}; ${nodes}`
      : `Handoff: nothing was run yet; ${nodes}`;
    return (
      <button type="button" title={`${story}\nClick: open the dashboard`} aria-label={story} onClick={this.open}>
        {text} · {nodes}
      </button>
    );
  }
}
