// The commands of the palette, the menu and the status bar.

import type { ILabShell, JupyterFrontEnd } from "@jupyterlab/application";
import { WidgetTracker, type ICommandPalette } from "@jupyterlab/apputils";

import type { CellPlace, Request } from "../protocol";
import type { Store } from "../store";
import { cannot } from "../views/asking";
import { goToCell } from "./cells";
import { Dashboard } from "./dashboard";
import type { IFollower } from "./follower";
import { handoffIcon } from "./icons";
import type { Sidebar } from "./sidebar";

export const COMMANDS = {
  dashboard: "handoff-lab:open-dashboard",
  panel: "handoff-lab:show-panel",
  cancel: "handoff-lab:cancel-run",
  rerunFailed: "handoff-lab:rerun-failed",
  runStale: "handoff-lab:run-stale",
  nextFailure: "handoff-lab:next-failure",
} as const;

export function addPanelCommands(app: JupyterFrontEnd, follower: IFollower, sidebar: Sidebar): void {
  const { commands, shell } = app;
  commands.addCommand(COMMANDS.panel, {
    label: "Show Panel",
    caption: "Nodes, runs and functions of the current notebook",
    execute: () => shell.activateById(sidebar.id),
  });
  const verbs: [string, string, "cancel" | "failed" | "stale", Request][] = [
    [COMMANDS.cancel, "Cancel Run", "cancel", { do: "cancel" }],
    [COMMANDS.rerunFailed, "Re-run Failed Functions", "failed", { do: "rerun", what: "failed" }],
    [COMMANDS.runStale, "Run Stale Functions", "stale", { do: "rerun", what: "stale" }],
  ];
  for (const [id, label, verb, request] of verbs) {
    commands.addCommand(id, {
      label,
      isEnabled: () => follower.panel !== null && cannot(follower.panel.store, verb) === null,
      execute: () => follower.panel?.store.ask(request),
    });
  }
  follower.changed.connect(() => commands.notifyCommandChanged());
}

export function addDashboardCommands(
  app: JupyterFrontEnd,
  shell: ILabShell,
  follower: IFollower,
): WidgetTracker<Dashboard> {
  const { commands } = app;
  const tracker = new WidgetTracker<Dashboard>({ namespace: "handoff-lab" });
  commands.addCommand(COMMANDS.dashboard, {
    label: "Open Dashboard",
    caption: "The run of the current notebook: graph, nodes, timeline and table",
    icon: handoffIcon,
    execute: () => {
      const dashboard = tracker.find(() => true) ?? new Dashboard(follower, (place) => goToPlace(app, follower, place));
      if (!dashboard.isAttached) {
        const beside = follower.notebook;
        shell.add(dashboard, "main", beside ? { mode: "split-right", ref: beside.id } : {});
        void tracker.add(dashboard);
      }
      shell.activateById(dashboard.id);
    },
  });
  commands.addCommand(COMMANDS.nextFailure, {
    label: "Next Failure",
    isEnabled: () => nextFailure(follower.panel?.store ?? null) >= 0,
    execute: async () => {
      const store = follower.panel?.store ?? null;
      const next = nextFailure(store);
      await commands.execute(COMMANDS.dashboard);
      if (store && next >= 0) {
        store.open(next);
      }
    },
  });
  return tracker;
}

export function goToPlace(app: JupyterFrontEnd, follower: IFollower, place: CellPlace): void {
  if (follower.notebook) {
    void goToCell(app, follower.notebook, place);
  }
}

export function addToPalette(palette: ICommandPalette | null, commands: readonly string[]): void {
  for (const command of commands) {
    palette?.addItem({ command, category: "Handoff" });
  }
}

/** The failure after the selected function, around the end; -1: there is none. */
function nextFailure(store: Store | null): number {
  if (!store?.live || store.live.counts.f === 0) {
    return -1;
  }
  const { status } = store.live;
  const after = status.indexOf("f", store.ui.selected + 1);
  return after >= 0 ? after : status.indexOf("f");
}
