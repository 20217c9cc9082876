"""`ClusterWidget`: the nodes of a cluster, how full they are, and controls that add, change and remove them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import ipywidgets as w  # type: ignore[import-untyped]

from handoff_lab._errors import BackendError, HandoffError
from handoff_lab.visualization.tables import nodes_table
from handoff_lab.widgets.node_row import CapabilitiesField, NodeRow, close_with_parts, message
from handoff_lab.widgets.node_table import NodeTable
from handoff_lab.widgets.protocol import GpuState
from handoff_lab.widgets.shown_output import LIVE_VIEW

if TYPE_CHECKING:
    from handoff_lab.cluster import Cluster
    from handoff_lab.messages import GpuLoad
    from handoff_lab.nodes import Node

REFRESH_S = 1.0


class ClusterWidget(w.VBox):  # type: ignore[misc]
    """The nodes of a cluster in a notebook, with controls.

    Each row shows a node's resources: the bar is what functions claim, the line in it what the node's processes really
    use, the mark what the node has. What takes time is done in the background, and its row says so.

    Parameters
    ----------
    cluster : Cluster

    Examples
    --------
    >>> import handoff_lab as hl
    >>> with hl.Cluster({"alpha": {"cpu": 2}}, backend="local") as cluster:
    ...     widget = ClusterWidget(cluster)
    ...     widget
    <ClusterWidget of 1 node>
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.RLock()  # around everything that is shown
        self._table = NodeTable()
        self._seen: Mapping[str, Node] = {}
        self._rows: dict[str, NodeRow] = {}
        self._leaving: set[str] = set()  # nodes that go because they were told to
        self._working: set[threading.Thread] = set()
        self._ended = threading.Event()
        self._new = _NewNode(self._add)
        self._list = w.VBox()
        self._note = w.HTML(message("; ".join(cluster.lacks.values())))
        super().__init__([self._list, self._new.box, self._note])
        self.add_class("hl-cluster")
        self.refresh()
        self._thread = threading.Thread(target=self._keep_up, name="cluster widget", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        count = len(self._rows)
        return f"<ClusterWidget of {count} node{'' if count == 1 else 's'}>"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The live view, and a table for pages without a kernel."""
        bundle = super()._repr_mimebundle_(**kwargs)
        live = {**bundle, LIVE_VIEW: {}} if bundle else {}
        return {**live, "text/plain": repr(self), "text/html": nodes_table(self._seen.values())}

    def refresh(self) -> None:
        """Show the cluster as it is now. Done every second as long as the widget and the cluster are open."""
        with self._lock:
            if self._ended.is_set():
                return
            try:
                nodes = self._cluster.nodes
            except BackendError:
                self._close_down()
                return
            self._look(nodes)
            changed = {state["name"]: state for state in self._table.changes(meters=True)}
            for name, state in changed.items():
                if name not in self._rows and name in nodes:
                    self._rows[name] = self._make_row(name)
                if name in self._rows:
                    self._rows[name].show(state)
            self._list.children = tuple(self._rows.values())

    def close(self) -> None:
        """Take the widget off the page; the cluster stays."""
        with self._lock:
            self._ended.set()
            close_with_parts(self)

    # -- what is shown ---------------------------------------------------------

    def _look(self, nodes: Mapping[str, Node]) -> None:
        if not self._seen:
            self._table.begin({name: node.capabilities for name, node in nodes.items()})
        for name, node in nodes.items():
            before = self._seen.get(name)
            draining = node.status == "draining"
            if before is None or before.capabilities != node.capabilities or before.status != node.status:
                self._table.has(name, node.capabilities, draining)
            self._table.claims(name, dict(node.used))
            if node.load is not None:
                self._table.measured(name, node.load, [_gpu_state(gpu) for gpu in node.gpus])
        for name in self._seen.keys() - nodes.keys():
            self._table.went(name, time.time(), "")
            if name in self._leaving:
                self._forget(name)
        self._seen = dict(nodes)

    def _make_row(self, name: str) -> NodeRow:
        return NodeRow(
            name,
            update=lambda amounts: self._update(name, amounts),
            remove=lambda drain: self._remove(name, drain),
            log=lambda: self._log_of(name),
        )

    def _forget(self, name: str) -> None:
        self._leaving.discard(name)
        row = self._rows.pop(name, None)
        if row is not None:
            row.close()

    def _close_down(self) -> None:
        for row in self._rows.values():
            row.close_down()
        self._new.close_down()
        self._note.value = message("the cluster is closed")
        self._ended.set()

    def _keep_up(self) -> None:
        while not self._ended.wait(REFRESH_S):
            self.refresh()

    # -- verbs -----------------------------------------------------------------

    def _add(self, name: str, amounts: Mapping[str, float] | None) -> None:
        def done(error: str) -> None:
            self._new.rest(error)

        self._new.work(f"starting {name or 'a node'}…")
        self._do(lambda: self._cluster.add_node(amounts, name or None), done)

    def _update(self, name: str, amounts: Mapping[str, float]) -> None:
        row = self._rows[name]
        row.work("changing…")
        self._do(lambda: self._cluster.update_node_resources(name, amounts), row.rest)

    def _remove(self, name: str, drain: bool) -> None:
        row = self._rows[name]
        if name not in self._seen:  # it is lost already
            with self._lock:
                self._forget(name)
                self.refresh()
            return
        row.work("draining: it goes when what runs there is done…" if drain else "removing…")
        self._leaving.add(name)

        def done(error: str) -> None:
            if error:
                self._leaving.discard(name)
            row.rest(error)

        self._do(lambda: self._cluster.remove_node(name, drain=drain), done)

    def _log_of(self, name: str) -> str:
        try:
            return self._cluster.node_log(name) or "it wrote nothing"
        except HandoffError as error:
            return str(error)

    def _do(self, verb: Callable[[], object], done: Callable[[str], None]) -> None:
        """Do what may take long in a thread of its own, then show what became of it."""

        def work() -> None:
            error = ""
            try:
                verb()
            except Exception as raised:
                error = str(raised)
            with self._lock:
                done(error)
                self.refresh()
                self._working.discard(thread)

        thread = threading.Thread(target=work, name="cluster widget verb", daemon=True)
        self._working.add(thread)
        thread.start()


def _gpu_state(gpu: GpuLoad) -> GpuState:
    return {
        "gpu": gpu.gpu, "percent": gpu.percent, "memory": gpu.memory, "total": gpu.total,
        "functions": len(gpu.functions),
    }  # fmt: skip


class _NewNode:
    """The fields for one more node."""

    def __init__(self, add: Callable[[str, Mapping[str, float] | None], object]) -> None:
        self._busy = False
        self.name = w.Text(placeholder="name (or leave it empty)", layout={"width": "12em"})
        self.field = CapabilitiesField("", self._enable, optional=True)
        self.field.text.placeholder = "cpu=2, memory=4GB"
        self.field.text.tooltip = "what the node has; empty: all that this machine has"
        self.button = w.Button(description="Add node", icon="plus", layout={"width": "auto"})
        self.button.on_click(lambda _: add(self.name.value.strip(), self.field.amounts))
        self.note = w.HTML()
        self.box = w.HBox(
            [self.name, self.field.text, self.button, self.field.note, self.note], layout={"flex_flow": "row wrap"}
        )
        self.box.add_class("hl-new-node")

    def work(self, doing: str) -> None:
        self._busy = True
        self.note.value = message(doing)
        self._enable()

    def rest(self, error: str) -> None:
        self._busy = False
        self.note.value = message(error, error=True)
        if not error:
            self.name.value = ""
            self.field.show("")
        self._enable()

    def close_down(self) -> None:
        self._busy = True
        self._enable()

    def _enable(self) -> None:
        self.button.disabled = self._busy or bool(self.field.error)
