"""The engines of ipyparallel: a guest is a task of the load-balanced view, so that its scheduler sends nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        targets = getattr(source, "targets", None)
        self._chosen = self._client.ids if targets is None or targets == "all" else targets

    def places(self) -> Sequence[Place]:
        """One for each engine."""
        chosen = [self._chosen] if isinstance(self._chosen, int) else self._chosen
        uuids = self._client._engines  # a number says nothing to other clusters
        return [Place(f"engine-{id}", f"ipyparallel {uuids[id]}", id) for id in chosen]

    def capabilities(self, places: Sequence[Place], timeout_s: float) -> Mapping[str, Resources]:
        """Its part of its host."""
        from ipyparallel.error import IPythonError  # type: ignore[import-untyped]

        asked = self._client[[place.handle for place in places]].apply_async(describe) if places else None
        try:
            answers = [] if asked is None else asked.get(timeout=timeout_s, return_exceptions=True)
        except TimeoutError:
            raise BackendError(f"not all engines answer within {timeout_s:g} s; are some busy?") from None
        for place, answer in zip(places, answers, strict=True):
            if isinstance(answer, IPythonError):
                raise BackendError(f"{place.name!r} cannot take a node: {_reason(answer)}") from answer
        return share(dict(zip((place.name for place in places), answers, strict=True)))

    def lend(self, place: Place, options: NodeOptions) -> EngineStay:
        """Keep the engine busy with a node."""
        view = self._client.load_balanced_view(targets=[place.handle])
        task = view.apply_async(stay_on_engine, options)
        return EngineStay(task, lambda: self._client.abort(task, targets=[place.handle], block=False))


class EngineStay:
    """A task on an engine."""

    def __init__(self, task: Any, abort: Callable[[], object]) -> None:
        self._task = task
        self._abort = abort

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
        """Take the task out of the queue."""
        if not self._task.ready():
            self._abort()


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
