"""Charts over time: what ran where and when, and how full the nodes were. matplotlib comes in when one is drawn."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from handoff_lab._units import MEMORIES, format_amount
from handoff_lab.allocation import Plan
from handoff_lab.visualization.data import plan_bars, resource_utilization, run_bars
from handoff_lab.visualization.palette import BLANK, INK, QUIET, NodeMark, NodeMarks, mix
from handoff_lab.visualization.sketch import shortened
from handoff_lab.visualization.sources import AnyRun, nodes_of, plan_of, record_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_NODES = 12


def gantt(run: AnyRun | Plan) -> Figure:
    """Draw which function ran when, in a lane for each slot of each node.

    Solid bars are what happened, hollow ones below them what was planned; crossed bars failed, hatched ones are results
    on their way to a node.

    Parameters
    ----------
    run
        A run, while it goes on or after; its record; or a plan.

    Returns
    -------
    matplotlib.figure.Figure
        Unknown to pyplot, so nothing needs to close it; shows itself in a notebook.
    """
    from handoff_lab.visualization.lanes import draw_lanes

    marks = NodeMarks(nodes_of(run))
    if isinstance(run, Plan):
        return draw_lanes(marks, [], plan_bars(run), [], title=f"{run.dag_name}: plan")
    record, plan = record_of(run), plan_of(run)
    start = record.started or 0.0
    return draw_lanes(
        marks,
        run_bars(record),
        plan_bars(plan) if plan else [],
        [(move.target, move.started - start, move.ended - start) for move in list(record.transfers)],
        title=f"{record.dag_id}: {record.status}",
    )


def utilization(run: AnyRun) -> Figure:
    """Draw how much of each resource of each node was claimed over time.

    The area is what functions held, the dashed line what the node has, the dotted one what it really used, where it
    measured that. Of many nodes the busiest are drawn.

    Parameters
    ----------
    run
        A run, while it goes on or after; or its record.

    Returns
    -------
    matplotlib.figure.Figure
        Unknown to pyplot, so nothing needs to close it; shows itself in a notebook.
    """
    from handoff_lab.visualization.figure import Chart, calm

    data = resource_utilization(run)
    marks = NodeMarks(nodes_of(run))
    nodes = _busiest(data["nodes"])
    panels = [(node, resource, of_it) for node in nodes for resource, of_it in data["nodes"][node].items()]
    columns = min(len(panels), 2) or 1
    rows = ceil(len(panels) / columns) or 1
    figure = Chart(9.6, 0.9 + 1.3 * rows)
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (node, resource, of_it) in zip(places, panels, strict=False):
        calm(axes)
        _draw_resource(axes, marks[node], resource, of_it, data["duration"])
    for axes in places[len(panels) :]:
        axes.set_visible(False)
    for axes in places[: max(len(panels) - columns, 0)]:
        axes.tick_params(labelbottom=False)
    shown = "" if len(nodes) == len(data["nodes"]) else f" ({len(nodes)} busiest of {len(data['nodes'])} nodes)"
    figure.suptitle(f"claimed resources{shown}", fontsize=10, color=INK)
    figure.supxlabel("seconds from the start", fontsize=8, color=QUIET)
    _explain(figure, any(of_it["used"] for _, _, of_it in panels))
    return figure


def _busiest(nodes: dict[str, dict[str, Any]]) -> list[str]:
    by_business = sorted(nodes, key=lambda node: -max((r["busy"] for r in nodes[node].values()), default=0.0))
    chosen = set(by_business[:_MOST_NODES])
    return [node for node in nodes if node in chosen]


def _explain(figure: Figure, measured: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Patch | Line2D] = [
        Patch(facecolor=BLANK, edgecolor=QUIET, label="claimed"),
        Line2D([], [], color=INK, linewidth=0.9, linestyle="--", label="capability"),
    ]
    if measured:
        handles.append(Line2D([], [], color=INK, linewidth=1.1, linestyle=":", label="measured"))
    figure.legend(handles=handles, loc="outside upper right", ncols=3, fontsize=8, frameon=False, labelcolor=INK)


def _draw_resource(axes: Axes, mark: NodeMark, resource: str, data: dict[str, Any], duration: float) -> None:
    unit = " MB" if resource in MEMORIES else ""
    times, claimed = _line(data["claimed"], duration)
    axes.fill_between(times, claimed, step="post", color=mark.tint, linewidth=0)
    axes.plot(times, claimed, drawstyle="steps-post", color=mix(mark.colour, INK, 0.15), linewidth=1.2)
    axes.plot(*_line(data["capabilities"], duration), drawstyle="steps-post", color=INK, linewidth=0.9, linestyle="--")
    if data["used"]:
        axes.plot(*_line(data["used"], duration), color=INK, linewidth=1.1, linestyle=":")
    highest = max([data["capability"], data["peak"], *(used for _, used in data["used"])])
    axes.set_ylim(0, highest * 1.12 or 1)
    axes.set_xlim(0, duration or 1)
    axes.locator_params(axis="y", nbins=3)
    title = f"{mark.letter} {shortened(mark.name, 24)} · {shortened(resource, 20)}{unit}"
    axes.set_title(title, fontsize=8.5, color=INK, loc="left", parse_math=False)
    peak, capability = (format_amount(resource, data[name]) for name in ("peak", "capability"))
    told = f"mean {data['busy']:.0%} · peak {peak} of {capability}"
    axes.set_title(told, fontsize=7.5, color=QUIET, loc="right")


def _line(steps: list[list[float]], end: float) -> tuple[list[float], list[float]]:
    """Steps as a line that goes on to the end."""
    inside = [step for step in steps if step[0] <= end] or [[0.0, 0.0]]
    return [*(t for t, _ in inside), end], [*(amount for _, amount in inside), inside[-1][1]]
