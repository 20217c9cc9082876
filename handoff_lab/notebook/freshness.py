"""What a cell changed in the graph, and which results are out of date."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from handoff_lab.graph import DAG
from handoff_lab.graph.fingerprint import fingerprint

_SHOWN = 8  # ids in one list of the line that says what changed


@dataclass(frozen=True, slots=True)
class Change:
    """What is different in the graph after a cell has run."""

    added: tuple[Hashable, ...]
    changed: tuple[Hashable, ...]
    removed: tuple[Hashable, ...]
    stale: tuple[Hashable, ...]
    inputs: tuple[Hashable, ...]

    def line(self) -> str:
        """The change in one line.

        >>> Change(added=("load",), changed=(), removed=(), stale=("agg",), inputs=("path",)).line()
        'added load · stale: agg · inputs: path'
        """
        parts = [f"{verb} {_names(ids)}" for verb, ids in self._edits() if ids] or ["no function changed"]
        parts += [f"{word}: {_names(ids)}" for word, ids in (("stale", self.stale), ("inputs", self.inputs)) if ids]
        return " · ".join(parts)

    def _edits(self) -> tuple[tuple[str, tuple[Hashable, ...]], ...]:
        return ("added", self.added), ("changed", self.changed), ("removed", self.removed)


class Freshness:
    """Compares the graph with what was run, or with what was first defined where it was not run yet.

    Everything goes by fingerprints taken at the time, as a helper or a constant
    that a function uses may change under it.
    """

    def __init__(self) -> None:
        self._own: dict[Hashable, str] = {}
        self._known: dict[Hashable, tuple[str, str]] = {}
        self._run: set[Hashable] = set()

    def update(self, dag: DAG, setup: str) -> Change:
        """What changed since the last call."""
        before, self._own = self._own, {id: fingerprint(f) for id, f in dag.functions.items() if f.type != "input"}
        changed = tuple(id for id, own in self._own.items() if before.get(id, own) != own)
        now = _fingerprints(dag, setup)
        for id, current in now.items():
            if id not in self._known or (not changed and id not in self._run):
                self._known[id] = current
        return Change(
            added=tuple(id for id in self._own if id not in before),
            changed=changed,
            removed=tuple(id for id in before if id not in self._own),
            stale=tuple(id for id, current in now.items() if self._known[id] != current),
            inputs=inputs(dag),
        )

    def stale(self, dag: DAG, setup: str) -> tuple[Hashable, ...]:
        """Functions whose last result is not what they would give now."""
        now = _fingerprints(dag, setup)
        return tuple(id for id, current in now.items() if self._known.get(id, current) != current)

    def submitted(self, dag: DAG, setup: str, ids: Iterable[Hashable]) -> None:
        """These functions are run as they are now."""
        now = _fingerprints(dag, setup)
        self._run.update(ids)
        self._known |= {id: now[id] for id in ids if id in now}


def inputs(dag: DAG) -> tuple[Hashable, ...]:
    """Ids whose values are to be given when the graph is run."""
    return tuple(id for id, function in dag.functions.items() if function.type == "input")


def _fingerprints(dag: DAG, setup: str) -> dict[Hashable, tuple[str, str]]:
    fresh = DAG(dag.name).add(*dag.functions.values())  # the DAG's own are as old as its last change
    return {id: (fresh.fingerprint(id), setup) for id, f in fresh.functions.items() if f.type != "input"}


def _names(ids: tuple[Hashable, ...]) -> str:
    shown = ", ".join(map(str, ids[:_SHOWN]))
    return shown if len(ids) <= _SHOWN else f"{shown} and {len(ids) - _SHOWN} more"
