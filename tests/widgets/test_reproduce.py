"""Code to be copied: it gives what was computed, and runs nothing that stands in a name or a message."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest

import handoff_lab as hl
from handoff_lab.widgets.reproduce import reproducing_code

Point = namedtuple("Point", "x y")  # noqa: PYI024
CODE = "x\nran.append(1)\n"


def run(code: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"ran": []}
    exec(code, namespace)
    assert namespace["ran"] == []
    return namespace


def kind_of(x: Any) -> type:
    return type(x)


def kwargs_of(**given: Any) -> dict[str, Any]:
    return given


@pytest.mark.parametrize(
    "value", [np.float64(2.5), np.int8(3), np.bool_(True), Point(1, 2), OrderedDict(a=1), 1, True, "a", [1], (1,)]
)
def test_an_input_keeps_its_type(value: Any) -> None:
    dag = hl.DAG()
    dag.function(kind_of)
    results = run(reproducing_code(dag, "kind_of", (), {"x": value}.__getitem__))["results"]
    assert results["x"] == value
    assert type(results["x"]).__name__ == results["kind_of"].__name__ == type(value).__name__


class Id:
    def __eq__(self, other: object) -> bool:
        return type(self).__name__ == type(other).__name__

    def __hash__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return CODE


@pytest.mark.parametrize("id", [CODE, Id()])
def test_names_are_no_code(id: Hashable) -> None:
    dag = hl.DAG(CODE).add(hl.Function(id, kwargs_of, kwargs={"a": 1, "b=2); ran.append(1); dict(c": 3, "if": 4}))
    (result,) = run(reproducing_code(dag, id, (), {}.__getitem__))["results"].values()
    assert result == {"a": 1, "b=2); ran.append(1); dict(c": 3, "if": 4}


def test_messages_are_no_code() -> None:
    def lost(id: Hashable) -> Any:
        raise hl.HandoffError(CODE)

    dag = hl.DAG()
    dag.function(kind_of)
    assert run(reproducing_code(dag, "kind_of", (), lost))["results"]["x"] is ...

    def broken() -> Any:
        return lost

    run(reproducing_code(hl.DAG().add(hl.Function(CODE, broken)), CODE, (), lost))
