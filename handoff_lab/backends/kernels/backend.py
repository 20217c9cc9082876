"""The kernel backend: hands nodes their attempts in few messages, and passes on what they report."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from handoff_lab._errors import BackendError, HandoffError
from handoff_lab.backends.base import Code, Emit, Feature, Reply, one_by_one
from handoff_lab.backends.kernels.cells import Cells, Content
from handoff_lab.backends.kernels.hub import Hub
from handoff_lab.backends.kernels.local import END_S, SILENCE_S, LocalAgents
from handoff_lab.backends.kernels.reports import Reports
from handoff_lab.backends.kernels.returning import Returning
from handoff_lab.backends.kernels.site import Site
from handoff_lab.messages import (
    HERE,
    Attempt,
    AttemptId,
    Failed,
    Failure,
    FailureKind,
    HowToEnd,
    NodeChanged,
    NodeInfo,
    NodeJoined,
    NodeLost,
    Source,
)
from handoff_lab.node.report import slots_of
from handoff_lab.store.memory import MemoryStore
from handoff_lab.store.payload import Frames, Payload, join
from handoff_lab.transport.hello import is_name
from handoff_lab.transport.invitation import write_invitation
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.peers import Member, Peers
from handoff_lab.transport.rows import Row, attempt_row
from handoff_lab.transport.wire import BATCH, BATCH_BYTES, INLINE_LIMIT, pack
from handoff_lab.transport.zap import Admission

_KEYS = 4096  # in one message
_REVOKED = "its key was revoked"


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
        Bytes of values that each node started here holds in memory.
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
        self._store: MemoryStore[Frames] = MemoryStore()  # values that this process holds
        self._nodes: dict[str, NodeInfo] = {}
        self._codes: dict[str, Code] = {}
        self._sent: dict[str, set[str]] = {}  # keys of code, by node
        self._farewells: dict[str, str] = {}  # what leaving nodes said
        self._leaving: set[str] = set()  # nodes that were asked to go
        self._ending: dict[tuple[str, HowToEnd], list[AttemptId]] = {}  # attempts, by node and how
        self._open = False
        self._loop: Loop
        self._emit: Emit
        self._peers: Peers
        self._hub: Hub
        self._agents: LocalAgents
        self._reports: Reports
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
        return replace(self._site, joiner=join.keys, port=port, directory=self._agents.path)

    # -- life ------------------------------------------------------------------

    def open(self, loop: Loop, emit: Emit) -> None:
        """Listen, and start the nodes that were asked for, all at once."""
        self._loop, self._emit = loop, emit
        keys = KeyPair.generate()
        self._admission = Admission(loop)
        self._peers = Peers(loop, keys, self._admission, self._store, self._host)
        here = Member(HERE, keys.public, self._peers.endpoint)
        self._hub = Hub(loop, self._admission, self._peers, here, self._host, self, self._site)
        directory = None if self._site is None else self._site.directory
        self._agents = LocalAgents(
            loop, self._hub.join_file, self._name, self._host, self._agent_ended, self._store_limit, directory
        )
        self.returning = Returning(self._hub.send)
        self._cells = Cells(self._hub.send)
        self._reports = Reports()
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
        if not is_name(name):
            raise BackendError(f"{name!r} is no name for a node; use up to 64 printable characters")
        if name in self._nodes or name in self._agents:
            raise BackendError(f"there is a node {name!r} already; choose another name")
        self._agents.start(name, capabilities, labels)
        self._peers.open_mailbox(self._agents.path / f"mailbox-{os.getpid()}")

    def remove_node(self, name: str) -> None:
        """Let a node end."""
        verdict = "it did not end when it was told to"
        self._hub.send(name, pack("stop"))
        if name in self._agents:
            self._agents.end(name, END_S, verdict)
        elif name in self._nodes:
            self._loop.call_later(END_S, lambda: self._insist(name, verdict))
        else:
            return
        self._farewells[name] = "it was removed"
        self._leaving.add(name)

    def _insist(self, name: str, verdict: str) -> None:
        if name in self._leaving:
            self._hub.dismiss(name, verdict)

    def invite(self, ttl_s: float) -> str:
        """The text with which one node can join, once, within ``ttl_s``."""
        return write_invitation(self._hub.invite(ttl_s))

    def revoke(self, name: str) -> None:
        """Cut a node off at once, and leave it no key with which it could come back."""
        self._farewells[name] = _REVOKED
        self._leaving.add(name)
        if name in self._agents:
            self._hub.dismiss(name, _REVOKED)
            self._agents.kill(name, _REVOKED)
        else:
            self._hub.revoke(name, _REVOKED)
            self._agents.renew(self._hub.join_file)

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
        self._codes.update(codes)

    def unload(self, keys: Iterable[str]) -> None:
        """Forget code here and on the nodes."""
        forgotten = {key for key in keys if self._codes.pop(key, None) is not None}
        for name, sent in self._sent.items():
            if known := forgotten & sent:
                sent.difference_update(known)
                self._hub.send(name, pack("unload", sorted(known)))

    def submit(self, attempts: Sequence[Attempt]) -> None:
        """Hand attempts to their nodes, a batch for each."""
        by_node: defaultdict[str, list[Attempt]] = defaultdict(list)
        for attempt in attempts:
            # The NodeLost of a node that is no more ends these attempts too.
            if attempt.node in self._nodes and self._reports.expect(attempt.id, attempt.node):
                by_node[attempt.node].append(attempt)
        for name, batch in by_node.items():
            self._hand_over(name, batch)

    def cancel(self, id: AttemptId, how: HowToEnd) -> None:
        """End an attempt; those that are to end in one turn of the loop are told to in few messages."""
        node = self._reports.node_of(id)
        if node is not None:
            if not self._ending:
                self._loop.call_soon(self._send_cancels)
            self._ending.setdefault((node, how), []).append(id)

    def _send_cancels(self) -> None:
        ending, self._ending = self._ending, {}
        for (node, how), ids in ending.items():
            for start in range(0, len(ids), _KEYS):
                self._hub.send(node, pack("cancel", ids[start : start + _KEYS], how))

    def _hand_over(self, name: str, attempts: list[Attempt]) -> None:
        rows: list[Row] = []
        nbytes = 0
        for attempt in attempts:
            recipe, inputs = attempt.recipe, attempt.inputs
            try:
                if recipe is not None and not isinstance(recipe, bytes):
                    recipe = cloudpickle.dumps(recipe, protocol=5)
                self._send_code(name, attempt)
            except Exception as error:
                self._fail(attempt.id, error)
                continue
            if inputs:
                inputs = tuple([self._with_value(source) for source in inputs])
                nbytes += sum([len(part) for source in inputs for part in source.inline or ()])
            if recipe:
                nbytes += len(recipe)
            rows.append(attempt_row(attempt, inputs, recipe))
            if len(rows) == BATCH or nbytes > BATCH_BYTES:
                self._hub.send(name, pack("submit", rows))
                rows, nbytes = [], 0
        if rows:
            self._hub.send(name, pack("submit", rows))

    def _send_code(self, name: str, attempt: Attempt) -> None:
        """Send the code that this attempt needs and its node does not have."""
        sent = self._sent[name]
        keys = attempt.codes
        if attempt.setup or attempt.retry_on:
            keys = (*keys, *attempt.setup, *((attempt.retry_on,) if attempt.retry_on else ()))
        if not sent.issuperset(keys):
            new = {key: self._codes[key].pickled() for key in keys if key not in sent}
            self._hub.send(name, pack("load", new))
            sent.update(new)

    def _with_value(self, source: Source) -> Source:
        """The source with its value, when that is small and here."""
        small = self._reports.small.get(source.key)
        if small is None and (value := self._store.get(source.key)) is not None and value.nbytes <= INLINE_LIMIT:
            small = join(value.buffers)
        return source if small is None else Source(source.key, source.node, small)

    def _fail(self, id: AttemptId, error: Exception) -> None:
        message = f"it could not be sent to its node: {type(error).__name__}: {error}"
        failure = Failure(FailureKind.CODE, message, type(error).__name__, retryable=False)
        self._reports.forget(id)
        self._loop.call_soon(lambda: self._emit([Failed(id, failure)]))

    # -- values ----------------------------------------------------------------

    def put(self, key: AttemptId, value: Payload) -> None:
        """Hold a value in this process."""
        frames = value if isinstance(value, Frames) else Frames.dump(value.load())
        self._store.put(key, frames.settled())

    def get(self, key: AttemptId, node: str, reply: Reply) -> None:
        """Fetch a value from its node, or from here if it is here."""
        small = self._reports.small.get(key)
        value = self._store.get(key) if small is None else Frames(small)
        if value is not None:
            reply(value)
        elif node == HERE or self._store.knows(key):  # it was freed: its node may hear of that later than of this
            reply(Failure(FailureKind.INPUT, f"the value {key} is not here any more"))
        else:
            self._peers.read(node, key, lambda found: reply(_unavailable(found) if isinstance(found, str) else found))

    def free(self, keys: Iterable[AttemptId]) -> None:
        """Forget values here and on every node, copies too."""
        keys = list(keys)
        self._store.free(keys)
        self._reports.free(keys)
        for run, group in groupby(keys, attrgetter("run")):
            places = [key[1:] for key in group]
            for start in range(0, len(places), _KEYS):
                functions, numbers = zip(*places[start : start + _KEYS], strict=True)
                self._hub.broadcast(pack("free", run, functions, numbers))

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

    # -- what the hub hears ------------------------------------------------------

    def refusal(self, info: NodeInfo) -> str | None:
        """Refuse those who take the name of a node that is being started here."""
        pid = self._agents.pid(info.name)
        return "a node of this name is being started" if pid is not None and pid != info.pid else None

    def refused(self, name: str, error: HandoffError) -> None:
        """Tell of a node that would have come, had it the right versions."""
        if name and name not in self._nodes and name not in self._agents:
            self._emit([NodeLost(name, str(error))])

    def joined(self, info: NodeInfo) -> None:
        """Announce a node."""
        self._agents.joined(info.name)
        self._nodes[info.name] = info
        self._sent[info.name] = set()
        self._emit([NodeJoined(info)])

    def received(self, name: str, kind: str, fields: list[Any]) -> None:
        """Take what a node says."""
        if kind == "events" and self.returning.gathers:
            self.returning.note(name, *fields)
        elif kind == "events":
            events = self._reports.take(name, *fields)
            for event in events:
                if isinstance(event, NodeChanged):
                    changed = replace(self._nodes[name], capabilities=event.capabilities, slots=event.slots)
                    self._nodes[name] = changed
            if not self.columns:
                events = [one for event in events for one in one_by_one(event)]
            self._emit(events)
        elif kind == "held":
            self.returning.received(name, *fields)
        elif kind == "leaving":
            self._farewells[name] = fields[0]
            self._hub.dismiss(name, fields[0])
        else:
            self._cells.received(name, kind, *fields)

    def endures(self, name: str) -> bool:
        """A node of this machine that runs calls again, unless it waits for the coordinator after this one."""
        goes = name in self._farewells or name in self._leaving
        return self._site is None and not goes and self._agents.is_running(name)

    def disconnected(self, name: str, reason: str) -> None:
        """A node is gone; one of this machine that did not say that it goes, and is still there, is replaced."""
        verdict = f"{reason} while its agent was still there"
        if name in self._agents and name in self._farewells:
            self._agents.end(name, END_S, verdict)
        elif name in self._agents:
            self._agents.replace(name, self._nodes[name].capabilities, SILENCE_S, verdict)
        else:
            self._lose(name, reason)

    def _agent_ended(self, name: str, story: str) -> None:
        joined = name in self._nodes
        self._hub.dismiss(name, story)
        if name in self._nodes or not joined:  # else that was its loss
            self._lose(name, story)

    def _lose(self, name: str, reason: str) -> None:
        self._nodes.pop(name, None)
        self._sent.pop(name, None)
        self._reports.forget_node(name)
        self.returning.lost(name)
        reason = self._farewells.pop(name, reason)
        self._cells.lost(name, reason)
        expected = name in self._leaving
        self._leaving.discard(name)
        self._emit([NodeLost(name, reason, expected)])


def _unavailable(reason: str) -> Failure:
    return Failure(FailureKind.INPUT, f"the value could not be fetched: {reason}")
