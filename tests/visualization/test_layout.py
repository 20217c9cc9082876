import logging
import shutil
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from handoff_lab import DAG, Function
from handoff_lab.visualization import dag as draw
from handoff_lab.visualization import execution_graph, layout
from handoff_lab.visualization.sketch import Arrow, Box, Sketch

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg):
    return ["".join(text.itertext()) for text in ET.fromstring(svg).iter(f"{SVG}text")]


def titles(svg):
    return [title.text for title in ET.fromstring(svg).iter(f"{SVG}title")]


@pytest.fixture(autouse=True)
def fresh():
    layout._run.cache_clear()


def test_dot_draws_where_it_is(dag):
    drawing = layout.draw(draw(dag).source, Sketch("d"))
    assert 'class="graph"' in drawing.svg
    assert drawing.svg.startswith('<svg role="img" aria-label="d"')


def test_places_of_functions_are_known_with_what_to_say_there(dag):
    picture = draw(dag)
    areas = {area.text.split("\n")[0]: area for area in layout.draw(picture.source, picture.sketch).areas}
    assert set(areas) == {box.title for box in picture.sketch.boxes}
    assert "costs cpu 1, memory 500 MB" in areas["load"].text
    assert areas["load"].bottom < areas["agg"].top
    assert 60 < areas["load"].right - areas["load"].left < 500


def test_without_graphviz_there_is_a_picture_and_a_hint(run, without_graphviz):
    svg = execution_graph(run).svg()
    assert {"load", "✓ 500 ms", "✗ failed · ValueError · 500 ms", layout.HINT} <= set(texts(svg))
    assert "A = alpha, B = beta, C = gpu-box" in texts(svg)
    assert any("costs cpu 1, memory 500 MB" in title for title in titles(svg) if title)
    arrows = [path for path in ET.fromstring(svg).iter(f"{SVG}path") if path.get("marker-end")]
    assert len(arrows) == sum(arrow.directed for arrow in execution_graph(run).sketch.arrows)


def test_a_picture_without_graphviz_still_has_places(dag, without_graphviz):
    html = draw(dag).html()
    assert html.count("<area ") == len(dag.functions)


@pytest.mark.parametrize("id", ['"];evil', "<img src=x onerror=alert(1)>", "&amp;", "]]>", "a\x00b", ""])
def test_an_id_stays_text_without_graphviz_too(id, without_graphviz):
    svg = draw(DAG(id).add(Function(id, max, node=id or None))).svg()
    assert (id.replace("\x00", "�") or "(blank)") in texts(svg)
    assert not list(ET.fromstring(svg).iter(f"{SVG}img"))


def test_boxes_of_a_row_do_not_overlap(without_graphviz):
    boxes = tuple(Box(f"n{n}", f"function {n}", "a note that is rather long") for n in range(6))
    sketch = Sketch("d", boxes, tuple(Arrow("n0", f"n{n}") for n in range(1, 6)))
    areas = sorted((area.top, area.left, area.right) for area in layout.draw("", sketch).areas)
    assert len({top for top, *_ in areas}) == 2
    below = areas[1:]
    assert all(one[2] < other[1] for one, other in pairwise(below))


def test_a_cycle_is_drawn_without_graphviz(without_graphviz):
    dag = DAG("draft").add(Function("a", max, ["b"]), Function("b", max, ["a"]))
    assert {"a", "b"} <= set(texts(draw(dag).svg()))


def test_a_dot_that_hangs_or_fails_gives_way_to_the_plain_picture(dag, monkeypatch, caplog):
    def hang(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", hang)
    with caplog.at_level(logging.WARNING):
        svg = draw(dag).svg()
    assert "load" in texts(svg)
    assert layout.HINT not in texts(svg)  # dot is there: there is nothing to install
    assert "could not draw" in caplog.text


def test_a_dot_that_was_too_slow_once_is_tried_again(dag, monkeypatch):
    def hang(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    with monkeypatch.context() as busy:
        busy.setattr(subprocess, "run", hang)
        assert 'class="graph"' not in draw(dag).svg()
    assert 'class="graph"' in draw(dag).svg()


@pytest.mark.real
@pytest.mark.skipif(find_spec("pygraphviz") is None, reason="pygraphviz is optional")
def test_pygraphviz_draws_in_a_child_where_there_is_no_dot(dag, monkeypatch):
    commands = []
    run = subprocess.run
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(
        subprocess, "run", lambda command, **options: commands.append(command) or run(command, **options)
    )
    drawing = layout.draw(draw(dag).source, draw(dag).sketch)
    assert [command[0] for command in commands] == [sys.executable]
    assert 'class="graph"' in drawing.svg
    assert len(drawing.areas) == len(dag.functions)
    assert "pygraphviz" not in sys.modules
