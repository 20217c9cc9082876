"""The notebook's graph: a DAG that knows which cell defined which function."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from handoff_lab._errors import DuplicateFunctionError
from handoff_lab.graph import DAG, Function


@dataclass(frozen=True, slots=True)
class Cell:
    """Where functions are defined: ``key`` stays when the cell is edited, None where the front end gives none."""

    key: str | None
    label: str  # as the user knows it: "In [3]", "pipeline.py"

    def __str__(self) -> str:
        return f"{self.label}, cell {self.key}," if self.key else self.label


@dataclass(slots=True)
class _Open:
    cell: Cell
    before: DAG
    owners: dict[Hashable, Cell]
    setups: dict[str, str]
    is_setup: bool = False
    defined: list[Hashable] = field(default_factory=list)


class NotebookDAG(DAG):
    """A DAG whose functions belong to the cells that define them.

    While a cell is open, what it defines again replaces what it defined before,
    and what it defines no more is gone once it is closed. Two cells cannot both
    define a function.
    """

    def __init__(self, name: str = "notebook") -> None:
        super().__init__(name)
        self._owners: dict[Hashable, Cell] = {}
        self._setups: dict[str, str] = {}  # by the key of the cell
        self._cells: list[_Open] = []

    def owner(self, id: Hashable) -> Cell | None:
        """The cell that defines a function."""
        return self._owners.get(id)

    @property
    def is_open(self) -> bool:
        """Whether a cell is running."""
        return bool(self._cells)

    @property
    def defined(self) -> tuple[Function, ...]:
        """What the open cell has defined so far."""
        return tuple(self._added[id] for id in self._cells[-1].defined if id in self._added) if self._cells else ()

    def open_cell(self, cell: Cell) -> None:
        """A cell begins to run; cells may nest, as with ``%run``."""
        self._cells.append(_Open(cell, self.copy(), dict(self._owners), dict(self._setups)))

    def close_cell(self, *, keep: bool, whole: bool = True) -> bool:
        """The cell has ended; whether the graph is another than before.

        What the cell did is taken back, unless ``keep``. If it ran to its end (``whole``), what it defines no more is
        dropped.
        """
        closed = self._cells.pop()
        if keep and whole:
            self._drop_what_is_gone(closed)
        elif not keep:
            self._change(dict(closed.before._added))
            self._owners, self._setups = closed.owners, closed.setups
        return self._added != closed.before._added or self._setups != closed.setups

    def _drop_what_is_gone(self, closed: _Open) -> None:
        key = closed.cell.key
        if key is not None:
            owned = [id for id, cell in self._owners.items() if cell.key == key]
            self.remove(*(id for id in owned if id not in closed.defined))
            if not closed.is_setup:
                self._setups.pop(key, None)

    @property
    def setup(self) -> tuple[str, ...]:
        """What each slot of each node executes first."""
        return tuple(self._setups.values())

    def set_up(self, source: str) -> None:
        """The open cell is a setup cell."""
        opened = self._cells[-1]
        opened.is_setup = True
        self._setups[opened.cell.key or source] = source

    def clear(self) -> None:
        """Forget every function and every setup cell."""
        self.remove(*self._added)
        self._setups.clear()

    def must_be_free(self, ids: Iterable[Hashable]) -> None:
        """Refuse ids that the open cell cannot define, as another cell does, or as it has done so already."""
        opened = self._cells[-1]
        for id in ids:
            owner = self._owners.get(id)
            if id in opened.defined:
                raise DuplicateFunctionError(id, f"{opened.cell} defines it twice")
            if owner and None not in (owner.key, opened.cell.key) and owner.key != opened.cell.key:
                raise DuplicateFunctionError(id, f"defined in {owner} and again in {opened.cell}".rstrip(","))

    def add(self, *functions: Function) -> Self:
        """Add all of ``functions``, or none; those that the open cell defined when it ran before are replaced."""
        if not self._cells:
            return super().add(*functions)
        opened = self._cells[-1]
        ids = [getattr(function, "id", None) for function in functions]
        self.must_be_free(ids)
        self.copy().remove(*(id for id in ids if id in self._owners)).add(*functions)  # raises what is wrong
        opened.defined += ids
        self._owners |= dict.fromkeys(ids, opened.cell)
        return self._change(self._added | dict(zip(ids, functions, strict=True)))

    def remove(self, *ids: Hashable) -> Self:
        """Take functions out, wherever they were defined."""
        super().remove(*ids)
        self._owners = {id: cell for id, cell in self._owners.items() if id not in ids}
        return self

    def _define(self, made: Function) -> None:
        self.add(made)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_owners": {}, "_setups": {}, "_cells": []}
