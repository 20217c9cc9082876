// What can be taken away as a file.

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { useStore } from "../hooks";
import type { Request } from "../protocol";
import type { Store } from "../store";
import { cannot, save } from "./asking";
import { ActionButton } from "./parts";

type Format = Extract<Request, { do: "export" }>["format"];

const FORMATS: readonly [Format, string, string][] = [
  ["svg", "Picture", "SVG"],
  ["html", "Report", "one HTML file"],
  ["csv", "Table of functions", "CSV"],
  ["json", "All that is shown", "JSON"],
];

export function ExportMenu({ store }: { store: Store }): JSX.Element {
  useStore(store, "run", "connection");
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  const button = () => box.current?.querySelector("button");

  useEffect(() => {
    if (!open) {
      return;
    }
    box.current?.querySelector<HTMLElement>("[role=menuitem]")?.focus();
    const away = (event: Event) => !box.current?.contains(event.target as Node) && setOpen(false);
    document.addEventListener("pointerdown", away);
    return () => document.removeEventListener("pointerdown", away);
  }, [open]);

  const take = async (format: Format) => {
    setOpen(false);
    button()?.focus();
    const file = await store.ask({ do: "export", format });
    if (file) {
      save(file.name, file.mime, file.text);
    }
  };
  const keyDown = (event: KeyboardEvent) => {
    if (event.key === "Escape" && open) {
      event.stopPropagation();
      setOpen(false);
      button()?.focus();
    } else if (open && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      const items = [...box.current!.querySelectorAll<HTMLElement>("[role=menuitem]")];
      const at = items.indexOf(document.activeElement as HTMLElement) + (event.key === "ArrowDown" ? 1 : -1);
      items.at(at % items.length)?.focus();
    }
  };
  const leave = (event: FocusEvent) => {
    const to = event.relatedTarget as Node | null;
    if (to && !box.current?.contains(to)) {
      setOpen(false);
    }
  };
  return (
    <div class="hl-export" ref={box} onKeyDown={keyDown} onFocusOut={leave}>
      <ActionButton
        action="export"
        icon="export"
        cannot={cannot(store, "export")}
        expanded={open}
        onClick={() => setOpen(!open)}
      >
        Export
      </ActionButton>
      {open && (
        <div class="hl-menu" role="menu" aria-label="Export as">
          {FORMATS.map(([format, what, kind]) => (
            <button
              key={format}
              type="button"
              role="menuitem"
              tabIndex={-1}
              data-format={format}
              onClick={() => void take(format)}
            >
              {what} <small>{kind}</small>
            </button>
          ))}
        </div>
      )}
    </div>
  );
}
