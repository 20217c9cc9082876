"""The form that runs a DAG."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import ipywidgets
import numpy as np
import pytest

import handoff_lab as hl
from handoff_lab.widgets import dag_widget
from handoff_lab.widgets.inputs_form import RunForm
from handoff_lab.widgets.value_field import EMPTY, ValueField


class Watched(ipywidgets.HTML):
    """Stands in for the live widget."""

    def __init__(self, run: hl.Run) -> None:
        super().__init__()
        self.runs = [run]
        self.closed = False

    def close(self) -> None:
        self.closed = True
        super().close()

    def watch(self, run: hl.Run) -> None:
        self.runs.append(run)


@pytest.fixture(autouse=True)
def no_front_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag_widget, "DAGWidget", Watched)


@pytest.fixture
def cluster() -> Iterator[hl.Cluster]:
    with hl.Cluster({"alpha": {"cpu": 2}}, backend="local") as cluster:
        yield cluster


@pytest.fixture
def dag() -> hl.DAG:
    dag = hl.DAG("form")

    @dag.function
    def scaled(count: int, scale: float, mode: Literal["up", "down"]) -> float:
        return count * scale * (1 if mode == "up" else -1)

    @dag.function
    def told(scaled: float, name: str, loud: bool, extra: Any) -> str:
        return f"{name}: {scaled:g}{'!' if loud else '.'} {extra}"

    return dag


@pytest.fixture
def form(dag: hl.DAG, cluster: hl.Cluster) -> Iterator[RunForm]:
    form = RunForm(dag, cluster)
    yield form
    form.close()


def type_in(form: RunForm, **texts: Any) -> None:
    for id, text in texts.items():
        form.fields[id].control.value = text


def test_each_input_has_a_field_of_its_kind(form: RunForm) -> None:
    kinds = {id: type(field.control).__name__ for id, field in form.fields.items()}
    assert kinds == {
        "count": "Text",
        "scale": "Text",
        "mode": "Dropdown",
        "name": "Text",
        "loud": "Checkbox",
        "extra": "Text",
    }
    assert form.values == {"mode": "up", "name": "", "loud": False}  # nothing else is given yet


def test_the_button_runs_what_the_form_says(form: RunForm) -> None:
    type_in(form, count="3", scale="0.5", mode="down", name="x", loud=True, extra="[1, 2]")
    form._targets.value = ("told",)
    form.button.click()
    assert form.note.value == ""
    assert form.run is not None
    assert form.run.wait(60).results["told"] == "x: -1.5! [1, 2]"
    assert form._watched.children[0].runs == [form.run]
    first = form.run
    form.values = {"count": 4, "name": "y"}
    form.max_concurrency, form.allocator = 1, "load_balanced"
    assert form.submit().wait(60).results["told"] == "y: -2! [1, 2]"
    assert form.run.record.strategy == "load_balanced"
    assert form._watched.children[0].runs == [first, form.run]


def test_what_is_missing_is_told_beside_its_field(form: RunForm) -> None:
    form.button.click()
    assert form.run is None
    assert "it is needed: a whole number" in form.fields["count"].note.value
    assert "it is needed" in form.fields["extra"].note.value
    assert form.fields["name"].note.value == ""  # no text is a text
    assert "count: it is needed" in form.note.value
    type_in(form, count="1", scale="2", extra="x")
    form.button.click()
    assert form.note.value == ""
    assert form.run is not None
    assert form.run.wait(60).results["told"] == ": 2. x"


def test_what_is_wrong_is_told_while_it_is_typed(form: RunForm) -> None:
    type_in(form, count="2.5")
    assert "&#x27;2.5&#x27; is not a whole number" in form.fields["count"].note.value
    assert form.button.disabled
    type_in(form, count="2")
    assert form.fields["count"].note.value == ""
    assert not form.button.disabled
    form._limit.control.value = "0"
    assert "it must be at least 1" in form._limit.note.value
    assert form.button.disabled


def test_only_what_the_targets_need_must_be_given(form: RunForm) -> None:
    type_in(form, count="2", scale="3")
    form.targets = ["scaled"]
    assert form.submit().wait(60).results["scaled"] == 6


def test_values_of_any_type_are_set_from_code(cluster: hl.Cluster) -> None:
    dag = hl.DAG("total").add(hl.Function("total", np.sum, ["numbers"]), hl.Function("numbers", type="input"))
    form = RunForm(dag, cluster)
    form.values = {"numbers": np.arange(5)}
    field = form.fields["numbers"]
    assert field.control.disabled
    assert field.control.value == "array (5,) int64"
    assert form.submit().wait(60).results["total"] == 10
    form.values = {"numbers": [1, 2]}
    assert (field.control.disabled, field.control.value) == (False, "[1, 2]")
    with pytest.raises(hl.InvalidDAGError, match="has no input 'number'; did you mean 'numbers'"):
        form.values = {"number": 1}
    form.close()


def test_without_a_cluster_it_is_the_default_one(cluster: hl.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handoff_lab.api.default_cluster", lambda: cluster)
    form = RunForm(hl.DAG().add(hl.Function("f", lambda: 5)))
    assert form.submit().wait(60).results["f"] == 5
    assert cluster.runs == [form.run]
    form.close()


def test_a_refusal_of_the_cluster_is_shown(cluster: hl.Cluster) -> None:
    form = RunForm(hl.DAG().add(hl.Function("f", list, cost={"gpu": 1})), cluster)
    form.button.click()
    assert "&#x27;f&#x27;" in form.note.value
    assert form.run is None
    form.close()


def test_allocators_are_those_there_are(form: RunForm) -> None:
    with pytest.raises(hl.UnknownStrategyError, match="did you mean 'locality'"):
        form.allocator = "localty"


def test_the_allocator_of_the_cluster_comes_first(dag: hl.DAG) -> None:
    def mine(functions: Any, nodes: Any) -> dict[Any, str]:
        return {function.id: "alpha" for function in functions}

    with hl.Cluster({"alpha": {"cpu": 1}}, backend="local", allocator=mine) as cluster:
        form = RunForm(dag, cluster)
        assert form.allocator is mine
        form.close()


def test_a_front_end_that_is_not_built_stops_no_run(
    dag: hl.DAG, cluster: hl.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unbuilt(Watched):
        def __init__(self, run: hl.Run) -> None:
            raise hl.HandoffError("run make frontend")

    monkeypatch.setattr(dag_widget, "DAGWidget", Unbuilt)
    form = RunForm(dag, cluster)
    form.values = {"count": 1, "scale": 1.0}
    form.targets = ["scaled"]
    assert form.submit().wait(60).status == "done"
    assert "run make frontend" in form._watched.children[0].value
    form.close()


def test_closing_the_form_closes_the_live_view_too(dag: hl.DAG, cluster: hl.Cluster) -> None:
    form = RunForm(dag, cluster)
    form.values = {"count": 1, "scale": 1.0, "name": "a", "extra": 1}
    form.submit().wait(60)
    (shown,) = form._watched.children
    form.close()
    assert shown.closed


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (int, "-3", -3),
        (float, "1e3", 1000.0),
        (str, "3", "3"),
        (EMPTY, "3", 3),
        (EMPTY, "Oslo", "Oslo"),
        (list[int], "[1, 2]", [1, 2]),
        (int | None, "", None),
        (int | None, "4", 4),
        (str | None, "None", None),
    ],
)
def test_what_is_typed_is_read_as_its_kind(annotation: Any, text: str, value: Any) -> None:
    field = ValueField("x", annotation, EMPTY, lambda: None)
    field.control.value = text
    assert field.check(needed=True)
    assert field.value() == value
    assert type(field.value()) is type(value)


@pytest.mark.parametrize(("annotation", "text"), [(int, "three"), (float, "1,5"), (dict, "{1: }"), (EMPTY, "")])
def test_what_is_not_of_its_kind_is_refused(annotation: Any, text: str) -> None:
    field = ValueField("x", annotation, EMPTY, lambda: None)
    field.control.value = text
    assert not field.check(needed=True)
    assert field.error in field.note.value.replace("&#x27;", "'")


@pytest.mark.parametrize(("annotation", "default"), [(bool, True), (int, 3), (Literal["a", "b"], "b"), (EMPTY, "t")])
def test_a_default_is_there_from_the_start(annotation: Any, default: Any) -> None:
    assert ValueField("x", annotation, default, lambda: None).value() == default
