import subprocess
import sys

import pytest
from matplotlib.figure import Figure

from handoff_lab.telemetry import AttemptRecord, Event, FunctionStatus, RunRecord
from handoff_lab.visualization import gantt, utilization
from handoff_lab.visualization.palette import BLANK


def shown(figure):
    """Every text of a figure."""
    figure.draw_without_rendering()
    return {text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))} - {""}


def face(collection):
    return "#" + "".join(f"{round(part * 255):02X}" for part in collection.get_facecolor()[0][:3])


def test_a_gantt_chart_names_nodes_functions_and_what_failed(run):
    figure = gantt(run)
    assert isinstance(figure, Figure)
    assert {"A  alpha", "B  beta", "C  gpu-box", "load", "blur", "✗ agg"} <= shown(figure)
    assert {"✗ failed", "planned", "transfer", "image <pipeline>: failed"} <= shown(figure)


def test_planned_is_hollow_actual_is_solid_transfers_are_hatched(run):
    (axes,) = gantt(run).axes
    hollow = [bars for bars in axes.collections if face(bars) == BLANK and not bars.get_hatch()]
    solid = [bars for bars in axes.collections if face(bars) != BLANK and not bars.get_hatch()]
    hatches = sorted({bars.get_hatch() for bars in axes.collections if bars.get_hatch()})
    assert sum(len(bars.get_paths()) for bars in hollow) == len(run.plan.start)
    assert sum(len(bars.get_paths()) for bars in solid) == 5
    assert hatches == ["/////", "xxx"]


def test_a_plan_has_a_chart_of_its_own(plan):
    figure = gantt(plan)
    assert {"load", "tone", "A  alpha", "planned", "image <pipeline>: plan"} <= shown(figure)


def test_a_record_needs_no_plan(record):
    assert "planned" not in shown(gantt(record))


def test_a_run_that_did_not_begin_can_be_drawn():
    for figure in (gantt(RunRecord(dag_id="d")), utilization(RunRecord(dag_id="d"))):
        assert figure.png().startswith(b"\x89PNG")


@pytest.mark.parametrize("status", ["running", "cancelled"])
def test_bars_of_other_ends_have_a_sign(status):
    attempt = AttemptRecord("f", 1, "a", 0, 1.0, 2.0, FunctionStatus(status))
    figure = gantt(RunRecord(started=0.0, attempts=[attempt], events=[Event(("x",), 3.0)]))
    assert any(text.endswith(status) for text in shown(figure))


@pytest.mark.parametrize("text", ["$x$", "$\\bad{", "漢字", "a_b^c", "<b>&", "a\x00b"])
def test_any_id_can_be_drawn_without_a_warning(text):
    attempt = AttemptRecord(text, 1, text, 0, 1.0, 2.0, FunctionStatus.FAILED)
    record = RunRecord(dag_id=text, started=0.0, ended=2.0, attempts=[attempt], capabilities={text: {text: 1.0}})
    record.events.append(Event(("handoff", "run", "start"), 0.0, {}, {"run": "", "capabilities": {text: {text: 1.0}}}))
    for figure in (gantt(record), utilization(record)):
        assert figure.png().startswith(b"\x89PNG")
        assert figure.svg().startswith("<svg")


def test_utilisation_has_a_panel_for_each_resource_of_each_node(run):
    figure = utilization(run)
    visible = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title("left") for axes in visible] == [
        "A alpha · cpu",
        "A alpha · memory MB",
        "B beta · cpu",
        "C gpu-box · cpu",
        "C gpu-box · gpu",
    ]
    assert visible[0].get_title("right") == "mean 75% · peak 2 of 2"
    assert {"claimed", "capability", "measured"} <= shown(figure)


def test_of_many_nodes_the_busiest_are_drawn():
    nodes = {f"n{number}": {"cpu": 1.0} for number in range(20)}
    events = [Event(("handoff", "run", "start"), 0.0, {}, {"run": "r", "capabilities": nodes})]
    claim = {"run": "r", "node": "n19", "claimed": {"cpu": 1.0}, "capabilities": {"cpu": 1.0}}
    events.append(Event(("handoff", "resource", "allocation"), 0.0, {"cpu": 1.0}, claim))
    events.append(Event(("handoff", "run", "stop"), 9.0, {}, {"run": "r", "status": "done"}))
    figure = utilization(RunRecord.from_events(events))
    titles = [axes.get_title("left") for axes in figure.axes if axes.get_visible()]
    assert len(titles) == 12
    assert titles[-1] == "T n19 · cpu"
    assert "claimed resources (12 busiest of 20 nodes)" in shown(figure)


def test_a_figure_shows_itself_without_pyplot(run):
    data, size = gantt(run)._repr_png_()
    assert data.startswith(b"\x89PNG")
    assert size["width"] == 960


@pytest.mark.real
def test_drawing_leaves_pyplot_and_the_package_without_matplotlib():
    code = (
        "import sys, handoff_lab.visualization as v; assert 'matplotlib' not in sys.modules, 'too early';"
        "from handoff_lab.telemetry import RunRecord; v.gantt(RunRecord()).png();"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_no_font_can_write_is_drawn():
    assert gantt(RunRecord(dag_id="a\ud800")).png().startswith(b"\x89PNG")
