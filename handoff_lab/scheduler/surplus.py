"""What waits on nodes that are busy, the longest wait first, and how much of it another node may have.

Only what is asked for is looked at: with thousands of nodes and millions of functions, all of it would take seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from heapq import heapify, heappop, heappush, heapreplace

from handoff_lab.resources import Resources
from handoff_lab.scheduler.ledger import NodeState
from handoff_lab.scheduler.state import READY, SUBMITTED, Progress

WORTH_S = 0.5  # of waiting on the one node, while the other has nothing to do

_LOOKS = 16  # sources that may have nothing for a node before that is left with nothing
# Seconds until a source is looked at again where all was bound, and more for each function that was looked at.
_VAIN_S, _VAIN_EACH_S = 5.0, 1e-4


class Surplus:
    """What could begin at once, had its node room; functions that are bound to their nodes are left out.

    Parameters
    ----------
    run
        Whose functions.
    paces
        The busy nodes, and seconds that a function takes there.
    idle
        How many others have nothing to do.
    vain
        When nodes are worth another look, by run and node; those that turn out not to be are added.
    """

    def __init__(
        self,
        run: Progress,
        paces: Mapping[NodeState, float],
        idle: int,
        vain: MutableMapping[tuple[str, str], float],
        now: float,
    ) -> None:
        self._run = run
        self._paces = paces
        self._vain = vain
        self._now = now
        looked = ((node, _count(run, node)) for node in paces)
        counts = {node: n for node, n in looked if n and vain.get((run.id, node.name), now) <= now}
        self._share = -(-sum(counts.values()) // (len(counts) + idle))  # of each of these, if all had the same
        self._heap = [(-self._seconds(node, counts[node]), place, node) for place, node in enumerate(counts)]
        heapify(self._heap)
        self._waiting: dict[NodeState, list[int]] = {}  # by node, the most urgent first: looked at only now
        self._nothing: set[tuple[NodeState, Resources]] = set()  # sources, and capabilities for which they have nothing
        self._fits: dict[tuple[int, Resources], bool] = {}

    def take(self, target: NodeState) -> tuple[NodeState, list[int]] | None:
        """Functions for ``target``, and the node on which they wait; not more than half of those there."""
        aside: list[tuple[float, int, NodeState]] = []
        taken = None
        while taken is None and len(aside) < _LOOKS and (entry := self._longest()) is not None:
            _, place, source = entry
            functions = [] if (source, target.capabilities) in self._nothing else self._cut(source, target)
            if functions:
                taken = source, functions
                entry = (-self._seconds(source, len(self._waiting[source])), place, source)
            else:
                self._nothing.add((source, target.capabilities))
            aside.append(entry)
        for entry in aside:
            heappush(self._heap, entry)
        return taken

    @property
    def is_over(self) -> bool:
        """Whether nobody waits long enough any more."""
        return not self._heap or -self._heap[0][0] < WORTH_S

    def _longest(self) -> tuple[float, int, NodeState] | None:
        """Taken out: the node with the longest wait, if that is worth a move."""
        heap = self._heap
        while not self.is_over:
            _, place, node = heap[0]
            if node in self._waiting:
                return heappop(heap)
            functions = self._waiting[node] = self._look(node)
            heapreplace(heap, (-self._seconds(node, len(functions)), place, node))
        return None

    def _look(self, node: NodeState) -> list[int]:
        run = self._run
        could = sorted(_could_begin(run, node), key=lambda i: (run.priority[i], i))[node.slots :]
        functions = [i for i in could if not is_bound(run, i)]
        if not functions:
            self._vain[run.id, node.name] = self._now + _VAIN_S + _VAIN_EACH_S * len(could)
        return functions

    def _cut(self, source: NodeState, target: NodeState) -> list[int]:
        """Take out what is least urgent, of what fits."""
        waiting = self._waiting[source]
        most = min(self._share, len(waiting) - len(waiting) // 2)
        taken: list[int] = []
        left: list[int] = []
        while waiting and len(taken) < most:
            i = waiting.pop()
            (taken if self._fit(i, target) else left).append(i)
        waiting.extend(reversed(left))
        return taken

    def _fit(self, i: int, target: NodeState) -> bool:
        kind = (self._run.cost_class[i], target.capabilities)
        fits = self._fits.get(kind)
        if fits is None:
            fits = self._fits[kind] = self._run.program.functions[i].cost.fits_in(target.capabilities)
        return fits

    def _seconds(self, node: NodeState, functions: int) -> float:
        """How long so many would keep the node busy, by what is known of it."""
        return self._paces[node] * functions / max(node.slots, 1)


def is_bound(run: Progress, i: int) -> bool:
    """Whether function ``i`` is pinned, collocated, hidden, or has inputs that are serialized for where it runs."""
    function = run.program.functions[i]
    return (
        function.allocated is None
        or function.allocated.node is not None
        or function.home is not None
        or function.id in run.program.together
        or (bool(run.program.serializers) and any(run.is_hidden(producer) for producer in function.inputs))
    )


def _count(run: Progress, node: NodeState) -> int:
    """Functions that wait on the node, or a few more."""
    ahead = node.in_flight - node.early - node.slots
    lanes = run.lanes.get(node.name)
    ready = sum([len(lane.heap) for lane in lanes.values()]) if lanes else 0
    return ready + ahead if ahead > 0 else ready


def _could_begin(run: Progress, node: NodeState) -> Iterator[int]:
    for lane in run.lanes.get(node.name, {}).values():
        yield from (i for _, i in lane.heap if run.state[i] == READY)
    for i in run.given_to(node.name):
        if run.state[i] == SUBMITTED and run.node[i] == node.name and not run.missing[i]:
            yield i
