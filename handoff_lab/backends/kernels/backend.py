"""The kernel backend: nodes that are processes of their own, their attempts, values and cells."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from handoff_lab._errors import BackendError
from handoff_lab.backends.base import Code, Emit, Feature, Reply, one_by_one
from handoff_lab.backends.kernels.cells import Cells, Content
from handoff_lab.backends.kernels.hub import Hub
from handoff_lab.backends.kernels.local import LocalAgents
from handoff_lab.backends.kernels.presence import Presence
from handoff_lab.backends.kernels.reports import Reports
from handoff_lab.backends.kernels.returning import Returning
from handoff_lab.backends.kernels.sending import KEYS, Sending
from handoff_lab.backends.kernels.site import Site
from handoff_lab.messages import (
    HERE,
    Attempt,
    AttemptId,
    Failure,
    FailureKind,
    HowToEnd,
    NodeChanged,
    NodeInfo,
    NodeJoined,
    NodeLost,
    ResultLost,
)
from handoff_lab.node.report import STORE_SHARE, slots_of
from handoff_lab.resources.probe import memory_limit
from handoff_lab.store.payload import Frames, Payload
from handoff_lab.store.spilling import SpillingStore
from handoff_lab.transport.invitation import write_invitation
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.peers import Member, Peers
from handoff_lab.transport.wire import pack
from handoff_lab.transport.zap import Admission


class KernelBackend:
    """Nodes that are processes of their own, each with slots and a Jupyter kernel.

    Parameters
    ----------
    nodes : mapping of name to capabilities
        Nodes to start on this machine; None for what this machine has.
    name : str
        The cluster's, for people who read process lists.
    host : str
        The address on which nodes of other machines find this one.
    store_limit : int, optional
        Bytes of values that each node started here holds in memory, and this process, too.
    site : Site, optional
        Where to listen so that another process can go on in this one's place.
    """

    features = frozenset({Feature.INTERRUPT, Feature.TIMEOUT, Feature.KERNEL, Feature.PROCESSES, Feature.ADD_NODES})
    columns = False

    def __init__(
        self,
        nodes: Mapping[str, Mapping[str, float] | None],
        *,
        name: str,
        host: str = "127.0.0.1",
        store_limit: int | None = None,
        site: Site | None = None,
    ) -> None:
        self._wanted = dict(nodes)
        self._name = name
        self._host = host
        self._store_limit = store_limit
        self._site = site
        self._reports = Reports()
        self._nodes: dict[str, NodeInfo] = {}  # those that are there
        self._held: list[Callable[[], None]] = []  # that is fetched when there is room again
        self._open = False
        self._emit: Emit
        self._store: SpillingStore  # values that this process holds
        self._peers: Peers
        self._presence: Presence
        self._hub: Hub
        self._agents: LocalAgents
        self._sending: Sending
        self._cells: Cells
        self.returning: Returning  # nodes that come back from a coordinator that is gone

    @property
    def join_file(self) -> Path:
        """The file with which nodes on any machine join; only its owner can read it."""
        return self._agents.join_file

    @property
    def site(self) -> Site:
        """Where it listens, and with which keys."""
        assert self._site is not None
        join = self._hub.join_file
        port = int(join.endpoint.rpartition(":")[2])
        return replace(
            self._site, joiner=join.keys, port=port, directory=self._agents.path, expected=self._hub.expected
        )

    # -- life ------------------------------------------------------------------

    def open(self, loop: Loop, emit: Emit) -> None:
        """Listen, and start the nodes that were asked for, all at once."""
        self._emit = emit
        self._store = SpillingStore(self._store_limit or _share_of_memory(), loop.call_soon_threadsafe)
        self._store.on_room(self._get_held)
        keys = KeyPair.generate()
        self._admission = Admission(loop)
        self._peers = Peers(loop, keys, self._admission, self._store, self._host)
        here = Member(HERE, keys.public, self._peers.endpoint)
        waits = self._site is not None
        presence = self._presence = Presence(loop, self._nodes, self._came, self._heard, self._went, waits)
        self._hub = presence.hub = Hub(loop, self._admission, self._peers, here, self._host, presence, self._site)
        directory = None if self._site is None else self._site.directory
        self._agents = presence.agents = LocalAgents(
            loop, self._hub.join_file, self._name, self._host, presence.agent_ended, self._store_limit, directory
        )
        self.returning = Returning(self._hub.send)
        self._cells = Cells(self._hub.send)
        self._sending = Sending(loop, self._hub, lambda failed: emit([failed]), self._reports, self._store)
        self._open = True
        for name, capabilities in self._wanted.items():
            self.add_node(name, capabilities, {})

    def close(self) -> None:
        """End every node, wait until they are gone, and remove the directory that they shared."""
        if not self._open:
            return
        self._open = False
        self._nodes.clear()
        self._cells.close()
        self._hub.broadcast(pack("stop"))
        self._agents.close()
        self._hub.close()
        self._peers.close()
        self._store.close()
        self._admission.close()

    # -- nodes -----------------------------------------------------------------

    def nodes(self) -> Mapping[str, NodeInfo]:
        """The nodes that are there now."""
        return dict(self._nodes)

    def features_of(self, node: str) -> frozenset[Feature]:
        """Everything, for every node."""
        return self.features

    def add_node(self, name: str, capabilities: Mapping[str, float] | None, labels: Mapping[str, str]) -> None:
        """Start an agent on this machine."""
        self._presence.start(name, capabilities, labels)
        self._peers.open_mailbox(self._agents.path / f"mailbox-{os.getpid()}")

    def remove_node(self, name: str) -> None:
        """Let a node end."""
        self._presence.remove(name)

    def invite(self, ttl_s: float) -> str:
        """The text with which one node can join, once, within ``ttl_s``."""
        return write_invitation(self._hub.invite(ttl_s))

    def revoke(self, name: str) -> None:
        """Cut a node off at once, and leave it no key with which it could come back."""
        self._presence.revoke(name)

    def set_capabilities(self, name: str, capabilities: Mapping[str, float]) -> None:
        """Change what a node has."""
        self._hub.send(name, pack("capabilities", dict(capabilities), slots_of(capabilities)))

    def node_log(self, name: str) -> str:
        """The end of what a node's agent wrote."""
        if name not in self._agents:
            raise BackendError(f"node {name!r} was not started by this cluster; its log is where it was started")
        return self._agents.log(name)

    # -- attempts --------------------------------------------------------------

    def load(self, codes: Mapping[str, Code]) -> None:
        """Remember code; it crosses with the first attempts that need it."""
        self._sending.load(codes)

    def unload(self, keys: Iterable[str]) -> None:
        """Forget code here and on the nodes."""
        self._sending.unload(keys)

    def submit(self, attempts: Sequence[Attempt]) -> None:
        """Hand attempts to their nodes, a batch for each."""
        self._sending.submit(attempts, self._nodes)

    def cancel(self, id: AttemptId, how: HowToEnd) -> None:
        """End an attempt."""
        self._sending.cancel(id, how)

    # -- values ----------------------------------------------------------------

    def put(self, key: AttemptId, value: Payload) -> None:
        """Hold a value in this process."""
        frames = value if isinstance(value, Frames) else Frames.dump(value.load())
        self._store.put(key, frames.settled())

    def get(self, key: AttemptId, node: str, reply: Reply) -> None:
        """Fetch a value from its node, or from here if it is here."""
        small = self._reports.small(key)
        value = self._store.get(key) if small is None else Frames(small)
        if value is not None:
            reply(value)
        elif node == HERE or self._store.knows(key):  # it was freed: its node may hear of that later than of this
            reply(Failure(FailureKind.INPUT, f"the value {key} is not here any more"))
        elif self._store.is_full:  # it may be to stay here
            self._held.append(lambda: self.get(key, node, reply))
        else:
            self._peers.read(node, key, lambda found: reply(_unavailable(found) if isinstance(found, str) else found))

    def _get_held(self) -> None:
        held, self._held = self._held, []
        for get in held:
            get()

    def free(self, keys: Iterable[AttemptId]) -> None:
        """Forget values here and on every node, copies too."""
        keys = list(keys)
        self._store.free(keys)
        self._reports.free(keys)
        for run, group in groupby(keys, attrgetter("run")):
            places = [key[1:] for key in group]
            for start in range(0, len(places), KEYS):
                functions, numbers = zip(*places[start : start + KEYS], strict=True)
                self._hub.broadcast(pack("free", run, functions, numbers))

    def forget(self, run: str) -> None:
        """Forget all values of a run here and on every node."""
        self._store.forget(run)
        self._reports.forget_run(run)
        self._hub.broadcast(pack("forget", run))

    # -- cells -----------------------------------------------------------------

    def run_cell(
        self, node: str, source: str, on_message: Callable[[Content], None], on_done: Callable[[Content], None]
    ) -> None:
        """Run source text in a node's kernel: Jupyter's messages as they come, then the reply's content."""
        self._cells.run(node, source, on_message, on_done)
        if node not in self._nodes:
            self._cells.lost(node, "it is not there")

    def interrupt_cell(self, node: str) -> None:
        """Interrupt what a node's kernel runs."""
        self._cells.interrupt(node)

    # -- what nodes say ----------------------------------------------------------

    def _came(self, info: NodeInfo) -> None:
        self._sending.meet_node(info.name)
        self._emit([NodeJoined(info)])

    def _went(self, lost: NodeLost) -> None:
        self._sending.forget_node(lost.name)
        self._reports.forget_node(lost.name)
        self.returning.lost(lost.name)
        self._cells.lost(lost.name, lost.reason)
        self._emit([lost])

    def _heard(self, name: str, kind: str, fields: list[Any]) -> None:
        if kind == "events" and self.returning.gathers:
            self.returning.note(name, *fields)
        elif kind == "events":
            self._take(name, *fields)
        elif kind == "held":
            self.returning.received(name, *fields)
        else:
            self._cells.received(name, kind, *fields)

    def _take(self, name: str, rows: list[Any]) -> None:
        events = self._reports.take(name, rows)
        for event in events:
            if isinstance(event, ResultLost) and event.node != name:  # with its node, as a rule: that is told first
                self._agents.settle(event.node)
            elif isinstance(event, NodeChanged):
                self._nodes[name] = replace(self._nodes[name], capabilities=event.capabilities, slots=event.slots)
        if not self.columns:
            events = [one for event in events for one in one_by_one(event)]
        self._emit(events)


def _share_of_memory() -> int:
    """The bytes that values may take here; without psutil, which takes long to import."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(STORE_SHARE * min(memory, memory_limit() or memory))


def _unavailable(reason: str) -> Failure:
    return Failure(FailureKind.INPUT, f"the value could not be fetched: {reason}")
