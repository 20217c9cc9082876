// Goes to the cell that defines a function.

import type { JupyterFrontEnd } from "@jupyterlab/application";
import type { Cell, ICodeCellModel } from "@jupyterlab/cells";
import type { NotebookPanel } from "@jupyterlab/notebook";

import type { CellPlace } from "../protocol";

const FLASH_MS = 1600;

/** Tells whether there is such a cell; made once for many places, as notebooks have many cells. */
export function cellFinder(notebook: NotebookPanel | null): (place: CellPlace) => boolean {
  const cells = notebook?.content.widgets ?? [];
  const ids = new Set(cells.map((cell) => cell.model.id));
  const numbers = new Set(cells.map(numberOf));
  return ({ id, label }) => (id === null ? numbers.has(numberIn(label)) : ids.has(id));
}

export async function goToCell(app: JupyterFrontEnd, notebook: NotebookPanel, place: CellPlace): Promise<void> {
  const index = indexOf(notebook, place);
  const cell = notebook.content.widgets[index];
  if (!cell) {
    return;
  }
  app.shell.activateById(notebook.id);
  notebook.content.deselectAll();
  notebook.content.activeCellIndex = index;
  await notebook.content.scrollToCell(cell, "center");
  cell.node.classList.add("hl-flash");
  setTimeout(() => cell.node.classList.remove("hl-flash"), FLASH_MS);
}

/** By the cell's id; where the kernel was told none, by its number. */
function indexOf(notebook: NotebookPanel, { id, label }: CellPlace): number {
  const isIt = id === null ? (cell: Cell) => numberOf(cell) === numberIn(label) : (cell: Cell) => cell.model.id === id;
  return notebook.content.widgets.findIndex(isIt);
}

/** NaN where it has none, which no place has. */
function numberOf(cell: Cell): number {
  return (cell.model as Partial<ICodeCellModel>).executionCount ?? NaN;
}

function numberIn(label: string): number {
  return Number(/^In \[(\d+)\]$/.exec(label)?.[1] ?? -1);
}
