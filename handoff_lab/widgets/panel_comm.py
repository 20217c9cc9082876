"""The kernel's side of a JupyterLab panel: a comm, over which go an overview and the run that is followed.

Nothing is computed before a browser says hello.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from handoff_lab.telemetry import attach, detach
from handoff_lab.telemetry import events as names
from handoff_lab.telemetry.events import Event, EventName
from handoff_lab.widgets import requests
from handoff_lab.widgets.overview import Cells, NodeRows, RunRows, functions_part, newest_first, nodes_of
from handoff_lab.widgets.viewer import Viewer

if TYPE_CHECKING:
    from handoff_lab.cluster import Cluster
    from handoff_lab.run import Run
    from handoff_lab.telemetry.batches import FunctionBatch
    from handoff_lab.widgets.overview import Session

_PERIOD_S = 0.5
_NODES_PERIOD_S = 1.0
_HEARD = (("handoff", "run"), ("handoff", "node"), names.RESOURCE_UTILIZATION)  # events, by how their names begin

_log = logging.getLogger(__name__)


class Comm(Protocol):
    """What the panel needs of a comm (of the package ``comm``)."""

    comm_id: str

    def send(self, data: dict[str, Any]) -> None: ...
    def close(self) -> None: ...
    def on_msg(self, callback: Callable[[dict[str, Any]], None]) -> None: ...
    def on_close(self, callback: Callable[[dict[str, Any]], None]) -> None: ...


class Panel:
    """Tells browsers what a kernel has and does, at most twice a second and only what changed.

    Parameters
    ----------
    open_comm
        Opens the comm; called again when a browser closed it.
    """

    def __init__(self, open_comm: Callable[[], Comm]) -> None:
        self._open_comm = open_comm
        self._comm: Comm | None = None
        self._clusters: weakref.WeakSet[Cluster] = weakref.WeakSet()
        self._cells: Cells | None = None
        self._viewer: Viewer | None = None  # from the first hello on
        self._shown: object = None  # what the viewer shows, in a tuple: a run's id, or the functions of the notebook
        self._chosen: str | None = None  # the run that the browser asked for; None: the newest
        self._nodes, self._runs = NodeRows(), RunRows()
        self._nodes_at = -_NODES_PERIOD_S
        self._heard: dict[str, Callable[[], None]] = {}  # runs that tell of their functions, and what ends that
        self._told: dict[str, Any] = {}
        self._is_new = False  # a browser that knows nothing yet is there
        self._whole = False  # a structure was published: the state that follows is news
        self._cell_ended = False
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._wake: SimpleQueue[None] = SimpleQueue()  # no Event: the collector wakes it, wherever it may run
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="handoff panel", daemon=True)

    def show(self, cluster: Cluster | None = None, session: Session | None = None) -> None:
        """Show one more cluster, or this notebook."""
        with self._lock:
            if cluster is not None:
                self._clusters.add(cluster)
            if session is not None:
                self._cells = Cells(session)
        with self._sending:
            if self._comm is None and not self._closed.is_set():
                try:
                    self._comm = self._open_comm()
                except Exception:  # what is shown must not hurt what runs
                    _log.debug("there is no comm for JupyterLab's panel", exc_info=True)
                    return
                self._comm.on_msg(lambda message: self.receive(message["content"]["data"]))
                self._comm.on_close(self._lose_comm)
                requests.register(self)
        self.look_again()

    def look_again(self) -> None:
        """A cell was run: the notebook's graph may be another than before."""
        self._cell_ended = True
        self._nudge()

    @property
    def key(self) -> str:
        """What requests that don't come over the comm are for: the comm's id."""
        comm = self._comm
        return "" if comm is None else comm.comm_id

    def stop(self) -> None:
        """Tell nothing more."""
        self._closed.set()
        self._nudge()
        for name in _HEARD:
            detach((self, name))
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()
        for end in self._heard.values():
            end()
        if self._viewer is not None:
            self._viewer.close()

    def close(self) -> None:
        """Tell nothing more, and end the comm."""
        self.stop()
        requests.withdraw(self.key)
        with self._sending:
            comm, self._comm = self._comm, None
        if comm is not None:
            comm.close()

    # -- what the browser says ---------------------------------------------------------

    def receive(self, message: dict[str, Any]) -> None:
        """Take what the browser says, over the comm or beside a running cell."""
        match message.get("type"):
            case "hello":
                self._greet()
            case "follow":
                self._chosen = message.get("run")
                self._nudge()
            case "request":
                self._answer(message)

    def _answer(self, message: dict[str, Any]) -> None:
        viewer = self._viewer
        if viewer is None:
            self._send({"type": "reply", "id": message.get("id", -1), "error": "nothing is shown yet"})
            return
        before = viewer.run
        viewer.receive(message)
        match message:
            case {"request": {"do": "rerun"}} if viewer.run is not before:
                self._chosen = None  # the new run is of interest now
                self._nudge()

    def _greet(self) -> None:
        """A browser knows nothing yet: tell it everything."""
        with self._lock:
            self._told, self._is_new, self._nodes_at = {}, True, -_NODES_PERIOD_S
            is_first = self._thread.ident is None and not self._closed.is_set()
            if is_first:
                self._thread.start()
        if is_first:
            for name in _HEARD:
                attach((self, name), name, self._on_event)
        self._nudge()

    def _lose_comm(self, message: dict[str, Any]) -> None:
        with self._sending:
            self._comm = None

    # -- what happens here --------------------------------------------------------------

    def _on_event(self, name: EventName, numbers: dict[str, float], facts: dict[str, Any], config: object) -> None:
        with self._lock:
            self._nodes.hear(name, numbers, facts)
        if name in {names.RUN_START, names.RUN_STOP}:  # what it runs is stale no more
            self._cell_ended = True
        self._nudge()

    def _on_news(self, news: Event | FunctionBatch) -> None:
        if names.FUNCTION_LOG not in news.names:
            self._nudge()

    def _nudge(self) -> None:
        if self._wake.empty():
            self._wake.put(None)

    def _work(self) -> None:
        while True:
            self._wake.get()
            if self._closed.is_set():
                return
            try:
                self._look()
            except Exception:
                _log.exception("JupyterLab's panel could not be told what changed")
            self._closed.wait(_PERIOD_S)

    def _look(self) -> None:
        """Tell what is new, and have the viewer show what is to be followed."""
        with self._lock:
            clusters, cells = list(self._clusters), self._cells
            cell_ended, self._cell_ended = self._cell_ended, False
        if cells is not None and cell_ended:
            cells.look_again()
        viewer = self._viewer_of(cells)
        runs = newest_first(run for cluster in clusters for run in cluster.runs)
        self._listen_to(run for run in runs if run.status == "running")
        followed = next((run for run in runs if run.id == self._chosen), None) or next(iter(runs), None)
        self._tell(
            {
                "following": None if followed is None else followed.id,
                "runs": self._runs.of(runs),
                **functions_part(cells, runs),
                **self._meters(clusters),
            }
        )
        self._follow(viewer, followed, cells)
        if cell_ended and followed is not None:
            viewer.refresh()

    def _listen_to(self, runs: Iterable[Run]) -> None:
        """Hear of what their functions do: once for many, which telemetry would tell one by one."""
        self._heard = {run.id: self._heard.get(run.id) or run.news.subscribe(self._on_news) for run in runs}

    def _viewer_of(self, cells: Cells | None) -> Viewer:
        """The viewer of this notebook."""
        viewer = self._viewer
        if viewer is None or viewer.notebook is not cells:
            if viewer is not None:
                viewer.close()
            viewer = self._viewer = Viewer(publish=self._publish, send=self._send, notebook=cells, settled=self._nudge)
            self._shown = None
        return viewer

    def _meters(self, clusters: list[Cluster]) -> dict[str, Any]:
        """The nodes, at most once a second."""
        if time.monotonic() - self._nodes_at < _NODES_PERIOD_S:
            self._nudge()  # what is not told now is told then
            return {}
        self._nodes_at = time.monotonic()
        present = nodes_of(clusters)
        with self._lock:
            return {"nodes": self._nodes.of(present)}

    def _follow(self, viewer: Viewer, run: Run | None, cells: Cells | None) -> None:
        """Have the viewer show a run; where there is none, the notebook's graph.

        Results of a run that is over are freed when its user lets go of it.
        """
        dag = None if cells is None or not cells.dag.functions else cells.dag
        shown = (run.id if run else dag and tuple(map(id, dag.functions.values())),)
        with self._lock:
            is_same, self._shown = self._shown == shown, shown
            is_new, self._is_new = self._is_new, False
        if is_same and is_new:
            viewer.publish()
        if not is_same:
            viewer.show(run or dag)
            if run is not None:
                weakref.finalize(run, self._wake.put, None).atexit = False
        elif run is not None and viewer.run is run and run.status != "running":
            viewer.let_go()

    # -- what is said to the browser --------------------------------------------------------

    def _tell(self, overview: dict[str, Any]) -> None:
        with self._lock:
            is_whole = not self._told
            news = {key: value for key, value in overview.items() if is_whole or self._told.get(key) != value}
            self._told |= news
        if news:
            self._send({"type": "overview", "whole": is_whole, "overview": news})

    def _publish(self, what: str, value: dict[str, Any] | None) -> None:
        """The browser keeps the state itself: it needs a whole one with each structure only."""
        if what == "structure" or self._whole:
            self._send({"type": what, what: value})
        self._whole = what == "structure"

    def _send(self, message: dict[str, Any]) -> None:
        with self._sending:
            if self._comm is not None:
                self._comm.send(message)
