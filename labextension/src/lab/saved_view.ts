// A saved notebook's live view, whose model went with its kernel: the picture and the table beside it are shown
// instead. Without this, ipywidgets says "model not found".

import type { NotebookPanel } from "@jupyterlab/notebook";
import { Panel } from "@lumino/widgets";

export const LIVE_VIEW = "application/vnd.handoff-lab.view+json";
const WIDGET_VIEW = "application/vnd.jupyter.widget-view+json";
const PICTURE = "text/html";

type Registry = NotebookPanel["content"]["rendermime"];
type Session = NotebookPanel["sessionContext"];
type Renderer = ReturnType<Registry["createRenderer"]>;
type Model = Parameters<Renderer["renderModel"]>[0];

/** What is used of ipywidgets' manager of a notebook's models. */
interface Manager {
  readonly restoredStatus: boolean;
  readonly restored: { connect(slot: () => void): boolean; disconnect(slot: () => void): boolean };
  has_model(id: string): boolean;
}

/** Have a notebook show live views, and what stands beside them where they cannot live. */
export function showSavedViews({ content, sessionContext }: NotebookPanel): void {
  const createRenderer = () => new SavedView(content.rendermime, sessionContext);
  content.rendermime.addFactory({ safe: false, mimeTypes: [LIVE_VIEW], createRenderer }, -20); // ipywidgets' have -10
}

class SavedView extends Panel {
  private readonly watcher = new MutationObserver(() => this.look());
  private model: Model | null = null;
  private live: Renderer | null = null;
  private shown = "";

  constructor(
    private readonly registry: Registry,
    private readonly session: Session,
  ) {
    super();
  }

  /** Called again when the output is brought up to date: a view that lives stays as it is. */
  async renderModel(model: Model): Promise<void> {
    this.model = model;
    const view = JSON.stringify(model.data[WIDGET_VIEW] ?? null);
    if (this.live && view === this.shown) {
      return;
    }
    this.shown = view;
    if (!this.session.isReady) {
      this.showPicture();
      await this.session.ready;
      await new Promise((resolve) => setTimeout(resolve)); // ipywidgets waits for the same, and takes a turn more
    }
    if (this.isDisposed || view !== this.shown) {
      return;
    }
    if (view === "null" || !this.session.session?.kernel || !this.registry.getFactory(WIDGET_VIEW)) {
      this.showPicture();
      return;
    }
    const live = this.registry.createRenderer(WIDGET_VIEW);
    const manager = await managerOf(live);
    if (manager && !manager.restoredStatus && !manager.has_model(JSON.parse(view).model_id)) {
      this.showPicture();
      await restored(manager);
    }
    if (this.isDisposed || view !== this.shown) {
      live.dispose();
    } else {
      await this.showLive(live, this.model);
    }
  }

  override dispose(): void {
    this.watcher.disconnect();
    super.dispose();
  }

  private async showLive(live: Renderer, model: Model): Promise<void> {
    this.clear();
    this.live = live;
    this.watcher.observe(live.node, { childList: true });
    this.addWidget(live);
    await live.renderModel(model);
  }

  /** ipywidgets gives up with a line of text and its own class; before, it has text alone, and after, a view. */
  private look(): void {
    const node = this.live?.node;
    if (node?.classList.contains("jupyter-widgets") && node.childElementCount === 0) {
      this.showPicture();
    }
  }

  private showPicture(): void {
    this.clear();
    if (this.model && PICTURE in this.model.data) {
      const picture = this.registry.createRenderer(PICTURE);
      this.addWidget(picture);
      void picture.renderModel(this.model);
    }
  }

  private clear(): void {
    this.watcher.disconnect();
    this.live = null;
    for (const widget of [...this.widgets]) {
      widget.dispose();
    }
  }
}

function managerOf(live: Renderer): Promise<Manager> | undefined {
  return (live as unknown as { _manager?: { promise: Promise<Manager> } })._manager?.promise; // it has no public name
}

/**
 * Wait until the manager has the models that live in the kernel. A renderer looks for its model for two seconds, which
 * a busy kernel takes longer than; one that comes in the last tenth of them it misses, and says "model not found".
 */
function restored(manager: Manager): Promise<void> {
  return new Promise((resolve) => {
    const heard = () => {
      manager.restored.disconnect(heard);
      resolve();
    };
    manager.restored.connect(heard);
  });
}
