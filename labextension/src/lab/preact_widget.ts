// A Lumino widget that shows what Preact renders.

import type { Message } from "@lumino/messaging";
import { Widget } from "@lumino/widgets";
import { render, type ComponentChild } from "preact";

export abstract class PreactWidget extends Widget {
  protected abstract view(): ComponentChild;

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this.update();
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.update();
  }

  protected override onUpdateRequest(message: Message): void {
    super.onUpdateRequest(message);
    if (this.isVisible) {
      render(this.view(), this.node);
    }
  }

  protected override onBeforeDetach(message: Message): void {
    render(null, this.node);
    super.onBeforeDetach(message);
  }
}
