"""Pictures of DAGs, runs, plans and clusters: graphs, charts, the numbers behind them, and a report of it all."""

from handoff_lab.visualization.charts import gantt, utilization
from handoff_lab.visualization.dag_graph import dag
from handoff_lab.visualization.data import resource_utilization
from handoff_lab.visualization.flowchart import mermaid
from handoff_lab.visualization.html_report import report
from handoff_lab.visualization.run_graph import execution_graph

__all__ = [
    "dag",
    "execution_graph",
    "gantt",
    "mermaid",
    "report",
    "resource_utilization",
    "utilization",
]
