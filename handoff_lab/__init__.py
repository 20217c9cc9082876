"""Run the functions of a notebook as a DAG over Jupyter kernels, placed by what they cost.

>>> import handoff_lab as hl
>>> dag = hl.DAG("sum")
>>> _ = dag.add(
...     hl.Function("numbers", lambda: [10, 20, 30]),
...     hl.Function("total", sum, args=["numbers"], cost={"cpu": 1}),
... )
>>> hl.execute_local(dag).results["total"]
60

``hl.Cluster(nodes={...})`` starts kernels and runs DAGs over them. Importing the package loads nothing: each name
brings in what it needs when it is first used, so a node never waits for what notebooks need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from handoff_lab._version import __version__ as __version__

if TYPE_CHECKING:
    from handoff_lab import telemetry, visualization
    from handoff_lab._errors import (
        AllocationError,
        AuthenticationError,
        BackendError,
        CyclicDependencyError,
        DuplicateFunctionError,
        FunctionFailedError,
        FunctionTimeoutError,
        HandoffError,
        InvalidDAGError,
        InvalidFunctionError,
        MissingFunctionError,
        NodeLostError,
        ResourceError,
        ResultUnavailableError,
        RunCancelledError,
        RunError,
        RunTimeoutError,
        UnknownStrategyError,
        VersionMismatchError,
    )
    from handoff_lab.allocation import Allocation, Allocator, Plan, TimeOptimized
    from handoff_lab.api import (
        discover_nodes,
        execute,
        execute_distributed,
        execute_local,
        get_result,
        register_local_node,
        register_node,
        resources_available,
        start,
        stop,
        store_value,
        update_node_resources,
    )
    from handoff_lab.attaching import attach
    from handoff_lab.cluster import Cluster
    from handoff_lab.graph import DAG, Argument, Collocated, Function, collocated, from_wfformat, function
    from handoff_lab.nodes import Node
    from handoff_lab.planning import plan
    from handoff_lab.resources import Resources, ResourceTracker, SimpleResourceTracker
    from handoff_lab.run import Run
    from handoff_lab.store import ResultStore
    from handoff_lab.widgets.cluster_widget import ClusterWidget
    from handoff_lab.widgets.dag_widget import DAGWidget
    from handoff_lab.widgets.inputs_form import RunForm

__all__ = [
    "DAG",
    "Allocation",
    "AllocationError",
    "Allocator",
    "Argument",
    "AuthenticationError",
    "BackendError",
    "Cluster",
    "ClusterWidget",
    "Collocated",
    "CyclicDependencyError",
    "DAGWidget",
    "DuplicateFunctionError",
    "Function",
    "FunctionFailedError",
    "FunctionTimeoutError",
    "HandoffError",
    "InvalidDAGError",
    "InvalidFunctionError",
    "MissingFunctionError",
    "Node",
    "NodeLostError",
    "Plan",
    "ResourceError",
    "ResourceTracker",
    "Resources",
    "ResultStore",
    "ResultUnavailableError",
    "Run",
    "RunCancelledError",
    "RunError",
    "RunForm",
    "RunTimeoutError",
    "SimpleResourceTracker",
    "TimeOptimized",
    "UnknownStrategyError",
    "VersionMismatchError",
    "attach",
    "collocated",
    "discover_nodes",
    "execute",
    "execute_distributed",
    "execute_local",
    "from_wfformat",
    "function",
    "get_result",
    "plan",
    "register_local_node",
    "register_node",
    "resources_available",
    "start",
    "stop",
    "store_value",
    "telemetry",
    "update_node_resources",
    "visualization",
]

_HOMES = {
    "handoff_lab._errors": (
        "AllocationError AuthenticationError BackendError CyclicDependencyError DuplicateFunctionError"
        " FunctionFailedError FunctionTimeoutError HandoffError InvalidDAGError InvalidFunctionError"
        " MissingFunctionError NodeLostError ResourceError ResultUnavailableError RunCancelledError RunError"
        " RunTimeoutError UnknownStrategyError VersionMismatchError"
    ),
    "handoff_lab.allocation": "Allocation Allocator Plan TimeOptimized",
    "handoff_lab.api": (
        "discover_nodes execute execute_distributed execute_local get_result register_local_node register_node"
        " resources_available start stop store_value update_node_resources"
    ),
    "handoff_lab.attaching": "attach",
    "handoff_lab.cluster": "Cluster",
    "handoff_lab.graph": "DAG Argument Collocated Function collocated from_wfformat function",
    "handoff_lab.nodes": "Node",
    "handoff_lab.planning": "plan",
    "handoff_lab.resources": "ResourceTracker Resources SimpleResourceTracker",
    "handoff_lab.run": "Run",
    "handoff_lab.store": "ResultStore",
    "handoff_lab.widgets.cluster_widget": "ClusterWidget",
    "handoff_lab.widgets.dag_widget": "DAGWidget",
    "handoff_lab.widgets.inputs_form": "RunForm",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}
_SUBPACKAGES = {"telemetry", "visualization"}


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f"handoff_lab.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'handoff_lab' has no attribute {name!r}")
    import_module("handoff_lab.display").install()
    value = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(ipython: Any) -> None:
    """``%load_ext handoff_lab``: gives the notebook ``dag``, ``%%handoff``, ``%handoff`` and ``%%on``."""
    from handoff_lab import display
    from handoff_lab.notebook import load

    display.install()
    load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """``%unload_ext handoff_lab``: takes the magics back."""
    from handoff_lab.notebook import unload

    unload(ipython)
