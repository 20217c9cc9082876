"""The engines of ipyparallel: a guest is a task of the load-balanced view, so that its scheduler sends nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from handoff_lab._errors import BackendError
from handoff_lab.guests.host import describe, stay
from handoff_lab.guests.places import Place, share
from handoff_lab.node.options import NodeOptions
from handoff_lab.resources import Resources


class Engines:
    """Those of an ``ipyparallel.Client``, or of a view."""

    def __init__(self, source: Any) -> None:
        self._client = getattr(source, "client", source)
        targets: Any = getattr(source, "targets", None)
        self._chosen: Sequence[int] | None = [targets] if isinstance(targets, int) else targets
        if targets == "all":
            self._chosen = None

    def places(self) -> Sequence[Place]:
        """One for each engine."""
        uuids = dict(self._client._engines)  # a number says nothing to other clusters
        chosen = [id for id in self._client.ids if id in uuids] if self._chosen is None else self._chosen
        if gone := [id for id in chosen if id not in uuids]:
            there = ", ".join(map(str, sorted(uuids))) or "none"
            raise BackendError(f"there is no engine {', '.join(map(str, gone))} any more; there are {there}")
        return [Place(f"engine-{id}", f"ipyparallel {uuids[id]}", id) for id in chosen]

    def capabilities(self, places: Sequence[Place], timeout_s: float) -> Mapping[str, Resources]:
        """Its part of its host."""
        from ipyparallel.error import IPythonError, NoEnginesRegistered  # type: ignore[import-untyped]

        try:
            asked = self._client[[place.handle for place in places]].apply_async(describe) if places else None
            answers = [] if asked is None else asked.get(timeout=timeout_s, return_exceptions=True)
        except TimeoutError:
            raise BackendError(f"not all engines answer within {timeout_s:g} s; are some busy?") from None
        except (KeyError, NoEnginesRegistered) as error:
            raise BackendError("an engine is gone; try again") from error
        for place, answer in zip(places, answers, strict=True):
            if isinstance(answer, IPythonError):
                raise BackendError(f"{place.name!r} cannot take a node: {_reason(answer)}") from answer
        return share(dict(zip((place.name for place in places), answers, strict=True)))

    def lend(self, place: Place, options: NodeOptions) -> EngineStay:
        """Keep the engine busy with a node."""
        from ipyparallel.error import NoEnginesRegistered

        try:
            view = self._client.load_balanced_view(targets=[place.handle])
            task = view.apply_async(stay_on_engine, options)
        except (KeyError, NoEnginesRegistered) as error:
            raise BackendError(f"{place.name!r} cannot take a node: its engine is gone") from error
        return EngineStay(self._client, place.handle, task)


class EngineStay:
    """A task on an engine."""

    def __init__(self, client: Any, engine: int, task: Any) -> None:
        self._client = client
        self._engine = engine
        self._task = task

    def ended(self) -> str | None:
        """How the task ended."""
        from ipyparallel.error import IPythonError

        if not self._task.ready():
            return None
        try:
            return str(self._task.get())
        except IPythonError as error:
            return _reason(error)

    def cancel(self) -> None:
        """Take the task out of the queue; that of an engine which is gone went with it."""
        from ipyparallel.error import NoEnginesRegistered

        if not self._task.ready():
            with suppress(KeyError, NoEnginesRegistered):
                self._client.abort(self._task, targets=[self._engine], block=False)


def stay_on_engine(options: NodeOptions) -> str:
    """Be the host of a node, on an engine."""
    from IPython.core.getipython import get_ipython

    shell: Any = get_ipython()
    control = shell.kernel.control_thread
    return stay(options, lambda: None if control is None or control.is_alive() else "its engine was told to end")


def _reason(error: Any) -> str:
    """One line of an error on an engine."""
    name = getattr(error, "ename", type(error).__name__)
    return f"{name}: {getattr(error, 'evalue', error)}"
