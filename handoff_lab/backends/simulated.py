"""Nodes in virtual time: nothing is executed, functions take as long as they are said to. For plans and for tests."""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from handoff_lab._errors import BackendError
from handoff_lab.allocation.loads import slots
from handoff_lab.allocation.problem import Link
from handoff_lab.backends.base import Code, Emit, Feature, Reply
from handoff_lab.messages import (
    HERE,
    Attempt,
    AttemptId,
    BackendEvent,
    Cancelled,
    Failed,
    Failure,
    FailureKind,
    Finished,
    HowToEnd,
    NodeChanged,
    NodeInfo,
    NodeJoined,
    NodeLost,
    ResultLost,
    Source,
    Started,
    Transferred,
)
from handoff_lab.resources import Resources, parse_capabilities
from handoff_lab.store.payload import Live, Payload

if TYPE_CHECKING:
    from handoff_lab.transport.loop import Loop

Duration: TypeAlias = Callable[[Attempt], float]
Action: TypeAlias = Callable[[], None]

# What happens at the same time happens in this order: slots are filled when all that became ready then is known.
_HAPPEN, _FILL = 0, 1
_NOTHING = Resources()


@dataclass(slots=True, eq=False)
class _Node:
    info: NodeInfo
    queue: list[tuple[float, int, Attempt]] = field(default_factory=list)  # heap: all inputs are there
    attempts: dict[AttemptId, Attempt] = field(default_factory=dict)  # in flight
    running: dict[AttemptId, float] = field(default_factory=dict)  # since when
    results: set[AttemptId] = field(default_factory=set)
    claimed: Resources = _NOTHING

    def has_room(self, attempt: Attempt) -> bool:
        """Whether the attempt may start: its claim is granted, or the node can grant it."""
        return attempt.granted or Resources(attempt.cost).fits_beside(self.claimed, Resources(self.info.capabilities))

    def take(self, attempt: Attempt) -> None:
        if not attempt.granted:
            self.claimed += Resources(attempt.cost)

    def give_back(self, attempt: Attempt) -> None:
        if not attempt.granted:
            self.claimed -= Resources(attempt.cost)


class SimulatedBackend:
    """A backend without a world: `step` goes from one moment to the next.

    Inputs are sent to their consumer's node when they are made; transfers do
    not slow each other down, and none is made twice. What an attempt would
    return is its own id.

    Parameters
    ----------
    nodes
        Capabilities by name. A node runs as many functions at once as it has whole cpus, at least one.
    duration
        Seconds that an attempt takes, or a function that says so.
    bandwidth, latency
        Bytes per second between nodes (None: transfers take no time but the latency), and seconds.
    nbytes
        Bytes of a result that one of its consumers takes.
    outcome
        Why an attempt fails at its end, or None.
    lag
        Seconds until the next event of a node is heard of; events of one node stay in order.
    started
        Whether `Started` is reported.
    keep_ledgers
        Whether nodes find room for costs themselves and take functions before their inputs are there.
    """

    features = frozenset(Feature)
    columns = False

    def __init__(
        self,
        nodes: Mapping[str, Mapping[str, float]],
        *,
        duration: float | Duration = 1.0,
        bandwidth: float | None = None,
        latency: float = 0.0,
        nbytes: Callable[[AttemptId, AttemptId], float] = lambda key, consumer: 0.0,
        outcome: Callable[[Attempt], Failure | None] = lambda attempt: None,
        lag: Callable[[str], float] = lambda node: 0.0,
        started: bool = True,
        keep_ledgers: bool = False,
    ) -> None:
        self.now = 0.0
        self._keep_ledgers = keep_ledgers
        self._wanted = dict(nodes)
        self._duration = duration
        self._link = Link(bandwidth, latency)
        self._nbytes = nbytes
        self._outcome = outcome
        self._lag = lag
        self._reports_started = started
        self._nodes: dict[str, _Node] = {}
        self._delivered: dict[str, float] = {}  # by node: when its latest event is heard of
        self._agenda: list[tuple[float, int, int, Action]] = []
        self._order = itertools.count()
        self._attempts: dict[AttemptId, Attempt] = {}  # in flight
        self._seen: set[AttemptId] = set()
        self._awaited: dict[AttemptId, int] = {}  # attempt to inputs that are still to come
        self._waiting: dict[AttemptId, list[tuple[AttemptId, Source]]] = defaultdict(list)  # by the missing result
        self._results: dict[AttemptId, tuple[str, float]] = {}  # node, and when it was made
        self._arrivals: dict[tuple[AttemptId, str, float], float] = {}
        self._heard: list[BackendEvent] = []
        self._emit: Emit = lambda events: None

    # -- the interface of a backend ----------------------------------------------------

    def open(self, loop: Loop | None, emit: Emit) -> None:
        """Announce the nodes in the first step; there is no loop."""
        self._emit = emit
        for name, capabilities in self._wanted.items():
            self.add_node(name, capabilities, {})

    def close(self) -> None:
        """Forget everything."""
        self._nodes.clear()
        self._agenda.clear()
        self._attempts.clear()
        self._results.clear()

    def nodes(self) -> Mapping[str, NodeInfo]:
        """The nodes that are there now."""
        return {name: node.info for name, node in self._nodes.items()}

    def features_of(self, node: str) -> frozenset[Feature]:
        """Everything, for every node."""
        return self.features

    def add_node(self, name: str, capabilities: Mapping[str, float], labels: Mapping[str, str]) -> None:
        """Add a node; it is there at once."""
        if name in self._nodes:
            raise BackendError(f"there is a node {name!r} already; choose another name")
        parsed = parse_capabilities(capabilities)
        self._nodes[name] = _Node(NodeInfo(name, parsed, slots(parsed), labels=labels, keeps_ledger=self._keep_ledgers))
        self._tell(name, NodeJoined(self._nodes[name].info))

    def remove_node(self, name: str) -> None:
        """Let a node go."""
        self.lose_node(name, "it was removed", expected=True)

    def set_capabilities(self, name: str, capabilities: Mapping[str, float]) -> None:
        """Change what a node has."""
        parsed = parse_capabilities(capabilities)
        node = self._nodes[name]
        node.info = replace(node.info, capabilities=parsed, slots=slots(parsed))
        self._tell(name, NodeChanged(name, parsed, node.info.slots))
        self._at(self.now, _FILL, lambda: self._fill(node))

    def load(self, codes: Mapping[str, Code]) -> None:
        """Take no notice: nothing is executed."""

    def unload(self, keys: Iterable[str]) -> None:
        """Take no notice either."""

    def submit(self, attempts: Sequence[Attempt]) -> None:
        """Take attempts in; those for a node that is gone end with the news of that."""
        for attempt in attempts:
            if attempt.id in self._seen or attempt.node not in self._nodes:
                continue
            self._seen.add(attempt.id)
            self._attempts[attempt.id] = self._nodes[attempt.node].attempts[attempt.id] = attempt
            self._awaited[attempt.id] = 1 + len(attempt.inputs)
            for source in attempt.inputs:
                self._fetch(attempt.id, source)
            self._arrived(attempt.id)

    def cancel(self, id: AttemptId, how: HowToEnd) -> None:
        """End an attempt at once."""
        attempt = self._attempts.get(id)
        if attempt is None:
            return
        started = self._nodes[attempt.node].running.get(id)
        if started is None or how != "recall":
            self._end(attempt)
            self._tell(attempt.node, Cancelled(id, started, None if started is None else self.now))
            self._give_up(id)

    def put(self, key: AttemptId, value: Payload) -> None:
        """Take no notice: values that are here are here."""

    def get(self, key: AttemptId, node: str, reply: Reply) -> None:
        """Reply with the id of the attempt that made the result."""
        if self._results.get(key, (None,))[0] == node:
            reply(Live(key))
        else:
            reply(Failure(FailureKind.INPUT, f"there is no result {key} on node {node!r}"))

    def free(self, keys: Iterable[AttemptId]) -> None:
        """Forget results."""
        for key in keys:
            self._drop(key)

    def forget(self, run: str) -> None:
        """Forget all results of a run."""
        self.free([key for key in self._results if key.run == run])

    # -- what a test or a plan does ------------------------------------------------------

    def lose_node(self, name: str, reason: str, *, expected: bool = False) -> None:
        """Have a node vanish with its attempts and results."""
        node = self._nodes[name]
        for attempt in [*node.attempts.values()]:
            self._end(attempt)
        self._tell(name, NodeLost(name, reason, expected))
        for key in [*node.results]:
            self._drop(key)
        del self._nodes[name]

    def lose_result(self, key: AttemptId) -> None:
        """Have a result vanish."""
        node, _ = self._results[key]
        self._drop(key)
        self._tell(node, ResultLost(key, node))

    def results(self) -> Mapping[AttemptId, str]:
        """The results that are there, and on which node."""
        return {key: node for key, (node, _) in self._results.items()}

    def at(self, time: float, action: Action) -> None:
        """Do something at a time."""
        self._at(time, _HAPPEN, action)

    def step(self) -> bool:
        """Go to the next moment at which anything happens and tell what did; False: nothing is left to happen."""
        if not self._agenda:
            return False
        moment = self._agenda[0][:2]
        self.now = moment[0]
        while self._agenda and self._agenda[0][:2] == moment:
            heapq.heappop(self._agenda)[3]()
        if self._heard:
            events, self._heard = self._heard, []
            self._emit(events)
        return True

    # -- inside --------------------------------------------------------------------------

    def _at(self, time: float, phase: int, action: Action) -> None:
        heapq.heappush(self._agenda, (max(time, self.now), phase, next(self._order), action))

    def _tell(self, name: str, event: BackendEvent) -> None:
        delivered = self._delivered[name] = max(self._delivered.get(name, 0.0), self.now + self._lag(name))
        self._at(delivered, _HAPPEN, lambda: self._heard.append(event))

    def _fetch(self, id: AttemptId, source: Source) -> None:
        """Have an input come to the attempt's node, from when it is made."""
        made = self._results.get(source.key)
        if source.node == HERE or source.inline is not None:
            self._arrived(id)
        elif made is not None:
            self._transfer(id, source.key, *made)
        else:
            self._waiting[source.key].append((id, source))

    def _transfer(self, id: AttemptId, key: AttemptId, source: str, made: float) -> None:
        target = self._attempts[id].node
        if source == target:
            self._arrived(id)
            return
        nbytes = self._nbytes(key, id)
        way = (key, target, nbytes)
        if way not in self._arrivals:
            arrival = self._arrivals[way] = made + self._link.seconds(nbytes)
            event = Transferred(key, source, target, int(nbytes), made, arrival)
            self._at(arrival, _HAPPEN, lambda: self._tell(target, event) if target in self._nodes else None)
        if self._arrivals[way] <= self.now:
            self._arrived(id)
        else:
            self._at(self._arrivals[way], _HAPPEN, lambda: self._arrived(id))

    def _arrived(self, id: AttemptId) -> None:
        """One more of the things that an attempt waits for is there."""
        attempt = self._attempts.get(id)
        if attempt is None:
            return
        self._awaited[id] -= 1
        if not self._awaited[id]:
            node = self._nodes[attempt.node]
            heapq.heappush(node.queue, (attempt.priority, next(self._order), attempt))
            self._at(self.now, _FILL, lambda: self._fill(node))

    def _fill(self, node: _Node) -> None:
        waiting = []
        while node.queue and len(node.running) < node.info.slots:
            entry = heapq.heappop(node.queue)
            attempt = entry[2]
            if attempt.id not in self._attempts:
                continue
            if node.has_room(attempt):
                self._run(node, attempt)
            else:
                waiting.append(entry)
        for entry in waiting:
            heapq.heappush(node.queue, entry)

    def _run(self, node: _Node, attempt: Attempt) -> None:
        node.running[attempt.id] = self.now
        node.take(attempt)
        if self._reports_started:
            self._tell(node.info.name, Started(attempt.id, self.now))
        seconds = self._duration(attempt) if callable(self._duration) else self._duration
        failure = self._outcome(attempt)
        if attempt.timeout_s is not None and seconds > attempt.timeout_s:
            seconds, failure = attempt.timeout_s, Failure(FailureKind.TIMEOUT, f"ran over {attempt.timeout_s:g} s")
        self.at(self.now + seconds, lambda: self._finish(attempt, failure))

    def _finish(self, attempt: Attempt, failure: Failure | None) -> None:
        id, name = attempt.id, attempt.node
        if id not in self._attempts:
            return
        started = self._nodes[name].running[id]
        self._end(attempt)
        if failure is not None:
            self._tell(name, Failed(id, failure, started, self.now))
            self._give_up(id)
            return
        self._results[id] = (name, self.now)
        self._nodes[name].results.add(id)
        self._tell(name, Finished(id, started, self.now))
        for consumer, source in self._waiting.pop(id, ()):
            if consumer in self._attempts:
                self._fetch(consumer, source)

    def _give_up(self, key: AttemptId) -> None:
        """What waits for this result will not get it."""
        for id, _ in self._waiting.pop(key, ()):
            attempt = self._attempts.get(id)
            if attempt is not None:
                self._end(attempt)
                self._tell(attempt.node, Failed(id, Failure(FailureKind.INPUT, f"{key} was not made")))
                self._give_up(id)

    def _drop(self, key: AttemptId) -> None:
        made = self._results.pop(key, None)
        if made is not None:
            self._nodes[made[0]].results.discard(key)

    def _end(self, attempt: Attempt) -> None:
        node = self._nodes[attempt.node]
        if attempt.id in node.running:
            node.give_back(attempt)
        del self._attempts[attempt.id], self._awaited[attempt.id], node.attempts[attempt.id]
        if node.running.pop(attempt.id, None) is not None:
            self._at(self.now, _FILL, lambda: self._fill(node))
