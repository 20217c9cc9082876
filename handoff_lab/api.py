"""The verbs of Handoff's guides, over one default cluster that starts on first use and is closed at exit."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any, Unpack

from handoff_lab._errors import BackendError, ResultUnavailableError

if TYPE_CHECKING:
    from handoff_lab.allocation import AllocatorLike
    from handoff_lab.cluster import Cluster
    from handoff_lab.coordinator import RunKeywords
    from handoff_lab.graph import DAG
    from handoff_lab.nodes import Capabilities
    from handoff_lab.resources import Resources, ResourceTracker
    from handoff_lab.run import Run
    from handoff_lab.store import ResultStore


class _Default:
    """The default cluster, and what Handoff keeps by DAG: the latest run and the values stored for the next."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.cluster: Cluster | None = None
        self.runs: dict[str, Run] = {}
        self.values: dict[str, dict[Hashable, Any]] = {}


_default = _Default()
LOCAL = "local"


def start(
    *,
    resource_tracker: ResourceTracker | None = None,
    allocator: AllocatorLike | None = None,
    result_store: ResultStore | None = None,
) -> Cluster:
    """Start the default cluster, without nodes yet; ``register_local_node`` and ``register_node`` add them.

    Raises
    ------
    BackendError
        It was started before.
    """
    from handoff_lab.cluster import Cluster

    with _default.lock:
        if _default.cluster is not None:
            raise BackendError("the default cluster was started already; call hl.stop() first")
        _default.cluster = Cluster(
            {}, name="default", allocator=allocator, resource_tracker=resource_tracker, result_store=result_store
        )
        return _default.cluster


def stop() -> None:
    """Close the default cluster, if it was started."""
    with _default.lock:
        cluster, _default.cluster = _default.cluster, None
        _default.runs.clear()
        _default.values.clear()
    if cluster is not None:
        cluster.close()


def default_cluster() -> Cluster:
    """The default cluster, started now if need be."""
    with _default.lock:
        return _default.cluster or start()


def register_local_node(capabilities: Capabilities | None = None) -> None:
    """Make this process itself a node, named ``"local"``; its functions run in threads.

    Parameters
    ----------
    capabilities : mapping, optional
        Default: what this machine has.
    """
    default_cluster().add_node(capabilities, LOCAL)


def register_node(name: str, capabilities: Capabilities | None = None) -> None:
    """Start a kernel node on this machine."""
    default_cluster().add_node(capabilities, name)


def discover_nodes() -> dict[str, Resources]:
    """What each node of the default cluster has, by name."""
    return default_cluster().discover()


def resources_available(node: str, cost: Capabilities) -> bool:
    """Whether ``node`` could start a function of this cost now."""
    return default_cluster().resources_available(node, cost)


def update_node_resources(node: str, capabilities: Capabilities) -> None:
    """Change what a node of the default cluster has, while runs go on."""
    default_cluster().update_node_resources(node, capabilities)


def execute(
    dag: DAG,
    targets: Hashable | Iterable[Hashable] | None = None,
    *,
    raise_on_error: bool = True,
    **options: Unpack[RunKeywords],
) -> Run:
    """Run a DAG over the default cluster and wait until it is over; options as ``Cluster.submit``.

    A cluster without nodes gets one first, with all that this machine has.
    """
    cluster = default_cluster()
    with _default.lock:
        if not cluster.nodes:
            cluster.add_node()
        stored = _default.values.get(dag.name, {})
    wanted = {id for id, function in dag.functions.items() if function.type == "input"}
    inputs = {id: value for id, value in stored.items() if id in wanted}
    keywords: RunKeywords = {**options, "inputs": {**inputs, **(options.get("inputs") or {})}}
    run = _default.runs[dag.name] = cluster.submit(dag, targets, **keywords)
    try:
        return run.join(raise_on_error)
    except KeyboardInterrupt:  # it may have come before ``join`` was ready for it
        run.abandon()
        raise


execute_distributed = execute  # the name that Handoff's guides use


def execute_local(
    dag: DAG,
    targets: Hashable | Iterable[Hashable] | None = None,
    *,
    raise_on_error: bool = True,
    **options: Unpack[RunKeywords],
) -> Run:
    """Run a DAG in this process, one function after the other.

    Nothing is pickled, so that breakpoints and prints work as anywhere. The functions' ``node``, ``cost``,
    ``runs_in`` and ``timeout`` are ignored: there is one place, and what runs in it can't be ended.
    """
    from handoff_lab.cluster import Cluster

    free = dag.copy()
    here = {"node": None, "cost": None, "runs_in": "process", "timeout": None}
    free.replace(*(f.replace(**here) for f in dag.functions.values() if f.type == "regular"))
    with Cluster({LOCAL: {"cpu": 1}}, backend="local", name="local") as cluster:
        run = cluster.submit(free, targets, **options)
        try:
            return run.join(raise_on_error)
        finally:
            run.results.keep()


def store_value(dag_id: str, function_id: Hashable, value: Any) -> None:
    """Give the input ``function_id`` of the DAG named ``dag_id`` its value, for the runs to come."""
    with _default.lock:
        _default.values.setdefault(dag_id, {})[function_id] = value


def get_result(dag_id: str, function_id: Hashable, timeout: float = 5.0) -> Any:
    """A result of the latest run of the DAG named ``dag_id``, or a value stored for it.

    Parameters
    ----------
    timeout : float
        Seconds to wait for it.

    Raises
    ------
    ResultUnavailableError
        It is not there after that time.
    """
    with _default.lock:
        run = _default.runs.get(dag_id)
        stored = _default.values.get(dag_id, {})
    if function_id in stored:
        return stored[function_id]
    if run is None:
        raise ResultUnavailableError(function_id, f"no DAG named {dag_id!r} was run on the default cluster")
    if not run.results.wait(function_id, timeout):
        raise ResultUnavailableError(function_id, f"it was not there after {timeout:g} s; the run is {run.status}")
    return run.results[function_id]
