// Goes to the cell that defines a function.

import type { JupyterFrontEnd } from "@jupyterlab/application";
import type { ICodeCellModel } from "@jupyterlab/cells";
import type { NotebookPanel } from "@jupyterlab/notebook";

import type { CellPlace } from "../protocol";

const FLASH_MS = 1600;

/** Whether there is such a cell. */
export function hasCell(notebook: NotebookPanel | null, place: CellPlace | null): boolean {
  return notebook !== null && place !== null && indexOf(notebook, place) >= 0;
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
function indexOf(notebook: NotebookPanel, place: CellPlace): number {
  const cells = notebook.content.widgets;
  if (place.id !== null) {
    return cells.findIndex((cell) => cell.model.id === place.id);
  }
  const number = Number(/^In \[(\d+)\]$/.exec(place.label)?.[1]);
  return cells.findIndex((cell) => (cell.model as Partial<ICodeCellModel>).executionCount === number);
}
