// The functions as a table: all that the graph tells, for the keyboard and screen readers too.
//
// Only rows in view are in the page, so the active row is told by aria-activedescendant.

import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { useChanges, useStore, useUniqueName } from "../hooks";
import type { Store } from "../store";
import { plural } from "./format";
import { type Column, shownRows, type Sort, sortRows } from "./rows";
import { Row } from "./TableRow";
import { useViewport } from "./viewport";

const ROW = 28;
const SPARE = 6;

const COLUMNS: readonly [Column, string, string?][] = [
  ["function", "Function"],
  ["status", "Status"],
  ["node", "Node"],
  ["queued", "Queued", "Time from ready to start"],
  ["run", "Run", "Time that the last attempt ran"],
  ["transfer", "Transfer", "Time that inputs took to come from other nodes"],
  ["peak", "Peak memory", "Of the last attempt"],
  ["attempts", "Attempts"],
];

export function TableView({ store }: { store: Store }): JSX.Element {
  useStore(store, "structure", "view");
  const [sort, setSort] = useState<Sort | null>((store.memory.get("sort") as Sort | undefined) ?? null);
  const box = useRef<HTMLDivElement>(null);
  const name = useUniqueName();
  const [active, setActive] = useState(-1);
  const changes = useChanges(store);
  const { selected, search, statusFilter, members, highlightedNode } = store.ui;
  const filters = [search, statusFilter, members, highlightedNode];
  const rows = useMemo(() => sortRows(shownRows(store), store, sort), [sort, changes, ...filters]);
  const told = useMemo(() => plural(rows.length, "function"), filters); // not as the run goes on: that is too much talk
  useEffect(() => box.current?.scrollTo(0, 0), [sort, ...filters]);
  const view = useViewport(box);
  const current = active >= 0 ? active : selected;

  const show = (place: number) => {
    const top = place * ROW;
    const head = ROW;
    const { current: el } = box;
    if (el && (top < el.scrollTop || top + ROW + head > el.scrollTop + el.clientHeight)) {
      el.scrollTop = top < el.scrollTop ? top : top + ROW + head - el.clientHeight;
    }
  };
  useEffect(() => {
    if (selected >= 0) {
      setActive(selected);
      show(rows.indexOf(selected));
    }
  }, [selected]);

  const keyDown = (event: KeyboardEvent) => {
    const place = rows.indexOf(current);
    const page = Math.max(1, Math.floor(view.height / ROW) - 2);
    const next = { ArrowDown: place + 1, ArrowUp: place - 1, PageDown: place + page, PageUp: place - page }[event.key];
    const to = event.key === "Home" ? 0 : event.key === "End" ? rows.length - 1 : next;
    if (to !== undefined && rows.length > 0) {
      event.preventDefault();
      const bounded = Math.min(rows.length - 1, Math.max(0, to));
      setActive(rows[bounded]!);
      show(bounded);
    } else if (event.key === "Enter" && current >= 0 && event.target === box.current) {
      event.preventDefault();
      store.open(current);
    }
  };
  const sortBy = (column: Column) => {
    const next = sort?.column !== column ? { column, descending: false } : { column, descending: !sort.descending };
    const kept = sort?.column === column && sort.descending ? null : next;
    store.memory.set("sort", kept);
    setSort(kept);
  };

  const first = Math.max(0, Math.floor(view.top / ROW) - SPARE);
  const last = Math.min(rows.length, Math.ceil((view.top + view.height) / ROW) + SPARE);
  const drawn = rows.slice(first, last);
  return (
    <div
      class="hl-table"
      ref={box}
      tabIndex={0}
      role="grid"
      aria-label="Functions. Arrows move, Enter shows details."
      aria-rowcount={rows.length + 1}
      aria-colcount={COLUMNS.length}
      aria-activedescendant={drawn.includes(current) ? `${name}-${current}` : undefined}
      onKeyDown={keyDown}
    >
      <table role="presentation">
        <Head sort={sort} onSort={sortBy} />
        <tbody role="rowgroup">
          <tr style={{ height: `${first * ROW}px` }} aria-hidden="true" />
          {drawn.map((at, place) => (
            <Row
              key={at}
              store={store}
              at={at}
              name={`${name}-${at}`}
              number={first + place + 2}
              active={at === current}
              onPick={() => store.open(at)}
            />
          ))}
          <tr style={{ height: `${(rows.length - last) * ROW}px` }} aria-hidden="true" />
        </tbody>
      </table>
      {rows.length === 0 && <p class="hl-empty">No function is like that.</p>}
      <span class="hl-hidden" role="status">
        {told}
      </span>
    </div>
  );
}

function Head({ sort, onSort }: { sort: Sort | null; onSort: (column: Column) => void }): JSX.Element {
  return (
    <thead role="rowgroup">
      <tr role="row" aria-rowindex={1}>
        {COLUMNS.map(([column, title, help]) => {
          const way = sort?.column === column ? (sort.descending ? "descending" : "ascending") : "none";
          return (
            <th key={column} role="columnheader" scope="col" aria-sort={way} data-column={column}>
              <button type="button" title={help ?? `Sort by ${title.toLowerCase()}`} onClick={() => onSort(column)}>
                {title}
                <span aria-hidden="true">{{ none: "", ascending: "▲", descending: "▼" }[way]}</span>
              </button>
            </th>
          );
        })}
      </tr>
    </thead>
  );
}
