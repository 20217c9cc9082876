"""Traces of real workflows in WfCommons' WfFormat, read as DAGs for planning and tests.

The format: https://github.com/wfcommons/WfFormat. Read are the split form of
1.5 and later (``specification`` and ``execution``) and the flat form of 1.3 and 1.4.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from handoff_lab._errors import InvalidDAGError
from handoff_lab.graph.dag import DAG
from handoff_lab.graph.functions import Function
from handoff_lab.graph.references import Argument
from handoff_lab.graph.wftasks import Task, read_tasks


def from_wfformat(trace: str | PathLike[str] | Mapping[str, Any], *, name: str | None = None) -> DAG:
    """Read a WfFormat trace: who needs whom, how long each took, what it held and what it wrote.

    Each function carries ``duration`` (seconds), ``output_size`` (bytes of its
    output files), ``cost`` (the task's cores, one where the trace does not say,
    and its memory), ``group`` (its program), and on each argument ``nbytes``:
    the bytes of the parent's files that it reads. What the trace does not tell
    stays None. The programs themselves are not there: each function does
    nothing and returns its own id.

    Parameters
    ----------
    trace
        Path of the JSON file, or what is in it.
    name
        Name of the DAG; without it, the trace's own.

    Raises
    ------
    InvalidDAGError
        When something that the format demands is missing; the message says what, and where.

    Examples
    --------
    >>> tasks = [{"name": "split", "id": "s1", "parents": [], "children": []}]
    >>> dag = from_wfformat({"name": "tiny", "workflow": {"specification": {"tasks": tasks}}})
    >>> dag["s1"].group, dag["s1"].cost
    ('split', Resources({'cpu': 1}))
    """
    where, content = _load(trace)
    tasks = read_tasks(content, where)
    dag = DAG(name or str(content.get("name") or "workflow"))
    dag.add(*(_function(task, tasks) for task in tasks.values()))
    return dag.validate()


def _function(task: Task, tasks: Mapping[str, Task]) -> Function:
    cost = {"cpu": 1 if task.cores is None else task.cores, "memory": (task.memory_bytes or 0) / 10**6}
    return Function(
        task.id,
        _return_id,
        [Argument(parent, nbytes=_bytes_between(tasks.get(parent), task)) for parent in task.parents],
        kwargs={"id": task.id},
        cost=cost,
        duration=task.duration,
        output_size=None if task.writes is None else _total(task.writes.values()),
        group=task.group,
    )


def _return_id(*_results: object, id: str) -> str:
    return id


def _bytes_between(parent: Task | None, child: Task) -> float | None:
    if parent is None or parent.writes is None or child.reads is None:
        return None
    return _total(size for file, size in parent.writes.items() if file in child.reads)


def _total(sizes: Iterable[float | None]) -> float | None:
    known = list(sizes)
    return None if None in known else sum(size for size in known if size is not None)


def _load(trace: str | PathLike[str] | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    if isinstance(trace, Mapping):
        return "the trace", trace
    where = fspath(trace)
    try:
        content = json.loads(Path(where).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidDAGError(f"{where} is not JSON: {error}; give a WfFormat file") from error
    if not isinstance(content, Mapping):
        raise InvalidDAGError(f"{where} holds a JSON {type(content).__name__}, not a WfFormat object")
    return where, content
