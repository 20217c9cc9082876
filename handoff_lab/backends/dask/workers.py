"""Dask's workers as they come, change and go: seen through Dask's own events, and a look every second."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from handoff_lab._errors import BackendError
from handoff_lab._names import is_name
from handoff_lab.backends.dask.link import Link
from handoff_lab.backends.dask.remote import introduce
from handoff_lab.resources import Resources, parse_capabilities
from handoff_lab.transport.hello import mismatch
from handoff_lab.transport.wire import PROTOCOL

LOOK_S = 1.0  # between looks at all workers, for what Dask has no event for: resources, load
FIRST_S = 30.0  # for the workers that are there at the beginning
_NAMES = {"GPU": "gpu", "CPU": "cpu"}  # as Dask's users write them

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DaskWorker:
    """A worker as Dask describes it, with what it said of itself."""

    name: str
    address: str
    threads: int
    capabilities: Resources
    host: str
    pid: int
    versions: Mapping[str, str]


class Listener(Protocol):
    """Hears of the workers, on the coordinator's thread."""

    def worker_joined(self, worker: DaskWorker) -> None: ...
    def worker_changed(self, name: str, capabilities: Resources, threads: int) -> None: ...
    def worker_lost(self, name: str, reason: str, *, expected: bool) -> None: ...
    def settle(self) -> None: ...  # all that are lost together were told of
    def worker_load(self, name: str, cpu_percent: float, memory: int) -> None: ...


class Workers:
    """Keeps the list of workers that take part."""

    def __init__(self, link: Link, listener: Listener) -> None:
        self._link = link
        self._listener = listener
        self._known: dict[str, tuple[str, Resources, int]] = {}  # by address: name, what it has, threads
        self._asked: set[str] = set()  # addresses that were asked who they are
        self._gone: set[str] = set()  # addresses of which Dask said that they are no more
        self.refused: dict[str, str] = {}  # why workers can't take part, by address
        self._wake = asyncio.Event()
        self._closed = False
        link.listen("all", self._heard)

    def open(self) -> None:
        """Take in those that are there, and look on from then; raises why when none of them can be a node."""
        found = self._link.wait(self._link.client.scheduler.identity, FIRST_S)["workers"]
        self._asked.update(found)
        if found:
            answers = self._link.wait(self._link.calling(introduce, workers=[*found]), FIRST_S)
            for address, facts in found.items():
                self._answered(address, facts, answers.get(address))
        if self.refused and not self._known:
            raise BackendError("; ".join(f"Dask's worker at {address}: {why}" for address, why in self.refused.items()))
        self._link.ask(self._look_on)

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        self._link.client.loop.add_callback(self._wake.set)

    # -- on the client's loop ----------------------------------------------------------

    async def _look_on(self) -> None:
        """Look again and again, never twice at once: an old look must not undo what a new one found."""
        while not self._closed:
            self._wake.clear()
            try:
                found = (await self._link.client.scheduler.identity())["workers"] if self._link.is_up else None
            except Exception as error:
                log.info("the Dask scheduler does not answer: %r", error)
                found = None
            if found is None:
                self._link.tell(self._lose_all, f"the Dask scheduler at {self._link.address} does not answer")
            else:
                if self._link.renew():
                    self._link.tell(self._lose_all, f"the Dask scheduler at {self._link.address} was out of reach")
                self._link.tell(self._compare, found)
            try:
                await asyncio.wait_for(self._wake.wait(), LOOK_S)
            except TimeoutError:
                pass

    # -- on the coordinator's thread -----------------------------------------------------

    def _heard(self, event: Any) -> None:
        """Something that Dask tells everyone."""
        if not isinstance(event, Mapping) or self._closed:
            return
        action, address = event.get("action"), event.get("worker")
        if action == "remove-worker" and isinstance(address, str):
            self._gone.add(address)
            expected = bool(event.get("expected"))
            self._lose([address], "its Dask worker was retired" if expected else "its Dask worker died", expected)
        elif action == "add-worker" and isinstance(address, str):
            self._gone.discard(address)
            self._link.client.loop.add_callback(self._wake.set)

    def _lose_all(self, reason: str) -> None:
        if not self._closed:
            self._lose([*self._known], reason)

    def _compare(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        if self._closed:
            return
        gone = [address for address in self._known if address not in found]
        self._lose(gone, "Dask does not list its worker any more")
        self._asked.intersection_update(found)
        self._gone.intersection_update(found)
        for address in self.refused.keys() - found.keys():
            del self.refused[address]
        for address, facts in found.items():
            if address in self._known:
                self._renew(address, facts)
            elif address not in self._asked and address not in self._gone:
                self._ask(address, facts)

    def _renew(self, address: str, facts: Mapping[str, Any]) -> None:
        name, before, threads = self._known[address]
        now, now_threads = capabilities_of(facts), int(facts["nthreads"])
        if (before, threads) != (now, now_threads):
            self._known[address] = (name, now, now_threads)
            self._listener.worker_changed(name, now, now_threads)
        metrics = facts.get("metrics") or {}
        self._listener.worker_load(name, float(metrics.get("cpu", 0)), int(metrics.get("memory", 0)))

    def _ask(self, address: str, facts: Mapping[str, Any]) -> None:
        self._asked.add(address)

        def answered(answers: Any) -> None:
            self._answered(address, facts, answers.get(address) if isinstance(answers, dict) else answers)

        self._link.ask(self._link.calling(introduce, workers=[address]), answered)

    def _answered(self, address: str, facts: Mapping[str, Any], answer: Any) -> None:
        if isinstance(answer, OSError):
            self._asked.discard(address)  # another time
        elif address in self._asked and address not in self._gone and not self._closed:
            self._join(address, facts, answer)

    def _join(self, address: str, facts: Mapping[str, Any], answer: Any) -> None:
        name = str(facts["name"])
        reason = self._refusal(name, address, answer)
        if reason is not None:
            self.refused[address] = reason
            log.warning("the Dask worker %s can't be a node: %s", name, reason)
            return
        self.refused.pop(address, None)
        capabilities, threads = capabilities_of(facts), int(facts["nthreads"])
        self._known[address] = (name, capabilities, threads)
        self._listener.worker_joined(
            DaskWorker(name, address, threads, capabilities, answer["host"], answer["pid"], answer["versions"])
        )

    def _refusal(self, name: str, address: str, answer: Any) -> str | None:
        if isinstance(answer, ModuleNotFoundError):
            return f"{answer}; install the same handoff_lab there as here"
        if not isinstance(answer, dict):
            return f"it does not say who it is: {answer!r}"
        if not is_name(name):
            return "a node's name has up to 64 printable characters; start the worker with --name"
        if any(name == other for other, _, _ in self._known.values()):
            return "there is a node of this name already"
        error = mismatch(PROTOCOL, answer["versions"], f"the Dask worker {name} at {address}")
        return None if error is None else str(error)

    def _lose(self, addresses: Iterable[str], reason: str, expected: bool = False) -> None:
        self._asked.difference_update(addresses)
        lost = [self._known.pop(address)[0] for address in addresses if address in self._known]
        for name in lost:
            self._listener.worker_lost(name, reason, expected=expected)
        if lost:
            self._listener.settle()


def capabilities_of(facts: Mapping[str, Any]) -> Resources:
    """A node's capabilities from what Dask's scheduler says of a worker: threads, memory limit, abstract resources.

    >>> capabilities_of({"nthreads": 2, "memory_limit": 4 * 10**9, "resources": {"GPU": 1.0}})
    Resources({'cpu': 2, 'memory': 4000, 'gpu': 1})
    """
    has: dict[str, float] = {"cpu": facts["nthreads"]}
    if facts.get("memory_limit"):
        has["memory"] = facts["memory_limit"] / 10**6
    for name, amount in (facts.get("resources") or {}).items():
        if name == "MEMORY":  # which Dask's users count in bytes
            has["memory"] = amount / 10**6
        elif is_name(name) and 0 <= amount < math.inf:
            has[_NAMES.get(name, name)] = amount
    return parse_capabilities(has)
