"""The ledger of claims: which part of each node's capabilities is held by running functions."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from handoff_lab._errors import ResourceError
from handoff_lab.resources.amounts import Resources, parse_capabilities, parse_cost

_NOTHING = Resources()


@runtime_checkable
class ResourceTracker(Protocol):
    """What keeps the ledger; hand a cluster your own to change when a function may start."""

    def register(self, node: str, capabilities: Resources) -> None:
        """A node joined, or has other capabilities than before; nothing when it left.

        A node may be registered many times; its claims stay until they are released.
        """

    def available(self, node: str, cost: Resources) -> bool:
        """Whether ``cost`` could be claimed on ``node`` now."""

    def request(self, node: str, cost: Resources) -> bool:
        """Claim ``cost`` on ``node``: all of it and True, or nothing and False.

        False may have any reason: a licence, a quota, the time of day. What was refused is asked for again when
        a claim is released or a node changes, and besides from time to time: after 0.5 s, then after twice as
        long each time, up to 30 s.
        """

    def release(self, node: str, cost: Resources) -> None:
        """Give back what was claimed."""


class SimpleResourceTracker:
    """The ledger in memory; safe to use from several threads.

    Costs and capabilities may be plain mappings.

    Examples
    --------
    >>> tracker = SimpleResourceTracker()
    >>> tracker.register("alpha", {"cpu": 2})
    >>> tracker.request("alpha", {"cpu": 2}), tracker.request("alpha", {"cpu": 1})
    (True, False)
    >>> tracker.release("alpha", {"cpu": 2})
    >>> tracker.available("alpha", {"cpu": 1})
    True
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._capabilities: dict[str, Resources] = {}
        self._used: dict[str, Resources] = {}

    def register(self, node: str, capabilities: Mapping[str, object]) -> None:
        """Add ``node``; a node that is there already keeps its claims and gets these capabilities."""
        parsed = _capabilities(capabilities)
        with self._lock:
            self._capabilities[node] = parsed
            self._used.setdefault(node, _NOTHING)

    def update(self, node: str, capabilities: Mapping[str, object]) -> None:
        """Change what ``node`` has; below what is claimed it starts nothing new and ends nothing."""
        parsed = _capabilities(capabilities)
        with self._lock:
            self._of(node)
            self._capabilities[node] = parsed

    def unregister(self, node: str) -> None:
        """Forget ``node`` and every claim on it."""
        with self._lock:
            self._of(node)
            del self._capabilities[node], self._used[node]

    def available(self, node: str, cost: Mapping[str, object]) -> bool:
        """Whether ``cost`` could be claimed on ``node`` now."""
        parsed = _cost(cost)
        with self._lock:
            capabilities = self._of(node)
            return parsed.fits_beside(self._used[node], capabilities)

    def request(self, node: str, cost: Mapping[str, object]) -> bool:
        """Claim ``cost`` on ``node``: all of it and True, or nothing and False."""
        parsed = _cost(cost)
        with self._lock:
            capabilities = self._of(node)
            used = self._used[node]
            if not parsed.fits_beside(used, capabilities):
                return False
            self._used[node] = used + parsed
            return True

    def release(self, node: str, cost: Mapping[str, object]) -> None:
        """Give back what was claimed.

        Raises
        ------
        ResourceError
            When more is given back than is claimed; the ledger stays as it was.
        """
        parsed = _cost(cost)
        with self._lock:
            self._of(node)
            used = self._used[node]
            if not parsed.fits_in(used):
                raise ResourceError("release", str(parsed), f"is more than is claimed on {node!r} ({used})")
            self._used[node] = used - parsed

    def capabilities(self, node: str) -> Resources:
        """What ``node`` has, claimed or not."""
        with self._lock:
            return self._of(node)

    def used(self, node: str) -> Resources:
        """What is claimed on ``node`` now."""
        with self._lock:
            self._of(node)
            return self._used[node]

    def _of(self, node: str) -> Resources:
        try:
            return self._capabilities[node]
        except KeyError:
            known = ", ".join(map(repr, sorted(self._capabilities))) or "none"
            raise ResourceError("node", node, f"is not registered (registered: {known})") from None


def _cost(cost: Mapping[str, object]) -> Resources:
    return cost if isinstance(cost, Resources) else parse_cost(cost)


def _capabilities(capabilities: Mapping[str, object]) -> Resources:
    return capabilities if isinstance(capabilities, Resources) else parse_capabilities(capabilities)
