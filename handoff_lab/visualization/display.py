"""What the objects of the API show in a notebook: MIME type to text, for their ``_repr_mimebundle_``."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import TYPE_CHECKING, Protocol, cast

from handoff_lab.visualization.charts import gantt
from handoff_lab.visualization.dag_graph import sketch_dag
from handoff_lab.visualization.layout import Drawing
from handoff_lab.visualization.palette import NodeMarks
from handoff_lab.visualization.picture import Picture, image
from handoff_lab.visualization.run_graph import run_line, sketch_run
from handoff_lab.visualization.sources import AnyRun, lacks_of, nodes_of, record_of
from handoff_lab.visualization.tables import NodeLike, functions_table, nodes_table, plan_table, text

if TYPE_CHECKING:
    from handoff_lab.allocation import Plan
    from handoff_lab.graph import DAG
    from handoff_lab.visualization.figure import Chart

_MOST_ROWS = 30


class ClusterLike(Protocol):
    """The part of a cluster that its display needs."""

    @property
    def nodes(self) -> Mapping[str, NodeLike]: ...


def dag_mimebundle(dag: DAG, stale: Collection[Hashable] = ()) -> dict[str, str]:
    """A DAG as its graph; the results of functions in ``stale`` are out of date."""
    picture = Picture.of(sketch_dag(dag, stale=stale))
    return {"text/plain": repr(dag), "text/html": picture.html(), "image/svg+xml": picture.svg()}


def run_mimebundle(run: AnyRun) -> dict[str, str]:
    """A run as its graph and a table of its functions, in the HTML both."""
    record = record_of(run)
    marks = NodeMarks(nodes_of(record))
    picture = Picture.of(sketch_run(run))
    parts = [
        f"<p>run {text(record.id)}: {text(run_line(record))}</p>",
        _lacks(run) if record.status == "running" else "",
        picture.html(),
        functions_table(record, marks, _MOST_ROWS),
    ]
    return {"text/plain": repr(run), "text/html": "".join(parts), "image/svg+xml": picture.svg()}


def cluster_mimebundle(cluster: ClusterLike) -> dict[str, str]:
    """A cluster as a table of its nodes, and what it can't do."""
    return {"text/plain": repr(cluster), "text/html": nodes_table(cluster.nodes.values()) + _lacks(cluster)}


def plan_mimebundle(plan: Plan) -> dict[str, str]:
    """A plan as its Gantt chart, in the HTML with a table of its nodes."""
    svg = cast("Chart", gantt(plan)).svg()
    html = f"<p>{text(repr(plan)[1:-1])}</p>{image(Drawing(svg), repr(plan))}{plan_table(plan)}"
    return {"text/plain": repr(plan), "text/html": html, "image/svg+xml": svg}


def _lacks(it: object) -> str:
    lacks = lacks_of(it)
    return f"<p>{text(lacks)}</p>" if lacks else ""
