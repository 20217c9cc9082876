"""Where results are: small ones here, large ones on Dask's workers, as parts of what their batches returned."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from handoff_lab.backends.dask.link import Link
from handoff_lab.backends.dask.remote import Made
from handoff_lab.messages import AttemptId, Failure, FailureKind
from handoff_lab.store.memory import MemoryStore
from handoff_lab.store.payload import Frames

IN_BAND = 8 * 1024  # bytes of a value of this process that is sent along with those who need it
AGAIN_S = 0.5  # before a value is copied to the same worker again
TRIES = 3  # copies of a value to a worker that may fail, beside those to one that is paused


@dataclass(slots=True, eq=False)
class Far:
    """A value on a worker. Dask keeps it as long as its future, which other values may share, is held."""

    future: Any
    part: int
    node: str
    nbytes: int
    copies: set[str] = field(default_factory=set)  # nodes to which Dask has copied it

    def load(self) -> Any:
        """The value, fetched."""
        return self.future.result().frames(self.part).load()


Value: TypeAlias = Frames | Far


@dataclass(slots=True, eq=False)
class _Copy:
    """Of a value of this process, on its way to a worker."""

    key: AttemptId
    made: Made
    node: str
    address: str
    waiting: list[Callable[[bool], None]]
    failures: int = 0


class Values(MemoryStore[Value]):
    """All values that attempts may need, and the large ones of this process that were copied to a worker.

    Parameters
    ----------
    settle
        Called when those who waited for a copy were told.
    """

    def __init__(self, link: Link, settle: Callable[[], None]) -> None:
        super().__init__()
        self._link = link
        self._settle = settle
        self._placed: dict[AttemptId, Far] = {}
        self._copies: dict[AttemptId, _Copy] = {}
        self._fetching: dict[int, tuple[str, Callable[[Frames | Failure], None]]] = {}  # with the node that has it
        self._numbers = itertools.count()

    def keep(self, key: AttemptId, value: Frames) -> None:
        """Hold a value here, in place of one that lies on a worker."""
        if key in self:
            self.replace(key, value)
        else:
            self.put(key, value)

    def ready(self, key: AttemptId) -> Value | None:
        """The value as it can be given to a batch: None if it is gone, or too large and not on any worker yet."""
        value = self.get(key)
        if isinstance(value, Frames) and value.nbytes > IN_BAND:
            return self._placed.get(key)
        return value

    def place(self, key: AttemptId, node: str, address: str, then: Callable[[bool], None]) -> bool:
        """Copy a large value to a worker, if it is on none; whether ``then`` is told later how that went."""
        value = self.get(key)
        if not isinstance(value, Frames) or value.nbytes <= IN_BAND or key in self._placed:
            return False
        if (copy := self._copies.get(key)) is not None:
            copy.waiting.append(then)
        else:
            copy = self._copies[key] = _Copy(key, Made({0: value.buffers}), node, address, [then])
            self._send(copy)
        return True

    def _send(self, copy: _Copy) -> None:
        if self._copies.get(copy.key) is copy:
            client = self._link.client
            send = partial(client.scatter, [copy.made], workers=[copy.address], hash=False, asynchronous=True)
            self._link.ask(send, partial(self._sent, copy))

    def _sent(self, copy: _Copy, result: Any) -> None:
        if self._copies.get(copy.key) is not copy:
            return  # its node went first
        well, wanted = isinstance(result, list), copy.key in self
        if wanted and not well:
            copy.failures += not isinstance(result, TimeoutError)  # which is a worker that is paused
            if copy.failures < TRIES:  # it may be gone: that is told soon
                self._link.loop.call_later(AGAIN_S, partial(self._send, copy))
                return
        if well and wanted:
            self._placed[copy.key] = Far(result[0], 0, copy.node, copy.made.__sizeof__())
        for then in self._copies.pop(copy.key).waiting:
            then(well and wanted)
        self._settle()

    def lose(self, node: str) -> None:
        """What lay on a node is no more, and nobody waits for it; who waited for a copy to be there looks again."""
        for key in [key for key, far in self._placed.items() if far.node == node]:
            del self._placed[key]
        self.free([key for key, value in self.items() if isinstance(value, Far) and value.node == node])
        for number in [number for number, (holder, _) in self._fetching.items() if holder == node]:
            self._fetching.pop(number)[1](_unavailable(f"node {node!r}, which had it, is gone"))
        for copy in [copy for copy in self._copies.values() if copy.node == node]:
            for then in self._copies.pop(copy.key).waiting:
                then(True)

    def free(self, keys: Iterable[AttemptId]) -> None:
        """Forget these values."""
        keys = list(keys)
        for key in keys:
            self._placed.pop(key, None)
        super().free(keys)

    def forget(self, run: str) -> None:
        """Forget all values of a run."""
        self._placed = {key: far for key, far in self._placed.items() if key.run != run}
        super().forget(run)

    def fetch(self, key: AttemptId, then: Callable[[Frames | Failure], None]) -> None:
        """Bring a value here."""
        value = self.get(key)
        if value is None:
            then(_unavailable("it is not there any more"))
        elif isinstance(value, Frames):
            then(value)
        else:
            self._fetch(value, then)

    def _fetch(self, far: Far, then: Callable[[Frames | Failure], None]) -> None:
        client, number = self._link.client, next(self._numbers)
        self._fetching[number] = (far.node, then)

        def fetched(made: Any) -> None:
            if self._fetching.pop(number, None) is None:
                return  # its node went first
            if isinstance(made, BaseException):
                then(_unavailable(f"node {far.node!r} did not give it: {made!r}"))
            else:
                then(made.frames(far.part))

        self._link.ask(lambda: client.gather(far.future, asynchronous=True), fetched)


def _unavailable(reason: str) -> Failure:
    return Failure(FailureKind.INPUT, f"the value could not be fetched: {reason}")
