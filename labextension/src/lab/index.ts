// What JupyterLab loads. Where a part of it is missing, as in Notebook 7, the others work.

import {
  ILabShell,
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin,
} from "@jupyterlab/application";
import { ICommandPalette } from "@jupyterlab/apputils";
import { IConsoleTracker } from "@jupyterlab/console";
import { INotebookTracker } from "@jupyterlab/notebook";
import { IStatusBar } from "@jupyterlab/statusbar";
import { Signal } from "@lumino/signaling";

import "../../style/index.css";
import "../../style/lab.css";
import { cellFinder } from "./cells";
import { addDashboardCommands, addPanelCommands, addToPalette, COMMANDS, goToPlace } from "./commands";
import { Follower, IFollower } from "./follower";
import { showSavedViews } from "./saved_view";
import { Sidebar } from "./sidebar";
import { StatusItem } from "./status_item";

const follower: JupyterFrontEndPlugin<IFollower> = {
  id: "handoff-lab:follower",
  description: "Follows the kernel of the current notebook or console.",
  autoStart: true,
  optional: [INotebookTracker, IConsoleTracker],
  provides: IFollower,
  activate: (_app: JupyterFrontEnd, notebooks: INotebookTracker | null, consoles: IConsoleTracker | null) =>
    new Follower(notebooks, consoles),
};

const panel: JupyterFrontEndPlugin<void> = {
  id: "handoff-lab:panel",
  description: "The sidebar: nodes, runs, functions.",
  autoStart: true,
  requires: [IFollower],
  optional: [ICommandPalette, ILayoutRestorer],
  activate: (
    app: JupyterFrontEnd,
    follower: IFollower,
    palette: ICommandPalette | null,
    restorer: ILayoutRestorer | null,
  ) => {
    const sidebar = new Sidebar(follower, {
      cells: () => cellFinder(follower.notebook),
      goTo: (place) => goToPlace(app, follower, place),
      openRun: (run) => {
        follower.panel?.follow(run);
        openDashboard(app);
      },
    });
    app.shell.add(sidebar, "left", { rank: 650 });
    restorer?.add(sidebar, sidebar.id);
    addPanelCommands(app, follower, sidebar);
    addToPalette(palette, [COMMANDS.panel, COMMANDS.cancel, COMMANDS.rerunFailed, COMMANDS.runStale]);
  },
};

const dashboard: JupyterFrontEndPlugin<void> = {
  id: "handoff-lab:dashboard",
  description: "The dashboard in the main area.",
  autoStart: true,
  requires: [IFollower],
  optional: [ILabShell, ICommandPalette, ILayoutRestorer],
  activate: (
    app: JupyterFrontEnd,
    follower: IFollower,
    shell: ILabShell | null,
    palette: ICommandPalette | null,
    restorer: ILayoutRestorer | null,
  ) => {
    if (!shell) {
      return;
    }
    const tracker = addDashboardCommands(app, shell, follower);
    void restorer?.restore(tracker, { command: COMMANDS.dashboard, name: () => "dashboard" });
    addToPalette(palette, [COMMANDS.dashboard, COMMANDS.nextFailure]);
  },
};

const status: JupyterFrontEndPlugin<void> = {
  id: "handoff-lab:status",
  description: "The item of the status bar.",
  autoStart: true,
  requires: [IFollower],
  optional: [IStatusBar],
  activate: (app: JupyterFrontEnd, follower: IFollower, bar: IStatusBar | null) => {
    if (!bar) {
      return;
    }
    const item = new StatusItem(follower, () => openDashboard(app));
    const changed = new Signal<StatusItem, void>(item);
    follower.changed.connect(() => changed.emit());
    bar.registerStatusItem("handoff-lab:status", {
      item,
      align: "left",
      rank: 20,
      isActive: () => item.isActive,
      activeStateChanged: changed,
    });
  },
};

const savedViews: JupyterFrontEndPlugin<void> = {
  id: "handoff-lab:saved-views",
  description: "Live views of saved notebooks as pictures, where their kernel is gone.",
  autoStart: true,
  optional: [INotebookTracker],
  activate: (_app: JupyterFrontEnd, notebooks: INotebookTracker | null) => {
    notebooks?.widgetAdded.connect((_, panel) => showSavedViews(panel));
  },
};

function openDashboard(app: JupyterFrontEnd): void {
  if (app.commands.hasCommand(COMMANDS.dashboard)) {
    void app.commands.execute(COMMANDS.dashboard);
  }
}

export default [follower, panel, dashboard, savedViews, status];
