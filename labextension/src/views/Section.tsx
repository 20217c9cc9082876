import type { ComponentChildren, JSX } from "preact";

import type { Store } from "../store";
import { Icon } from "./parts";
import { useRemembered } from "./remembered";

interface Props {
  store: Store;
  name: "nodes" | "timeline";
  title: string;
  note: ComponentChildren;
  children: ComponentChildren;
}

/** A part of the app that can be closed. */
export function Section({ store, name, title, note, children }: Props): JSX.Element {
  const [open, setOpen] = useRemembered<boolean>(store, name, true);
  return (
    <section class="hl-section" data-part={name} aria-label={title} data-open={open}>
      <div class="hl-section-head">
        <button type="button" class="hl-section-button" aria-expanded={open} onClick={() => setOpen(!open)}>
          <Icon name="next" />
          {title}
        </button>
        {open && note}
      </div>
      {open && <div class="hl-section-body">{children}</div>}
    </section>
  );
}
