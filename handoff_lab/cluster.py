"""A cluster: named nodes, the runs that go over them, and the verbs that change them."""

from __future__ import annotations

import secrets
import sys
import weakref
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from os import PathLike
from pathlib import Path
from types import MappingProxyType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

from handoff_lab._errors import BackendError, RunError
from handoff_lab._loading import is_loading
from handoff_lab._names import name_fault, shown
from handoff_lab._units import is_seconds, parse_bytes
from handoff_lab.allocation import AllocatorLike, resolve_allocator
from handoff_lab.backends.base import Feature
from handoff_lab.coordinator import Coordinator, Request, RunKeywords, prepare
from handoff_lab.graph import DAG, maps
from handoff_lab.graph.closest import closest
from handoff_lab.messages import AttemptId
from handoff_lab.nodes import Capabilities, Node, name_nodes, node_of
from handoff_lab.resources import Resources, ResourceTracker, parse_capabilities, parse_cost, probe_machine
from handoff_lab.run import Run

if TYPE_CHECKING:
    from handoff_lab.backends.base import Backend
    from handoff_lab.coordinator.verbs import Verbs
    from handoff_lab.detached.client import Client
    from handoff_lab.guests import Guests
    from handoff_lab.store import ResultStore

DAY_S = 24 * 3600.0
HERE_ALONE = "127.0.0.1"
PATIENCE_S = 1.0  # for the news that a run began, which slow telemetry handlers of the user may hold up


class Cluster:
    """Nodes that run functions: real Jupyter kernels on this machine or others.

    A node whose process ends is known to be lost at once. One that is there but answers nothing for 2 seconds is given
    up: on this machine it is killed, and another takes its place; elsewhere it may come back without what it had.

    Parameters
    ----------
    nodes : int, sequence of capabilities, or mapping of name to capabilities, optional
        A number shares this machine between so many nodes. Without it: one node with all that this machine has.
    backend : {"kernels", "local", "dask"} or Backend
        ``"kernels"``: Jupyter kernels over ZeroMQ. ``"local"``: threads of this process. ``"dask"``: the workers of a
        Dask cluster that is there already; see ``address`` and ``client``.
    name : str, optional
        Shown in pictures and process lists.
    allocator : optional
        What runs use when they name no ``allocation_strategy``.
    resource_tracker : ResourceTracker, optional
        Grants claims instead of the built-in ledger.
    result_store : ResultStore, optional
        Takes every result as it is made.
    log_directory : path, optional
        Where each run writes its log of events. Default: the user's state directory.
    by_value : sequence of modules
        Local modules that the nodes can't import: their functions travel with the code.
    host : str
        The address that the cluster listens on for nodes. The default lets in this machine alone.
    store_limit : int or str, optional
        Bytes (or ``"2GB"``) of results that each node started here holds in memory; over it, those least recently used
        go to disk, where ``TMPDIR`` says. Default: 60 % of its memory. Up to half is set aside for what slots keep.
    detached : bool
        Coordinate the runs in a process of its own, which outlives this one: ``hl.attach(name)`` gives the cluster
        back. Its runs and their results stay until ``forget``, or until it is closed. ``close`` and leaving a ``with``
        block end it; ``detach`` lets it go on.
    lease : float
        Seconds that a detached cluster goes on when no process is attached to it; then it ends, with all its nodes.
    address : str
        For ``backend="dask"``: where Dask's scheduler is, such as ``"tcp://10.0.0.1:8786"``.
    client : distributed.Client or Dask cluster
        The same for a Dask cluster that is connected already: a ``Client``, or anything with ``get_client()``.
    """

    def __init__(
        self,
        nodes: int | Sequence[Capabilities] | Mapping[str, Capabilities] | None = None,
        *,
        backend: Literal["kernels", "local", "dask"] | Backend = "kernels",
        name: str | None = None,
        allocator: AllocatorLike | None = None,
        resource_tracker: ResourceTracker | None = None,
        result_store: ResultStore | None = None,
        log_directory: str | PathLike[str] | None = None,
        by_value: Sequence[ModuleType] = (),
        host: str = HERE_ALONE,
        store_limit: int | str | None = None,
        detached: bool = False,
        lease: float = DAY_S,
        address: str | None = None,
        client: Any = None,
    ) -> None:
        if is_loading():
            raise BackendError(
                "a module that a node imports starts a cluster; put that under `if __name__ == '__main__':`"
            )
        _require_methods("resource_tracker", resource_tracker, "register", "available", "request", "release")
        _require_methods("result_store", result_store, "put", "get", "delete", "__contains__")
        dask = [given for given in (address, client) if given is not None]
        if len(dask) != (backend == "dask"):
            raise ValueError("backend='dask' takes one of address= and client=; other backends take neither")
        if dask and nodes is not None:
            raise ValueError("the nodes of backend='dask' are Dask's workers; leave out nodes=")
        if dask and host != HERE_ALONE:
            raise ValueError("nodes join a cluster of backend='dask' where Dask's scheduler listens; leave out host=")
        if address is not None and not isinstance(address, str):
            raise ValueError(f"address is {shown(address)}; it must be text such as 'tcp://10.0.0.1:8786'")
        wanted = {} if dask else name_nodes(nodes)
        if name is None:
            name = f"cluster-{secrets.token_hex(3)}"
        elif fault := name_fault(name, "cluster"):
            raise ValueError(fault)
        allocator = allocator or "first_available"
        resolve_allocator(allocator)
        self._log_directory = log_directory
        if detached:
            if backend != "kernels":
                raise ValueError("detached=True is for backend='kernels'; leave one of them out")
            from handoff_lab import attaching

            keeper = attaching.start(
                name,
                wanted,
                lease_s=lease,
                allocator=allocator,
                resource_tracker=resource_tracker,
                result_store=result_store,
                log_directory=log_directory,
                by_value=by_value,
                host=host,
                store_limit=store_limit,
            )
            self._hold(keeper, name, allocator, by_value)
            self._offer()
            return
        self._backend = _make_backend(backend, wanted, name, host, store_limit, dask)
        coordinator = Coordinator(self._backend, name, resource_tracker)
        self._hold(coordinator, name, allocator, by_value, result_store)
        try:
            coordinator.open(wanted)
            coordinator.wait_for_nodes(wanted)
        except BaseException:
            self.close()
            raise
        self._offer()

    @classmethod
    def _over(cls, client: Client, name: str, allocator: AllocatorLike, by_value: Sequence[ModuleType]) -> Self:
        """The cluster of a detached coordinator that is there already."""
        cluster = cls.__new__(cls)
        cluster._log_directory = None
        cluster._hold(client, name, allocator, by_value)
        cluster._offer()
        return cluster

    def _hold(
        self,
        coordinator: Coordinator | Client,
        name: str,
        allocator: AllocatorLike,
        by_value: Sequence[ModuleType],
        result_store: ResultStore | None = None,
    ) -> None:
        self.name = name
        self.default_strategy: AllocatorLike = allocator
        self.result_store = result_store
        self._by_value = tuple(by_value)
        self._coordinator: Verbs = coordinator
        self._client = None if isinstance(coordinator, Coordinator) else coordinator
        self._lacks: Mapping[Feature, str] = getattr(getattr(coordinator, "backend", None), "lacks", {})
        self._guests: Guests | None = None
        self._runs: weakref.WeakValueDictionary[str, Run] = weakref.WeakValueDictionary()
        let_go = coordinator.close if isinstance(coordinator, Coordinator) else coordinator.detach
        weakref.finalize(self, let_go, wait=False).atexit = False  # garbage is closed too

    def _offer(self) -> None:
        if "ipykernel" in sys.modules:
            from handoff_lab.widgets import panel

            panel.offer(cluster=self)

    def __repr__(self) -> str:
        if self._coordinator.closed:
            return f"<Cluster {self.name!r}, closed>"
        lacks = "".join(f"; {lack}" for lack in self.lacks.values())
        trouble = getattr(getattr(self._coordinator, "backend", None), "trouble", "")
        nodes = ", ".join(self.nodes) or (f"no nodes, as {trouble}" if trouble else "no nodes")
        return f"<Cluster {self.name!r}: {nodes}{lacks}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        from handoff_lab.visualization.display import cluster_mimebundle

        return cluster_mimebundle(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what runs, end all nodes and leave nothing behind. Closing twice does no harm."""
        self._coordinator.close()

    def detach(self) -> None:
        """Let a detached cluster go on without this process; ``hl.attach(name)`` gives it back.

        Runs that are held here hear no more; who waits for one is told so.

        Raises
        ------
        BackendError
            The cluster is not detached.
        """
        if self._client is None:
            raise BackendError("the cluster ends with this process; start it with detached=True")
        self._client.detach()

    @property
    def lacks(self) -> Mapping[Feature, str]:
        """What its backend can't do, in words; empty on kernels."""
        return self._lacks

    # -- nodes ---------------------------------------------------------------

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The nodes as they are now, by name; read-only."""
        return MappingProxyType({name: node_of(*seen) for name, seen in self._coordinator.seen_nodes().items()})

    @property
    def runs(self) -> list[Run]:
        """The runs that someone still holds, oldest first; of a detached cluster all, whoever began them."""
        if self._client is None or self.closed:
            return list(self._runs.values())
        return [self._runs.get(id) or self._take_over(id) for id in self._client.runs()]

    @property
    def join_file(self) -> Path:
        """A file, readable by its owner alone, with which ``handoff-lab node --join FILE`` adds a node."""
        return self._coordinator.join_file

    def invite(self, ttl: float = 600) -> str:
        """A text with which one node joins: ``handoff-lab node --invite TEXT``, on any machine that can reach this one.

        It is good once, for ``ttl`` seconds. Until then it is as secret as a password: whoever uses it first is the
        node.

        Examples
        --------
        >>> with Cluster({}) as cluster:
        ...     cluster.invite(ttl=60)
        'handoff1-...'

        Raises
        ------
        BackendError
            Nodes can't join a cluster of this backend.
        """
        if not is_seconds(ttl) or not ttl:
            raise ValueError(f"ttl is {shown(ttl)}; it must be a number of seconds above 0")
        return self._coordinator.invite(ttl)

    def revoke(self, name: str) -> None:
        """Cut a node off at once and for good; what it had is lost, and what was to run there goes elsewhere.

        Its key counts no more, here and on the other nodes, even if the node is away just now. If it joined with the
        join file, that gets a new key: copy it again for those who are to join later. Nodes that are there stay.

        Raises
        ------
        BackendError
            There is no such node and was none, or nodes of this backend have no keys.
        """
        try:
            self._coordinator.revoke(name)
        except BackendError:
            self._require(name)  # says which there are
            raise

    def discover(self) -> dict[str, Resources]:
        """What each node has, by name."""
        return {name: node.capabilities for name, node in self.nodes.items()}

    def add_node(self, capabilities: Capabilities | None = None, name: str | None = None) -> Node:
        """Start one more node here and wait until it is there.

        Raises
        ------
        BackendError
            It could not be started, or the name is taken.
        """
        if name is not None and (fault := name_fault(name, "node")):
            raise BackendError(fault)
        wanted = probe_machine() if capabilities is None else parse_capabilities(capabilities)
        chosen = self._coordinator.add_node(name, wanted)
        return self.nodes[chosen]

    def add_nodes_from(
        self,
        source: Any,
        capabilities: Capabilities | None = None,
        *,
        nodes: Collection[str] | None = None,
        timeout: float = 60.0,
    ) -> list[Node]:
        """Have a node on each engine, worker or host of another system, and wait until all are there.

        That system starts the nodes and counts their places as taken; all else is as on any other node. A place is
        given back by `remove_node`, by `close`, and when its node is lost; a node ends with its engine, worker or host.
        Called again, it adds those that have come since.

        Parameters
        ----------
        source : ipyparallel Client or view, Dask Client or cluster, or "ray"
            ``"ray"``: the hosts of the cluster that ``ray.init`` connected this process to.
        capabilities : mapping, optional
            What each node has. Default: an engine has its part of its host, a worker or host what its system says.
        nodes : collection of str, optional
            Take these places only, such as ``["engine-0", "dask-3"]``.
        timeout : float
            Seconds for all to join, which busy places may not do before they are free.

        Raises
        ------
        BackendError
            One did not become a node: then none does.
        """
        if not is_seconds(timeout):
            raise ValueError(f"timeout is {shown(timeout)}; it must be a number of seconds")
        if self._guests is None:
            from handoff_lab.guests import Guests

            self._guests = Guests(self._coordinator, self.name)
        wanted = None if capabilities is None else parse_capabilities(capabilities)
        added = self._guests.add(source, wanted, nodes, timeout)
        present = self.nodes
        return [present[name] for name in added if name in present]

    def remove_node(self, name: str, drain: bool = True) -> None:
        """Let a node go; what was to run there goes elsewhere.

        Parameters
        ----------
        drain : bool
            Let the functions that run there finish first, and those of present runs that can run nowhere else, such as
            pinned ones. Bring results that lie nowhere else to the coordinator: to its memory as far as ``store_limit``
            goes, then to its disk.
        """
        self._require(name)
        self._coordinator.remove_node(name, drain)

    def resources_available(self, node: str, cost: Capabilities) -> bool:
        """Whether ``node`` could start a function of this cost now."""
        self._require(node)
        wanted = parse_cost(cost)
        return self._coordinator.available(node, wanted)

    def update_node_resources(self, node: str, capabilities: Capabilities) -> None:
        """Change what a node has, while runs go on.

        Raising it starts what was waiting; lowering it below what is claimed starts nothing new and ends nothing.
        """
        self._require(node)
        if capabilities is None:
            raise ValueError("capabilities is None; say all that the node has, such as {'cpu': 4}")
        self._coordinator.set_capabilities(node, parse_capabilities(capabilities))

    def node_log(self, name: str) -> str:
        """The end of what a node's agent wrote; what functions write is in ``run.logs``.

        Raises
        ------
        BackendError
            The node was not started by this cluster: its log is where it was started.
        """
        self._require(name)
        return self._coordinator.node_log(name)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._coordinator.closed

    # -- runs ----------------------------------------------------------------

    def submit(
        self,
        dag: DAG,
        targets: Hashable | Iterable[Hashable] | None = None,
        *,
        inputs: Mapping[Hashable, Any] | None = None,
        allocation_strategy: AllocatorLike | None = None,
        max_retries: int = 3,
        max_concurrency: int | None = None,
        timeout: float | None = None,
        on_error: Literal["stop", "continue"] = "stop",
        wait_for_node: float | bool = False,
        wait_for_capacity: float | bool = False,
        setup: Sequence[str] = (),
        nodes: Sequence[str] | None = None,
        resume: Run | None = None,
        again: Iterable[Hashable] = (),
    ) -> Run:
        """Begin a run and return at once.

        A run goes on when nobody holds it, but its results are freed then as soon as it is over.

        Parameters
        ----------
        dag : DAG
        targets : id or ids, optional
            Run only what these functions need. Default: everything.
        inputs : mapping of id to value, optional
            Values of the DAG's inputs.
        allocation_strategy : str, Allocator or callable, optional
            ``"first_available"``, ``"load_balanced"``, ``"cost_optimized"``, ``"time_optimized"``, ``"locality"``, or
            your own. Default: the cluster's.
        max_retries : int
            Tries after the first, for each function that doesn't say otherwise. What a lost node ran, or made and is
            still needed, is run again beside that.
        max_concurrency : int, optional
            Functions of this run at the same time.
        timeout : float, optional
            Seconds after which the run is cancelled.
        on_error : {"stop", "continue"}
            Cancel the rest when a function fails for good, or go on with what doesn't depend on it.
        wait_for_node : float or bool
            Seconds for which a function that is pinned to a node that is not there, or is lost, waits for a node of
            that name; True: for as long as it takes. Otherwise it fails at once.
        wait_for_capacity : float or bool
            The same for a function that costs more than any node has: it waits for a node that can hold it, or for
            `update_node_resources`.
        setup : sequence of str
            Python source that each slot executes once before the run's functions.
        nodes : sequence of str, optional
            Use these nodes only.
        resume : Run, optional
            An earlier run on this cluster: what it finished is taken over, and only the rest is run.
        again : ids
            Functions of ``resume`` that are run again although they finished, such as edited ones, or ones whose
            result was lost.

        Raises
        ------
        InvalidDAGError
            The graph, a target or an input is wrong.
        AllocationError
            No node can hold a function, and it may not wait for one.
        """
        strategy = self.default_strategy if allocation_strategy is None else allocation_strategy
        sizes = maps.by_capacity(lambda: {n: has for n, has in self.discover().items() if not nodes or n in nodes})
        request = Request.make(
            dag,
            targets,
            inputs=inputs,
            allocation_strategy=strategy,
            max_retries=max_retries,
            max_concurrency=max_concurrency,
            timeout=timeout,
            on_error=on_error,
            wait_for_node=wait_for_node,
            wait_for_capacity=wait_for_capacity,
            setup=setup,
            nodes=nodes,
            sizes=sizes if resume is None else maps.as_before(resume.dag, sizes),
        )
        return self._begin(request, resume, maps.expanded(request.dag, again))

    def execute(
        self,
        dag: DAG,
        targets: Hashable | Iterable[Hashable] | None = None,
        *,
        raise_on_error: bool = True,
        **options: Unpack[RunKeywords],
    ) -> Run:
        """Run a DAG and wait until it is over: ``submit`` with the same options, then ``run.wait()``.

        An interrupt while it waits (Ctrl-C, the notebook's stop button) cancels the run.

        Parameters
        ----------
        raise_on_error : bool
            Raise what made the run fail; else return the run, with ``run.status`` and ``run.errors``.
        """
        run = self.submit(dag, targets, **options)
        try:
            return run.join(raise_on_error)
        except KeyboardInterrupt:  # it may have come before ``join`` was ready for it
            run.abandon()
            raise

    def forget(self, run: Run) -> None:
        """Free the results of a run that is over, for everyone: those of a detached cluster stay until then.

        Otherwise this happens by itself when nobody holds the run any more.

        Raises
        ------
        RunError
            The run still goes on.
        """
        if run.status == "running":
            raise RunError(f"run {run.id} still goes on; wait for it or cancel it before its results are freed")
        self._runs.pop(run.id, None)
        if self._client is None:
            self._coordinator.forget(run.id)
        else:
            self._client.drop(run.id)

    def run_cell(self, node: str, source: str, on_message: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Run code in a node's kernel, as ``%%on`` does, and wait for it.

        Parameters
        ----------
        on_message : callable
            Takes each output of the kernel: ``{"type": ..., "content": ..., "metadata": ...}``, as on Jupyter's IOPub.

        Returns
        -------
        dict
            The content of the kernel's ``execute_reply``.
        """
        self._require(node)
        return self._coordinator.run_cell(node, source, on_message)

    def interrupt_cell(self, node: str) -> None:
        """Interrupt what ``run_cell`` runs on a node."""
        self._require(node)
        self._coordinator.interrupt_cell(node)

    # -- inside --------------------------------------------------------------

    def _begin(self, request: Request, before: Run | None = None, again: Iterable[Hashable] = ()) -> Run:
        given = {} if before is None else self._results_of(before)
        self._require_features(request.dag)
        ran = set() if before is None or not again else set(before.functions)
        chosen = [id for id in again if id in ran and id in request.dag.functions]
        if chosen:  # they are wanted even where all that needs them is there
            request = request.wanting(chosen)
            for id in chosen:
                given.pop(id, None)
        prepared = prepare(
            request,
            pickle=Feature.PROCESSES in self._coordinator.features,
            by_value=self._by_value,
            given=given,
        )
        prepared.state.log_directory = self._log_directory
        prepared.state.lacks = self._lacks
        run = Run(prepared.state, self._coordinator, partial(self._begin, request), self.result_store, before)
        try:
            self._coordinator.begin(prepared)
            self._runs[run.id] = run
            # So that run.allocations is there.
            prepared.state.wait_for(lambda: run.record.started is not None, PATIENCE_S)
        except KeyboardInterrupt:  # nobody will hold the run
            with suppress(Exception):  # it has not begun
                run.abandon()
            raise
        return run

    def _take_over(self, id: str) -> Run:
        """A run of a detached cluster that nobody holds here."""
        from handoff_lab.attaching import take_over

        assert self._client is not None
        state, request = take_over(self._client, id)
        run = self._runs[id] = Run(state, self._coordinator, partial(self._begin, request))
        return run

    def _results_of(self, run: Run) -> dict[Hashable, tuple[AttemptId, str]]:
        if self._runs.get(run.id) is not run:
            raise RunError(f"run {run.id} is of another cluster; its results cannot be taken over here")
        return self._coordinator.results_of(run.id)

    def _require_features(self, dag: DAG) -> None:
        """Raise what no node of the backend can do, where it says so."""
        for id, function in dag.functions.items():
            if function.timeout is not None and (lack := self._lacks.get(Feature.TIMEOUT)):
                asked = f"timeout={function.timeout:g}"
            elif function.runs_in == "kernel" and (lack := self._lacks.get(Feature.KERNEL)):
                asked = "runs_in='kernel'"
            else:
                continue
            raise BackendError(f"function {id!r} has {asked}, but {lack}; leave it out, or run it on kernel nodes")

    def _require(self, name: str) -> None:
        present = self._coordinator.seen_nodes()
        if name not in present:
            near = closest(name, present)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(present) or 'none'}"
            raise BackendError(f"the cluster has no node {name!r}{hint}")


def _require_methods(what: str, given: object, *names: str) -> None:
    missing = [name for name in names if given is not None and not callable(getattr(given, name, None))]
    if missing:
        raise TypeError(
            f"{what} is a {type(given).__name__} without {', '.join(missing)}; see its protocol in the docs"
        )


def _make_backend(
    backend: Literal["kernels", "local", "dask"] | Backend,
    nodes: Mapping[str, Resources],
    name: str,
    host: str,
    store_limit: int | str | None,
    dask: Sequence[Any],
) -> Backend:
    if store_limit is not None and backend != "kernels":
        raise ValueError("store_limit is for nodes that backend='kernels' starts; leave it out")
    if backend == "local":
        from handoff_lab.backends.local import LocalBackend

        return LocalBackend(nodes)
    if backend == "dask":
        from handoff_lab.backends.dask import DaskBackend

        return DaskBackend(*dask)
    if backend == "kernels":
        from handoff_lab.backends.mixed import MixedBackend

        limit = None if store_limit is None else parse_bytes(store_limit)
        return MixedBackend(nodes, name=name, host=host, store_limit=limit)
    if isinstance(backend, str):
        raise ValueError(  # noqa: TRY004 (a wrong word, not a wrong type)
            f"backend is {backend!r}; it must be 'kernels', 'local', 'dask' or a backend object"
        )
    return backend
