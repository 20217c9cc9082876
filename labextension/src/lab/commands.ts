// The commands of the palette, the menu and the status bar.

import type { ILabShell, JupyterFrontEnd } from "@jupyterlab/application";
import { WidgetTracker, type ICommandPalette } from "@jupyterlab/apputils";

import type { CellPlace, Request } from "../protocol";
import { cannot } from "../views/asking";
import { nextFailure } from "../views/Search";
import { goToCell } from "./cells";
import { Dashboard } from "./dashboard";
import type { IFollower } from "./follower";
import { handoffIcon } from "./icons";
import type { KernelPanel } from "./kernel_panel";
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
  notify(app, follower, [COMMANDS.cancel, COMMANDS.rerunFailed, COMMANDS.runStale]);
}

/** Tell when `ids` came to be enabled or disabled: menus and buttons are drawn again at each word of it. */
function notify({ commands }: JupyterFrontEnd, follower: IFollower, ids: readonly string[]): void {
  const before = new Map<string, boolean>();
  let panel: KernelPanel | null = null;
  let end = (): void => undefined;
  const look = () => {
    for (const id of ids.filter((id) => before.get(id) !== commands.isEnabled(id))) {
      before.set(id, commands.isEnabled(id));
      commands.notifyCommandChanged(id);
    }
  };
  follower.changed.connect(() => {
    if (panel !== follower.panel) {
      end();
      panel = follower.panel;
      end = panel?.store.subscribe(["functions", "run", "connection"], look) ?? (() => undefined);
    }
    look();
  });
}

function nextFailureOf({ panel }: IFollower): number {
  return panel ? nextFailure(panel.store) : -1;
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
    isEnabled: () => nextFailureOf(follower) >= 0,
    execute: async () => {
      const next = nextFailureOf(follower);
      await commands.execute(COMMANDS.dashboard);
      if (next >= 0) {
        follower.panel?.store.open(next);
      }
    },
  });
  notify(app, follower, [COMMANDS.nextFailure]);
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
