"""How DAGs, plans, runs and clusters show themselves in a notebook.

The model knows nothing of pictures: its classes get their display here, when a name of the package is first used.
"""

from __future__ import annotations

from typing import Any

from handoff_lab.allocation import Plan
from handoff_lab.graph import DAG


def show_dag(self: DAG, include: object = None, exclude: object = None) -> dict[str, Any]:
    """The graph as a picture."""
    from handoff_lab.visualization.display import dag_mimebundle

    return dag_mimebundle(self)


def show_plan(self: Plan, include: object = None, exclude: object = None) -> dict[str, Any]:
    """The plan as a Gantt chart."""
    from handoff_lab.visualization.display import plan_mimebundle

    return plan_mimebundle(self)


def install() -> None:
    """Give the model's classes their display."""
    DAG._repr_mimebundle_ = show_dag  # type: ignore[attr-defined]
    Plan._repr_mimebundle_ = show_plan  # type: ignore[attr-defined]
