// The main area's dashboard: the widget's own app, of the run that the panel follows.

import type { Message } from "@lumino/messaging";
import type { JSX } from "preact";

import type { CellPlace } from "../protocol";
import { App } from "../views/App";
import type { IFollower } from "./follower";
import { handoffIcon } from "./icons";
import { PreactWidget } from "./preact_widget";

export class Dashboard extends PreactWidget {
  private shown: unknown = undefined;

  constructor(
    private readonly follower: IFollower,
    private readonly goTo: (place: CellPlace) => void,
  ) {
    super();
    this.id = "handoff-lab-dashboard";
    this.addClass("hl-dashboard");
    this.addClass("hl-theme");
    this.title.label = "Handoff";
    this.title.icon = handoffIcon;
    this.title.caption = "Handoff dashboard";
    this.title.closable = true;
    this.node.tabIndex = -1;
    follower.changed.connect(this.onChanged, this);
  }

  override dispose(): void {
    this.follower.changed.disconnect(this.onChanged, this);
    super.dispose();
  }

  /** Closed is gone: else it would come back after a reload. */
  protected override onCloseRequest(message: Message): void {
    super.onCloseRequest(message);
    this.dispose();
  }

  /** The app renders its store's news itself. */
  private onChanged(): void {
    const now = this.follower.panel?.overview ? this.follower.panel : null;
    if (now !== this.shown) {
      this.shown = now;
      this.update();
    }
  }

  protected override onActivateRequest(): void {
    this.node.focus();
  }

  protected override view(): JSX.Element {
    const { panel } = this.follower;
    if (!panel?.overview) {
      return (
        <p class="hl-dashboard-empty">The current notebook does not use Handoff. In a cell: %load_ext handoff_lab</p>
      );
    }
    const { store } = panel;
    const onGoto = async (at: number) => {
      const place = await store.ask({ do: "goto", function: at });
      if (place) {
        this.goTo(place);
      }
    };
    return <App key={panel.kernel.id} store={store} onGoto={onGoto} />;
  }
}
