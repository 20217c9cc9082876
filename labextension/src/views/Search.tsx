// Finding functions by their ids.

import type { JSX } from "preact";

import { useStore } from "../hooks";
import type { Store } from "../store";
import { Icon } from "./parts";

export function Search({ store }: { store: Store }): JSX.Element {
  useStore(store, "view", "structure");
  const { matches } = store;
  const { search, selected } = store.ui;
  const place = matches ? [...matches].indexOf(selected) + 1 : 0;
  const keyDown = (event: KeyboardEvent) => {
    if (event.key === "Enter") {
      event.preventDefault();
      store.update({ selected: nextMatch(store, event.shiftKey ? -1 : 1) });
    } else if (event.key === "Escape" && store.ui.search) {
      event.stopPropagation();
      store.update({ search: "" });
    }
  };
  return (
    <label class="hl-search">
      <Icon name="search" />
      <input
        type="search"
        placeholder="Search  /"
        aria-label="Search functions"
        value={search}
        onInput={(event) => store.update({ search: event.currentTarget.value })}
        onKeyDown={keyDown}
      />
      <span class="hl-search-count" aria-live="polite">
        {matches && (place > 0 ? `${place} of ${matches.size}` : matches.size || "none")}
      </span>
    </label>
  );
}

/** The match after (1) or before (-1) the selected function; without a match, what is selected. */
export function nextMatch(store: Store, way: 1 | -1): number {
  const found = [...(store.matches ?? [])];
  const { selected } = store.ui;
  if (way > 0) {
    return found.find((at) => at > selected) ?? found[0] ?? selected;
  }
  return found.reverse().find((at) => at < selected) ?? found[0] ?? selected;
}

/** The failed function after the selected one; -1: none failed. */
export function nextFailure(store: Store): number {
  const status = store.live?.status ?? [];
  const after = status.indexOf("f", store.ui.selected + 1);
  return after >= 0 ? after : status.indexOf("f");
}
