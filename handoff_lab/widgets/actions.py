"""What the browser can ask for: the verbs of a request, and why one can't be used now."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from handoff_lab._errors import HandoffError
from handoff_lab.graph import DAG
from handoff_lab.telemetry import FunctionRecord

if TYPE_CHECKING:
    from handoff_lab.run import Run

_TABLE: Final = (
    "function",
    "status",
    "node",
    "slot",
    "attempts",
    "queued",
    "started",
    "ended",
    "result_bytes",
    "peak_memory_bytes",
    "error",
)  # fmt: skip


_NO_CELLS: Final = "only a graph of %%handoff cells knows what was edited since"


class Notebook(Protocol):
    """What the notebook knows of the functions that its cells define."""

    def stale(self) -> Collection[Hashable]:
        """Functions whose results are out of date."""
        ...

    def rerun_stale(self) -> Run:
        """Run them, and what depends on them."""
        ...

    def adopt(self, before: Run, run: Run) -> None:
        """``before`` is run again, as ``run``."""
        ...

    def place(self, id: Hashable) -> tuple[str | None, str] | None:
        """Id and label of the cell that defines a function; None if none does."""
        ...


class View(Protocol):
    """The part of a viewer that verbs need."""

    @property
    def run(self) -> Run | None: ...
    @property
    def dag(self) -> DAG | None: ...
    @property
    def ids(self) -> Sequence[Hashable]: ...
    @property
    def notebook(self) -> Notebook | None: ...
    def show(self, subject: DAG | Run | None) -> None: ...
    def publish(self) -> None: ...
    def fold(self, groups: Sequence[int]) -> None: ...
    def everything(self) -> dict[str, Any]: ...


Request = Mapping[str, Any]


def perform(view: View, request: Request) -> Any:
    """Do what is asked for; the value of the reply."""
    verb = _VERBS.get(str(request.get("do")))
    if verb is None:
        raise HandoffError(f"there is no verb {request.get('do')!r}; there are {', '.join(_VERBS)}")
    return verb(view, request)


def cannot(run: Run, notebook: Notebook | None, stale: Collection[Hashable]) -> dict[str, str]:
    """Why verbs can't be used on a run now, and what its backend can't do to what runs; in words for a tooltip."""
    reasons: dict[str, str] = {}
    if run.status == "running":
        wait = "the run goes on; wait for it, or cancel it first"
        reasons = dict.fromkeys(("rerun", "failed", "stale"), wait)
        reasons |= {feature.value: lack for feature, lack in run.lacks.items()}
    else:
        reasons["cancel"] = "the run is over"
        if run.status == "done":
            reasons["failed"] = "nothing failed"
        if run.cluster_closed:
            reasons |= dict.fromkeys(
                ("rerun", "failed", "stale"), "the cluster was closed; start another and run the graph there"
            )
        if notebook is None:
            reasons["stale"] = _NO_CELLS
        elif not stale:
            reasons["stale"] = "every result is up to date"
        else:
            reasons.setdefault("failed", "cells were edited since; Run stale runs what they change, and what failed")
    if notebook is None:
        reasons["goto"] = "only a graph of %%handoff cells knows which cell defines what"
    return reasons


def _publish(view: View, request: Request) -> None:
    view.publish()


def _details(view: View, request: Request) -> dict[str, Any]:
    from handoff_lab.widgets.details import details

    return {**details(_subject(view), _function(view, request))}


def _cancel(view: View, request: Request) -> None:
    run = _run(view)
    if run.status != "running":
        raise HandoffError("the run is over; there is nothing to cancel")
    if request.get("function") is None:
        run.cancel()
    else:
        run.cancel(_function(view, request))


def _rerun(view: View, request: Request) -> None:
    what, notebook = request.get("what"), view.notebook
    if what == "stale":
        if notebook is None:
            raise HandoffError(_NO_CELLS)
        view.show(notebook.rerun_stale())
        return
    if what not in ("failed", "function", "from"):
        raise HandoffError(f"{what!r} cannot be run again; failed, stale, function or from can")
    before = _run(view)
    ids = () if what == "failed" else (_function(view, request),)
    run = before.rerun(*ids, descendants=what == "from")
    if notebook is not None:
        notebook.adopt(before, run)
    view.show(run)


def _fold(view: View, request: Request) -> None:
    groups = request.get("groups")
    if not isinstance(groups, list) or not all(isinstance(group, int) for group in groups):
        raise HandoffError(f"groups to fold are a list of numbers, not {groups!r}")
    view.fold(groups)


def _export(view: View, request: Request) -> dict[str, str]:
    format = str(request.get("format"))
    maker = _FORMATS.get(format)
    if maker is None:
        raise HandoffError(f"there is no format {format!r}; there are {', '.join(_FORMATS)}")
    make, mime = maker
    subject = _subject(view)
    name = subject.name if isinstance(subject, DAG) else f"{subject.dag_id}-{subject.id}"
    safe = re.sub(r"[^\w.-]+", "-", name)
    return {"name": f"{safe}.{format}", "mime": mime, "text": make(view)}


def _goto(view: View, request: Request) -> dict[str, str | None]:
    id = _function(view, request)
    place = None if view.notebook is None else view.notebook.place(id)
    if place is None:
        raise HandoffError(f"no cell of this notebook is known to define {id!r}")
    return {"id": place[0], "label": place[1]}


_VERBS: Final[dict[str, Callable[[View, Request], Any]]] = {
    "state": _publish,
    "details": _details,
    "cancel": _cancel,
    "rerun": _rerun,
    "fold": _fold,
    "export": _export,
    "goto": _goto,
}


def _svg(view: View) -> str:
    from handoff_lab import visualization

    subject = _subject(view)
    picture = visualization.dag(subject) if isinstance(subject, DAG) else visualization.execution_graph(subject)
    return picture.svg()


def _html(view: View) -> str:
    from handoff_lab.visualization.html_report import page

    return page(_run(view))


def _csv(view: View) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_TABLE)
    writer.writerows(map(_csv_row, list(_run(view).record.functions.values())))
    return text.getvalue()


def _csv_row(function: FunctionRecord) -> tuple[Any, ...]:
    return (
        function.id,
        function.status.value,
        function.node,
        function.slot,
        function.attempts,
        function.queued,
        function.started,
        function.ended,
        function.nbytes,
        function.peak_memory,
        function.error,
    )


def _json(view: View) -> str:
    return json.dumps(view.everything(), indent=1)


_FORMATS: Final[dict[str, tuple[Callable[[View], str], str]]] = {
    "svg": (_svg, "image/svg+xml"),
    "html": (_html, "text/html"),
    "csv": (_csv, "text/csv"),
    "json": (_json, "application/json"),
}


def _subject(view: View) -> DAG | Run:
    subject = view.run or view.dag
    if subject is None:
        raise HandoffError("nothing is shown yet")
    return subject


def _run(view: View) -> Run:
    run = view.run
    if run is None:
        raise HandoffError("the graph was not run yet, or its run is not kept any more; run it")
    return run


def _function(view: View, request: Request) -> Hashable:
    """The id of the function that a request is about."""
    number = request.get("function")
    if not isinstance(number, int) or not 0 <= number < len(view.ids):
        raise HandoffError(f"there is no function number {number!r}")
    return view.ids[number]
