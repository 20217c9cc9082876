"""The tasks of a WfFormat trace, in one shape whichever version of the format they came in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from handoff_lab._errors import DuplicateFunctionError, InvalidDAGError, MissingFunctionError
from handoff_lab.graph.closest import closest

_SERIAL_NUMBER = re.compile(r"_(ID)?\d+$")

Files = dict[str, float | None]


@dataclass(slots=True)
class Task:
    """One task; None is what the trace does not tell."""

    id: str
    group: str
    parents: list[str]
    children: list[str]
    reads: Files | None  # file to bytes
    writes: Files | None
    duration: float | None  # seconds
    cores: float | None
    memory_bytes: float | None


def read_tasks(content: Mapping[str, Any], where: str) -> dict[str, Task]:
    """The tasks by id, every dependency listed with the child."""
    workflow = _object(_need(content, "workflow", where), f"{where}: workflow")
    where = f"{where}: workflow"
    read = _split_form if "specification" in workflow else _flat_form
    tasks: dict[str, Task] = {}
    for task in read(workflow, where):
        if task.id in tasks:
            raise DuplicateFunctionError(task.id, where)
        tasks[task.id] = task
    for task in tasks.values():
        for child in task.children:
            if child not in tasks:
                raise MissingFunctionError(child, task.id, closest(child, tasks))
            if task.id not in tasks[child].parents:
                tasks[child].parents.append(task.id)
    return tasks


def _split_form(workflow: Mapping[str, Any], where: str) -> Iterator[Task]:
    """From 1.5 on: what was specified and, where it ran, what was measured."""
    specification = workflow["specification"]
    tasks = _records(_need(specification, "tasks", f"{where}.specification"), f"{where}.specification.tasks")
    files = _records(specification.get("files", ()), f"{where}.specification.files")
    sizes: Files = {_name(file, "id", place): _number(file, "sizeInBytes", place) for place, file in files}
    execution = _object(workflow.get("execution", {}), f"{where}.execution")
    executed = _records(execution.get("tasks", ()), f"{where}.execution.tasks")
    measured = {_name(task, "id", place): (place, task) for place, task in executed}
    for place, task in tasks:
        id = _name(task, "id", place)
        reads, writes = (
            {file: sizes.get(file) for file in _names(task, key, place)} if key in task else None
            for key in ("inputFiles", "outputFiles")
        )
        yield _task(id, task, place, reads, writes, *measured.get(id, (place, {})))


def _flat_form(workflow: Mapping[str, Any], where: str) -> Iterator[Task]:
    """Up to 1.4: one list of tasks that hold everything, and name each other by name or by id."""
    listed = list(_records(_need(workflow, "tasks", where), f"{where}.tasks"))
    names = [_name(task, "name", place) for place, task in listed]
    ids = names if len(set(names)) == len(names) else [_name(task, "id", place) for place, task in listed]
    id_of = dict(zip(names, ids, strict=True))
    id_of |= {_name(task, "id", place): id for (place, task), id in zip(listed, ids, strict=True) if "id" in task}
    for (place, task), id in zip(listed, ids, strict=True):
        made = _task(id, task, place, *_linked_files(task, place), place, task)
        made.parents = [id_of.get(parent, parent) for parent in made.parents]
        made.children = [id_of.get(child, child) for child in made.children]
        yield made


def _linked_files(task: Mapping[str, Any], where: str) -> tuple[Files | None, Files | None]:
    if "files" not in task:
        return None, None
    linked: dict[str, Files] = {"input": {}, "output": {}}
    for place, file in _records(task["files"], f"{where}.files"):
        link = _name(file, "link", place)
        if link not in linked:
            raise InvalidDAGError(f"{place} has the link {link!r}; it is 'input' or 'output'")
        linked[link][_name(file, "name", place)] = _number(file, "sizeInBytes", place, older="size")
    return linked["input"], linked["output"]


def _task(
    id: str,
    task: Mapping[str, Any],
    where: str,
    reads: Files | None,
    writes: Files | None,
    where_measured: str,
    measured: Mapping[str, Any],
) -> Task:
    memory = _number(measured, "memoryInBytes", where_measured)
    kilobytes = _number(measured, "memory", where_measured)  # up to 1.3
    return Task(
        id=id,
        group=_program(task, measured, where),
        parents=_names(task, "parents", where),
        children=_names(task, "children", where),
        reads=reads,
        writes=writes,
        duration=_number(measured, "runtimeInSeconds", where_measured, older="runtime"),
        cores=_number(measured, "coreCount", where_measured, older="cores"),
        memory_bytes=kilobytes * 1000 if memory is None and kilobytes is not None else memory,
    )


def _program(task: Mapping[str, Any], measured: Mapping[str, Any], where: str) -> str:
    """The category, or the program where that is one word and no script, or the name without its number."""
    command = _object(measured.get("command", {}), f"{where}.command")
    program = str(task.get("category") or command.get("program") or "")
    if program and not any(character.isspace() for character in program):
        return program
    return _SERIAL_NUMBER.sub("", _name(task, "name", where))


def _records(values: Iterable[Any], where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each record of a list, with its place for error messages."""
    if not isinstance(values, (list, tuple)):
        raise InvalidDAGError(f"{where} is not a list; WfFormat demands one")
    for number, value in enumerate(values):
        yield f"{where}[{number}]", _object(value, f"{where}[{number}]")


def _object(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidDAGError(f"{where} is {value!r}, not an object")
    return value


def _need(record: Any, key: str, where: str) -> Any:
    if not isinstance(record, Mapping) or key not in record:
        raise InvalidDAGError(f"{where} has no {key!r}; WfFormat demands it")
    return record[key]


def _name(record: Any, key: str, where: str) -> str:
    value = _need(record, key, where)
    if not isinstance(value, str):
        raise InvalidDAGError(f"{where} has the {key} {value!r}; it is a string")
    return value


def _names(record: Mapping[str, Any], key: str, where: str) -> list[str]:
    values = record.get(key, ())
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, str) for value in values):
        raise InvalidDAGError(f"{where} has the {key} {values!r}; it is a list of strings")
    return list(values)


def _number(record: Mapping[str, Any], key: str, where: str, *, older: str = "") -> float | None:
    value = record.get(key, record.get(older))
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidDAGError(f"{where} has the {key} {value!r}; it is a number")
    return value
