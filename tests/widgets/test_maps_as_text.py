"""Maps and their chunks as code that can be copied, as a module, in pictures and in summaries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handoff_lab as hl
from handoff_lab.cli.summary import results
from handoff_lab.graph.maps import cut
from handoff_lab.notebook.export import module_source
from handoff_lab.visualization.dag_graph import sketch_dag
from handoff_lab.widgets.parameters import parameters_of
from handoff_lab.widgets.reproduce import reproducing_code
from handoff_lab.widgets.source_code import source_of


def scaled(x, table, power):
    """A power of x, and more."""
    return x**power + len(table)


def graph(over: Any = range(5)) -> hl.DAG:
    return hl.DAG("maps").add(
        hl.Function("table", list),
        hl.Function("f", scaled, ["table"], over=over, extra_args=[2]),
        hl.Function("total", sum, ["f"]),
    )


@pytest.mark.parametrize("ready", [False, True])
@pytest.mark.parametrize("over", [range(5), [0, 1, 2, 3, 4], np.arange(5)])
def test_code_that_computes_it_again(over: Any, ready: bool) -> None:
    dag = cut(graph(over), lambda function: 2) if ready else graph(over)
    namespace: dict[str, Any] = {}
    code = reproducing_code(dag, "total", (), {}.__getitem__)
    exec(code, namespace)
    assert namespace["results"]["f"] == [0, 1, 4, 9, 16]
    assert namespace["results"]["total"] == 30
    assert "handoff_lab" not in code


def test_a_chunk_is_described_by_its_function() -> None:
    chunk = cut(graph(), lambda function: 2)["f[0:2]"]
    assert source_of(chunk.code) == source_of(scaled)
    assert parameters_of(graph()["f"]) == ["table", "power"]
    assert parameters_of(chunk)[:2] == ["table", "power"]


def test_a_module_has_the_map() -> None:
    dag = hl.DAG().add(hl.Function("f", scaled, None, over=range(5), extra_args=[2]))
    assert "@hl.function(id='f', extra_args=(2,), over=range(0, 5))" in module_source(dag, (), None)
    with pytest.raises(hl.HandoffError, match="'f' cannot be exported: over is of type ndarray; write a range"):
        module_source(hl.DAG().add(hl.Function("f", scaled, over=np.arange(3))), (), None)


def test_before_it_runs_it_is_one_box_that_says_how_many() -> None:
    boxes = {box.title: box for box in sketch_dag(graph(range(10**7))).boxes}
    assert set(boxes) == {"table", "f", "total"}
    assert "10,000,000 items" in boxes["f"].note
    assert "for each of 10,000,000 items" in boxes["f"].tooltip


def test_a_summary_has_the_map_and_not_its_chunks() -> None:
    assert results(hl.execute_local(graph().remove("total"))) == "f = <5 results of 'f'>"
