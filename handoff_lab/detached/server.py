"""The process of a detached coordinator: it lives until a client closes it, or none was there for the lease."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from handoff_lab.backends.base import Emit
from handoff_lab.backends.kernels import KernelBackend
from handoff_lab.backends.kernels.site import Site
from handoff_lab.coordinator import Coordinator
from handoff_lab.coordinator.runs import EarlierRun
from handoff_lab.detached.desk import Desk
from handoff_lab.detached.following import Scribe
from handoff_lab.detached.journal import Journal, Whereabouts
from handoff_lab.detached.place import Address, Place, Settings
from handoff_lab.detached.process import ENDED, TAKEN
from handoff_lab.detached.restoring import Record, read_runs, useful
from handoff_lab.messages import AttemptId, BackendEvent, NodeJoined, NodeLost
from handoff_lab.node.tether import Memory
from handoff_lab.transport.loop import Loop

log = logging.getLogger(__name__)

REJOIN_S = 20.0  # for the nodes that were there, to call again


class Server:
    """Serves the cluster of one place."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._loop = Loop()
        self._journal = Journal(place)

    def run(self, ready: Callable[[], None]) -> int:
        """Serve until the end; ``ready`` is called when clients can come. The exit code."""
        if not self._place.exists:
            return ENDED
        lock = self._place.hold()
        if lock is None:
            ready()
            return TAKEN
        self._place.address = None  # the one before this does not answer any more
        signal.signal(signal.SIGTERM, lambda *_: self._loop.call_soon_threadsafe(self._loop.stop))
        settings = self._place.settings
        generation, site = self._journal.begin(), self._journal.site
        backend = _Backend(self._journal, settings, site)
        coordinator = Coordinator(backend, settings.name, self._journal.tracker)
        # What goes wrong from here on ends this process and nothing else: the next one may have better luck.
        coordinator.open(backend.to_start)
        self._journal.site = coordinator.call(lambda: backend.site)
        if site is not None:
            self._restore(coordinator, backend, generation, settings)
        self._serve(coordinator, backend, settings, ready)
        coordinator.close()
        self._loop.close()
        self._place.remove()
        os.close(lock)
        return ENDED

    def _serve(
        self, coordinator: Coordinator, backend: _Backend, settings: Settings, ready: Callable[[], None]
    ) -> None:
        directory = coordinator.call(lambda: backend.site).directory
        assert directory is not None
        path = directory / f"clients-{os.getpid()}"
        desk = Desk(self._loop, path, coordinator, self._journal, settings)
        self._place.address = Address(os.getpid(), str(path))
        self._look_after_place(settings.lease_s)
        ready()
        self._loop.run()
        desk.close()

    def _look_after_place(self, lease_s: float) -> None:
        """Say that this process lives; end it when someone took its place away."""
        if not self._place.exists:
            self._loop.stop()
            return
        self._place.touch()
        self._loop.call_later(min(10.0, lease_s), lambda: self._look_after_place(lease_s))

    def _restore(self, coordinator: Coordinator, backend: _Backend, generation: int, settings: Settings) -> None:
        records = list(read_runs(self._journal, settings.log_directory))
        backend.wait_for_return(REJOIN_S)

        def take_up() -> None:
            """All at once: nothing that a node says may go lost meanwhile."""
            held = backend.stop_waiting()
            runs = list(_taken_up(records, held, generation))
            wanted = useful(runs)

            def keep(running: set[AttemptId]) -> None:
                for node, memory in held.items():
                    ids = (*memory.finished, *memory.started)
                    backend.returning.keep(node, [id for id in ids if id in wanted or id in running])

            coordinator.resume(runs, keep)
            log.warning("taken up again, with %d runs and %d nodes", len(runs), len(held))

        for record in records:
            Scribe(record.state, self._journal).begin()
        coordinator.call(take_up)


def _taken_up(records: Iterable[Record], held: Mapping[str, Memory], generation: int) -> Iterator[EarlierRun]:
    for record in records:
        try:
            yield record.taken_up(held, generation)
        except Exception:  # a bug of ours; the other runs go on
            log.exception("run %s is lost", record.state.id)


class _Backend(KernelBackend):
    """Kernel nodes that the journal knows of. After a restart, only those that never joined are started."""

    def __init__(self, journal: Journal, settings: Settings, site: Site | None) -> None:
        self._journal = journal
        self._present = journal.nodes
        self._expected = {name for name, where in self._present.items() if where is not None and _may_live(*where)}
        self.to_start = {name: has for name, has in settings.nodes.items() if name not in self._present}
        self._all_back = threading.Event()
        self._restarts = site is not None
        self._keys = () if site is None else site.expected  # that the journal knows of
        super().__init__(
            self.to_start,
            name=settings.name,
            host=settings.host,
            store_limit=settings.store_limit,
            site=site or Site(settings.lease_s),
        )

    def open(self, loop: Loop, emit: Emit) -> None:
        """Open, and keep the journal up to date."""

        def note_and_emit(events: Sequence[BackendEvent]) -> None:
            for event in events:
                if isinstance(event, NodeJoined):
                    self._note(event.info.name, (event.info.host, event.info.pid))
                elif isinstance(event, NodeLost) and event.name in self._present:
                    self._note(event.name, None)
            emit(events)

        super().open(loop, note_and_emit)
        self.returning.gathers = self._restarts
        self.returning.told = self._look

    def invite(self, ttl_s: float) -> str:
        """The text with which one node can join; a coordinator after this one is to know of it."""
        text = super().invite(ttl_s)
        self._note_keys()
        return text

    def revoke(self, name: str) -> None:
        """Cut a node off, also for coordinators after this one."""
        super().revoke(name)
        self._journal.site = self.site  # its join file may have changed, too

    def wait_for_return(self, patience_s: float) -> None:
        """Wait until all nodes that were there have said what they have. On any thread."""
        if self._expected:
            self._all_back.wait(patience_s)

    def stop_waiting(self) -> dict[str, Memory]:
        """What the nodes have that are back; those that come later are too late."""
        self.returning.gathers = False
        back = {name: held.memory for name, held in self.returning.held.items() if held.is_all}
        for name in self._expected.difference(back, self._nodes):
            self._note(name, None)
        return back

    def _note(self, name: str, where: Whereabouts) -> None:
        self._present[name] = where
        self._journal.nodes = self._present
        self._note_keys()

    def _note_keys(self) -> None:
        if self._keys != self._hub.expected:
            self._keys = self._hub.expected
            self._journal.site = self.site

    def _look(self) -> None:
        if self._expected <= {name for name, held in self.returning.held.items() if held.is_all}:
            self._all_back.set()


def _may_live(host: str, pid: int) -> bool:
    """Whether a node may call again."""
    return host != socket.gethostname() or Path(f"/proc/{pid}").exists()
