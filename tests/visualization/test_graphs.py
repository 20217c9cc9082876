"""What the pictures of DAGs and runs say, read from their sketches and from the SVG that dot makes."""

import re
from xml.etree import ElementTree as ET

import graphviz
import pytest

from handoff_lab import DAG, Function, collocated
from handoff_lab.telemetry import FunctionRecord, FunctionStatus, RunRecord
from handoff_lab.visualization import dag as draw
from handoff_lab.visualization import execution_graph
from handoff_lab.visualization.dag_graph import sketch_dag
from handoff_lab.visualization.palette import ALARM
from handoff_lab.visualization.run_graph import sketch_run

SVG = "{http://www.w3.org/2000/svg}"
TITLE = "{http://www.w3.org/1999/xlink}title"
NASTY = [
    '"];evil',
    "<img src=x onerror=alert(1)>",
    "<b>",
    "a:b:c",
    "\\N \\l \\",
    "&amp; &lt;",
    "]]> -->",
    "a\x00\x1b\ud800b",
    "line\nbreak",
    "ünï → 漢字",
    "",
    "%s {x}",
    "graph",
    "'",
]


def texts(svg):
    return ["".join(text.itertext()).strip() for text in ET.fromstring(svg).iter(f"{SVG}text")]


def tooltips(svg):
    return [link.get(TITLE) for link in ET.fromstring(svg).iter(f"{SVG}a") if link.get(TITLE)]


def boxes(sketch):
    return {box.title: box for box in sketch.boxes}


def test_a_picture_is_a_digraph(dag, run):
    assert isinstance(draw(dag), graphviz.Digraph)
    assert isinstance(execution_graph(run), graphviz.Digraph)


@pytest.mark.parametrize("id", NASTY)
def test_an_id_stays_text(id):
    svg = draw(DAG("d").add(Function(id, max), Function("end", max, [id]))).svg()
    found = ET.fromstring(svg)  # raises when something broke out
    assert sum(1 for g in found.iter(f"{SVG}g") if g.get("class") == "node") == 2
    assert sum(1 for g in found.iter(f"{SVG}g") if g.get("class") == "edge") == 1
    assert not [element for element in found.iter() if element.tag.rpartition("}")[2] in {"img", "script", "b"}]
    shown = " ".join(id.replace("\x00", "�").replace("\x1b", "�").replace("\ud800", "�").split()) or "(blank)"
    assert shown in texts(svg)
    assert any(tip.split("\n")[0] == shown.replace("\\", "⧵") for tip in tooltips(svg))


@pytest.mark.parametrize("text", NASTY)
def test_names_of_dags_groups_and_nodes_stay_text(text):
    function = Function("f", max, node=text or None, group=text or None)
    svg = draw(DAG(text).add(function)).svg()
    found = ET.fromstring(svg)
    assert sum(1 for g in found.iter(f"{SVG}g") if g.get("class") == "node") == 1
    assert not [element for element in found.iter() if element.tag.rpartition("}")[2] in {"img", "script", "b"}]


def test_costs_and_docstrings_show_on_hover(dag):
    tip = next(tip for tip in tooltips(draw(dag).svg()) if tip.startswith("load"))
    assert tip.split("\n") == [
        "load",
        "Read the image.",
        "costs cpu 1, memory 500 MB",
        "on node alpha",
        "pinned to alpha",
    ]


def test_kinds_of_functions_are_told_apart(dag):
    found = boxes(sketch_dag(dag))
    looks = {name: (found[name].shape, found[name].style) for name in ("path", "scale", "agg")}
    assert len(set(looks.values())) == 3
    assert (found["path"].note, found["scale"].note, found["agg"].note) == ("input", "inline", "cpu 1")
    assert found["load"].note == "cpu 1, memory 500 MB · pinned to alpha"


def test_edges_tell_of_inline_functions_serializers_and_collocation(dag):
    sketch = sketch_dag(dag)
    titles = {box.key: box.title for box in sketch.boxes}
    arrows = {(titles[a.tail], titles[a.head], a.directed): a for a in sketch.arrows}
    assert arrows["scale", "blur", True].style == "dashed"
    serialized, deserialized = arrows["load", "blur", True], arrows["load", "tone", True]
    assert (serialized.tail_mark, serialized.head_mark) == (True, False)
    assert (deserialized.tail_mark, deserialized.head_mark) == (False, True)
    assert "serialize: shrink" in serialized.tooltip
    assert arrows["load", "tone", False].style == "dotted"
    assert len(arrows) == len(sketch.arrows) == 12
    assert "arrowtail=odot" in draw(dag).source


def test_without_a_placement_only_pins_have_a_node(dag):
    marks = {title: box.mark.name for title, box in boxes(sketch_dag(dag)).items() if box.mark}
    assert marks == {"load": "alpha"}


@pytest.mark.parametrize("kind", ["run", "record", "plan", "mapping"])
def test_a_placement_gives_colour_and_letter(dag, run, kind):
    placement = {"run": run, "record": run.record, "plan": run.plan, "mapping": dict(run.plan.allocations)}[kind]
    sketch = sketch_dag(dag, placement)
    found = boxes(sketch)
    assert (found["blur"].mark.letter, found["blur"].mark.name) == ("B", "beta")
    assert found["blur"].fill == found["blur"].mark.tint
    assert found["path"].mark is found["scale"].mark is None
    assert [mark.name for mark in sketch.nodes] == ["alpha", "beta", "gpu-box"]
    shown = texts(draw(dag, placement).svg())
    assert {"A", "B", "C", "alpha", "beta", "gpu-box"} <= set(shown)


def test_groups_are_framed(dag):
    svg = draw(dag).svg()
    assert "colour & tone" in texts(svg)
    assert sum(1 for g in ET.fromstring(svg).iter(f"{SVG}g") if g.get("class") == "cluster") == 1


def test_a_dag_that_is_not_valid_can_be_looked_at():
    dag = DAG("draft").add(
        Function("a", max, ["b", "gone"]), Function("b", max, ["a"]), Function("c", max, node=collocated("also gone"))
    )
    found = boxes(sketch_dag(dag))
    assert set(found) == {"a", "b", "c", "gone"}
    assert (found["gone"].note, found["gone"].line) == ("missing", ALARM)
    assert "missing" in texts(draw(dag).svg())


def test_an_empty_dag_is_an_empty_picture():
    assert texts(draw(DAG("empty")).svg()) == []


# -- runs ---------------------------------------------------------------------------


def test_a_run_shows_status_node_time_and_attempts(run):
    found = boxes(sketch_run(run))
    assert found["load"].note == "✓ 500 ms"
    assert found["blur"].note == "✓ 500 ms · 2 attempts"
    assert found["agg"].note == "✗ failed · ValueError · 500 ms"
    assert found["report"].note == "– skipped"
    assert found["path"].note == "input"
    assert found["agg"].double
    assert found["agg"].line == ALARM
    assert found["blur"].mark.letter == "B"
    assert "because agg failed" in found["report"].tooltip
    svg = execution_graph(run).svg()
    assert "image <pipeline> · failed · 5 done, 1 failed, 1 skipped · 2.00 s" in texts(svg)
    assert any("took 500 ms" in tip and "result: 5 MB" in tip for tip in tooltips(svg))


def test_a_bare_record_shows_its_functions_without_edges(record):
    sketch = sketch_run(record)
    assert set(boxes(sketch)) >= {"load", "blur", "report"}
    assert sketch.arrows == ()
    assert "✓ 500 ms" in texts(execution_graph(record).svg())


@pytest.mark.parametrize("status", FunctionStatus)
def test_every_status_can_be_drawn(status):
    record = RunRecord(id="r", dag_id="d")
    record.functions["f"] = FunctionRecord("f", status)
    assert any(status.value in text or status == "done" for text in texts(execution_graph(record).svg()))


# -- big graphs ---------------------------------------------------------------------


def layers(count, width):
    dag = DAG("big")
    for layer in range(count):
        needs = [f"step{layer - 1}_{n}" for n in range(width)] if layer else []
        dag.add(*(Function(f"step{layer}_{n}", max, needs[n : n + 2]) for n in range(width)))
    return dag


def test_many_functions_are_folded_by_depth_and_name():
    sketch = sketch_dag(layers(20, 50))
    assert sorted(box.title for box in sketch.boxes)[:2] == ["step0 ×50", "step1 ×50"]
    assert len(sketch.boxes) == 20
    assert {arrow.count for arrow in sketch.arrows} == {99}
    assert "1000 functions, folded" in sketch.caption


def test_a_folded_run_counts_statuses_and_shows_the_worst():
    dag = layers(4, 100)
    record = RunRecord(id="r", dag_id="d")
    for number, id in enumerate(dag.functions):
        record.functions[id] = FunctionRecord(id, FunctionStatus.FAILED if number == 7 else FunctionStatus.DONE)
    run = type("Run", (), {"record": record, "dag": dag, "plan": None})
    first, second = sketch_run(run).boxes[:2]
    assert first.note == "✗ 1 failed · ✓ 99 done"
    assert (first.double, first.line, second.double) == (True, ALARM, False)
    assert len(sketch_run(record).boxes) == 4


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (70, 70)])
def test_any_big_graph_becomes_few_boxes(shape):
    sketch = sketch_dag(layers(*shape))
    assert len(sketch.boxes) <= 100
    assert re.search("<svg", draw(layers(*shape)).svg())
