"""WfFormat traces of both forms become DAGs; malformed ones say what is missing where."""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handoff_lab._errors import (
    CyclicDependencyError,
    DuplicateFunctionError,
    InvalidDAGError,
    InvalidFunctionError,
    MissingFunctionError,
)
from handoff_lab.graph import from_wfformat

TRACES = Path(__file__).parent / "traces"


def test_the_split_form() -> None:
    dag = from_wfformat(TRACES / "split.json")
    assert dag.name == "tiny-split"
    assert list(dag) == ["blast_ID0000001", "blast_ID0000002", "PIPE.REPORT_4", "merge_ID0000003"]
    blast, other, report, merge = dag.functions.values()
    assert dict(blast.cost) == {"cpu": 2, "memory": 500}
    assert (blast.duration, blast.output_size, blast.group) == (4.5, 307, "blastall")
    assert dict(other.cost) == {"cpu": 1}  # no cores given, memory not measured
    assert merge.dependencies == ("blast_ID0000001", "blast_ID0000002")
    assert [argument.nbytes for argument in merge.arguments] == [300, 400]
    assert (merge.output_size, merge.group) == (690, "merge")
    assert (report.output_size, report.group) == (None, "PIPE.REPORT")  # its program is a script


def test_the_flat_form() -> None:
    dag = from_wfformat(TRACES / "flat.json", name="mine")
    assert dag.name == "mine"
    split, work, end = dag.functions.values()
    assert [function.id for function in (split, work, end)] == ["split_ID01", "work_ID02", "end_ID03"]
    assert [dict(function.cost) for function in (split, work, end)] == [
        {"cpu": 1, "memory": 2},
        {"cpu": 4},
        {"cpu": 1, "memory": 1.5},  # 1500 KB, as schema 1.3 writes it
    ]
    assert [function.duration for function in (split, work, end)] == [1.5, 3, 2]
    assert [function.group for function in (split, work, end)] == ["split", "work", "end"]
    assert end.dependencies == ("work_ID02",)  # named by its id
    assert [function.arguments[0].nbytes for function in (work, end)] == [40, 60]
    assert (split.output_size, end.output_size) == (40, 0)


def test_tasks_of_one_name_go_by_their_ids() -> None:
    tasks = [{"name": "work", "id": "1"}, {"name": "work", "id": "2", "parents": ["1"]}]
    dag = from_wfformat({"workflow": {"tasks": tasks}})
    assert dag.dependencies("2") == ("1",)
    assert dag.name == "workflow"


def test_its_functions_run_anywhere_and_return_their_id() -> None:
    function = pickle.loads(pickle.dumps(from_wfformat(TRACES / "split.json")["merge_ID0000003"]))
    assert function.code("hits", "more hits", **function.kwargs) == "merge_ID0000003"


def test_a_specification_alone_is_enough() -> None:
    trace = json.loads((TRACES / "split.json").read_text())
    del trace["workflow"]["execution"], trace["workflow"]["specification"]["files"]
    merge = from_wfformat(trace)["merge_ID0000003"]
    assert (merge.duration, merge.output_size) == (None, None)
    assert [argument.nbytes for argument in merge.arguments] == [None, None]


def test_a_dependency_that_only_the_parent_lists_counts() -> None:
    tasks = [
        {"name": "a", "id": "a", "parents": [], "children": ["b"]},
        {"name": "b", "id": "b", "parents": [], "children": []},
    ]
    assert from_wfformat({"workflow": {"specification": {"tasks": tasks}}}).dependencies("b") == ("a",)


def drop(*path: str | int) -> Callable[[Any], None]:
    def change(trace: Any) -> None:
        *way, last = path
        for step in way:
            trace = trace[step]
        del trace[last]

    return change


def put(value: object, *path: str | int) -> Callable[[Any], None]:
    def change(trace: Any) -> None:
        *way, last = path
        for step in way:
            trace = trace[step]
        trace[last] = value

    return change


SPECIFIED = ("workflow", "specification", "tasks")


@pytest.mark.parametrize(
    ("form", "damage", "said"),
    [
        ("split", drop("workflow"), "the trace has no 'workflow'"),
        ("split", drop(*SPECIFIED), "workflow.specification has no 'tasks'"),
        ("split", put(None, "workflow", "specification"), "workflow.specification has no 'tasks'"),
        ("split", put({}, *SPECIFIED), "workflow.specification.tasks is not a list"),
        ("split", put("x", *SPECIFIED, 1), r"specification.tasks\[1\] is 'x'"),
        ("split", drop(*SPECIFIED, 1, "id"), r"specification.tasks\[1\] has no 'id'"),
        ("split", drop(*SPECIFIED, 0, "name"), r"specification.tasks\[0\] has no 'name'"),
        ("split", drop("workflow", "execution", "tasks", 2, "id"), r"execution.tasks\[2\] has no 'id'"),
        (
            "split",
            put("7", "workflow", "specification", "files", 0, "sizeInBytes"),
            r"files\[0\] has the sizeInBytes '7'",
        ),
        ("split", put("1s", "workflow", "execution", "tasks", 0, "runtimeInSeconds"), "runtimeInSeconds '1s'"),
        ("split", put(None, "workflow"), "workflow is None, not an object"),
        ("split", put(None, "workflow", "execution"), "workflow.execution is None, not an object"),
        ("split", put(["x"], *SPECIFIED, 0, "id"), r"specification.tasks\[0\] has the id \['x'\]; it is a string"),
        ("split", put(None, *SPECIFIED, 0, "parents"), r"tasks\[0\] has the parents None; it is a list of strings"),
        ("split", put([["a"]], *SPECIFIED, 0, "inputFiles"), r"tasks\[0\] has the inputFiles \[\['a'\]\]"),
        ("split", put("ls", "workflow", "execution", "tasks", 0, "command"), "command is 'ls', not an object"),
        ("flat", put("a b", "workflow", "tasks", 1, "parents"), r"tasks\[1\] has the parents 'a b'"),
        ("flat", drop("workflow", "tasks"), "workflow has no 'tasks'"),
        ("flat", drop("workflow", "tasks", 1, "name"), r"workflow.tasks\[1\] has no 'name'"),
        ("flat", put("both", "workflow", "tasks", 0, "files", 1, "link"), r"tasks\[0\].files\[1\] has the link 'both'"),
    ],
)
def test_what_is_malformed_is_named_with_its_place(form: str, damage: Callable[[Any], None], said: str) -> None:
    trace = json.loads((TRACES / f"{form}.json").read_text())
    damage(trace)
    with pytest.raises(InvalidDAGError, match=said):
        from_wfformat(trace)


def places(value: Any, *way: str | int) -> Iterator[tuple[str | int, ...]]:
    """The way to each part of a trace."""
    if way:
        yield way
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, *way, key)


@pytest.mark.parametrize("value", [None, [], {}, "", 7, [["x"]], True])
@pytest.mark.parametrize("form", ["split", "flat"])
def test_whatever_stands_anywhere_is_read_or_refused(form: str, value: object) -> None:
    text = (TRACES / f"{form}.json").read_text()
    for way in places(json.loads(text)):
        trace = json.loads(text)
        put(value, *way)(trace)
        with contextlib.suppress(InvalidDAGError):
            from_wfformat(trace)


def test_graphs_that_are_wrong_are_refused_as_any_dag() -> None:
    def trace(*tasks: dict[str, object]) -> dict[str, Any]:
        return {"workflow": {"specification": {"tasks": list(tasks)}}}

    a, b = {"name": "a", "id": "a"}, {"name": "b", "id": "b"}
    with pytest.raises(DuplicateFunctionError):
        from_wfformat(trace(a, a))
    with pytest.raises(MissingFunctionError):
        from_wfformat(trace(a | {"parents": ["z"]}))
    with pytest.raises(MissingFunctionError):
        from_wfformat(trace(a | {"children": ["z"]}))
    with pytest.raises(CyclicDependencyError):
        from_wfformat(trace(a | {"parents": ["b"]}, b | {"parents": ["a"]}))


def test_a_negative_runtime_names_its_function() -> None:
    with pytest.raises(InvalidFunctionError, match="duration is -1"):
        from_wfformat({"workflow": {"tasks": [{"name": "a", "runtimeInSeconds": -1}]}})


@pytest.mark.parametrize(("content", "said"), [("{", "is not JSON"), ("[1]", "holds a JSON list")])
def test_a_file_that_is_no_trace_is_named(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "trace.json"
    path.write_text(content)
    with pytest.raises(InvalidDAGError, match=f"trace.json {said}"):
        from_wfformat(str(path))
