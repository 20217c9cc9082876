// Small parts that views share.

import type { ComponentChildren, JSX } from "preact";

import { isQuiet, typeWord } from "../graph/words";
import type { NodeState, StatusLetter } from "../protocol";
import { STATUS, statusWord } from "../status";
import type { Store } from "../store";

export function StatusIcon({ status }: { status: StatusLetter }): JSX.Element {
  return (
    <svg class="hl-status-icon" data-letter={status} viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">
      <path d={STATUS[status].icon} />
    </svg>
  );
}

export function StatusText({ status }: { status: StatusLetter }): JSX.Element {
  return (
    <span class="hl-status" data-letter={status}>
      <StatusIcon status={status} />
      {statusWord(status)}
    </span>
  );
}

/** What a function does; of what never runs by itself, what it is. */
export function FunctionStatus({ store, at }: { store: Store; at: number }): JSX.Element {
  return isQuiet(store, at) ? (
    <span class="hl-status">{typeWord(store, at)}</span>
  ) : (
    <StatusText status={store.status(at)} />
  );
}

/** The node's letter on its colour. */
export function NodeBadge({ node }: { node: NodeState }): JSX.Element {
  return (
    <span class="hl-node-badge" style={{ background: node.colour, color: node.ink }} aria-hidden="true">
      {node.letter}
    </span>
  );
}

export const ICONS = {
  cancel: "M4.5 4.5h7v7h-7z",
  rerun: "M12.6 6A5 5 0 1 0 13 8.6M13 2.5V6h-3.5",
  stale: "M8 3v5l3 2M8 1.8a6.2 6.2 0 1 0 .01 0",
  export: "M8 2v8M4.8 7L8 10.2 11.2 7M3 13.5h10",
  close: "M4 4l8 8M12 4l-8 8",
  copy: "M5.5 5.5h7v8h-7zM10.5 5.5v-3h-7v8h2",
  next: "M6 3.5L10.5 8 6 12.5",
  search: "M7 2.5a4.5 4.5 0 1 0 .01 0M10.4 10.4L14 14",
  from: "M3 3v10M6 8h7M9.8 4.8L13 8l-3.2 3.2",
} as const;

export function Icon({ name }: { name: keyof typeof ICONS }): JSX.Element {
  return (
    <svg class="hl-glyph" viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">
      <path d={ICONS[name]} />
    </svg>
  );
}

interface ActionProps {
  action: string;
  icon?: keyof typeof ICONS;
  /** Why it cannot be used now; it keeps the focus, so that the reason can be read. */
  cannot?: string | null;
  title?: string;
  /** For screen readers, where there is only an icon. */
  label?: string;
  quiet?: boolean;
  /** It has a menu, which is open or not. */
  expanded?: boolean;
  onClick: () => void;
  children?: ComponentChildren;
}

export function ActionButton(props: ActionProps): JSX.Element {
  const cannot = props.cannot || null;
  return (
    <button
      type="button"
      class={props.quiet ? "hl-button hl-button-quiet" : "hl-button"}
      data-action={props.action}
      aria-disabled={cannot ? "true" : undefined}
      aria-label={props.label}
      aria-description={cannot ?? undefined}
      aria-haspopup={props.expanded === undefined ? undefined : "menu"}
      aria-expanded={props.expanded}
      title={cannot ?? props.title ?? props.label}
      onClick={cannot ? undefined : props.onClick}
    >
      {props.icon && <Icon name={props.icon} />}
      {props.children && <span>{props.children}</span>}
    </button>
  );
}
