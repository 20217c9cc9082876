"""Maps as the live view and the pictures show them: each is one shape, whose chunks can be unfolded and looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handoff_lab as hl
from handoff_lab.graph.maps import cut
from handoff_lab.visualization.dag_graph import sketch_dag
from handoff_lab.visualization.run_graph import sketch_run
from handoff_lab.widgets.details import details
from handoff_lab.widgets.structure import Structure, structure_of


def power(x: Any, exponent: Any, *, times: int = 1) -> Any:
    """A power of x."""
    return times * x**exponent


def graph(items: int = 1000, chunksize: int = 1, **options: Any) -> hl.DAG:
    return hl.DAG("maps").add(
        hl.Function("exponent", lambda: 2),
        hl.Function(
            "powers", power, ["exponent"], over=range(items), chunksize=chunksize, kwargs={"times": 3}, **options
        ),
        hl.Function("total", sum, ["powers"]),
    )


def chunks(dag: hl.DAG) -> hl.DAG:
    return cut(dag, lambda function: 1)


def titles(structure: Structure) -> list[str]:
    layout = structure["layout"]
    assert layout is not None
    return [shape["title"] for shape in layout["shapes"]]


def test_a_map_is_one_shape_that_counts_what_runs() -> None:
    structure = structure_of(chunks(graph()))
    assert titles(structure) == ["exponent", "powers ×1000", "total"]
    layout = structure["layout"]
    assert layout is not None
    assert layout["folded"] == [0]
    assert [(curve["from"], curve["to"], curve["count"]) for curve in layout["curves"]] == [(0, 1, 1000), (1, 2, 1)]
    assert len(titles(structure_of(chunks(graph()), ()))) == 1003  # unfolded


def test_before_it_is_cut_its_shape_says_how_many_items_it_has() -> None:
    assert titles(structure_of(graph(10**7))) == ["exponent", "powers · 10,000,000 items", "total"]


def test_a_group_with_others_in_it_and_a_map_of_nothing_are_not_folded() -> None:
    shared = graph(4, group="both").add(hl.Function("other", max, group="both"))
    assert len(titles(structure_of(chunks(shared)))) == 8
    assert titles(structure_of(chunks(graph(0)))) == ["exponent", "powers", "total"]


@pytest.mark.parametrize("items", [4, 1000])
def test_in_a_picture_it_is_one_box_however_many_chunks_it_has(items: int) -> None:
    sketch = sketch_dag(chunks(graph(items)))
    assert [box.title for box in sketch.boxes][::2] == ["exponent", "total"]
    assert [(arrow.tail, arrow.head, arrow.style) for arrow in sketch.arrows] == [
        ("n0", "n1", "solid"),
        ("n1", "n2", "solid"),
    ]


@pytest.fixture(scope="module")
def run() -> hl.Run:
    with hl.Cluster({"alpha": {"cpu": 2}}, backend="local") as cluster:
        run = cluster.execute(graph(20, 5))
        assert sum(run.results["powers"]) == run.results["total"]
        return run


def test_the_picture_of_a_run_tells_what_became_of_its_chunks(run: hl.Run) -> None:
    box = sketch_run(run).boxes[1]
    assert (box.title, box.note) == ("powers ×4", "✓ 4 done")


def test_details_of_a_chunk_are_those_of_its_function_and_its_items(run: hl.Run) -> None:
    told = details(run, "powers[5:10]")
    inputs = {given["parameter"]: given["text"] for given in told["inputs"]}
    assert inputs == {"exponent": "exponent", "x": "each of range(5, 10)", "times": "3"}
    assert told["doc"] == "A power of x."


def test_details_of_a_map_are_as_it_was_given(run: hl.Run) -> None:
    told = details(run, "powers")
    inputs = {given["parameter"]: given["text"] for given in told["inputs"]}
    assert inputs == {"exponent": "exponent", "x": "each of 20 items, 5 at a time", "times": "3"}
    assert told["doc"] == "A power of x."
    assert told["result_note"] == "20 items, in the results of its chunks; run.results['powers'] fetches it"


def test_details_of_a_map_that_was_not_cut() -> None:
    over: Any = np.arange(3)
    told = details(hl.DAG().add(hl.Function("f", power, over=over, extra_args=[2])), "f")
    inputs = {given["parameter"]: given["text"] for given in told["inputs"]}
    assert inputs == {"x": "each of array (3,) int64", "exponent": "2"}


def test_a_map_that_is_the_target_is_one_shape_too() -> None:
    run = hl.execute_local(graph(20, 5), "powers")
    assert titles(structure_of(run.part)) == ["exponent", "powers ×4"]
    assert details(run, "powers")["doc"] == "A power of x."


def test_details_of_a_map_say_which_chunk_failed() -> None:
    dag = hl.DAG().add(hl.Function("f", lambda x: 1 // (x - 3), over=range(6), chunksize=2, max_retries=0))
    told = details(hl.execute_local(dag, raise_on_error=False), "f")
    assert "function 'f[2:4]' failed on node 'local'" in str(told["error"])
