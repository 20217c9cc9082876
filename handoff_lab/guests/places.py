"""What a system that lends places has to do, and which system an object belongs to."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from handoff_lab._errors import BackendError
from handoff_lab.node.options import NodeOptions
from handoff_lab.resources import Resources

LABEL = "guest of"  # the label of a node that tells its place


@dataclass(frozen=True, slots=True)
class Place:
    """An engine, worker or host.

    Attributes
    ----------
    name
        Of a node there, such as ``dask-0``.
    address
        Which no other place has, of whatever system.
    handle
        By which its system knows it.
    """

    name: str
    address: str
    handle: Any


class Stay(Protocol):
    """The time for which a place is lent."""

    def ended(self) -> str | None:
        """How it ended; None while it goes on, or has not begun."""

    def cancel(self) -> None:
        """Ask for the place no more, if it is not taken yet."""


class Lender(Protocol):
    """A system that lends its places. Each call of ``lend`` takes one until ``host.stay`` returns there."""

    def places(self) -> Sequence[Place]:
        """All that it has now, the taken ones too."""

    def capabilities(self, places: Sequence[Place], timeout_s: float) -> Mapping[str, Resources]:
        """What nodes would have, by the place's name.

        Raises
        ------
        BackendError
            A place does not answer in time, or can't be used.
        """

    def lend(self, place: Place, options: NodeOptions) -> Stay:
        """Begin a node there."""


def lender_of(source: Any) -> Lender:
    """The system that ``source`` is of, or is connected to.

    Raises
    ------
    TypeError
        It is none that lends places.
    """
    if source == "ray":
        from handoff_lab.guests.ray_hosts import RayHosts

        return RayHosts()
    families = set(_families(source))
    if "ipyparallel" in families and hasattr(getattr(source, "client", source), "ids"):
        from handoff_lab.guests.engines import Engines

        return Engines(source)
    is_client = "distributed" in families and hasattr(source, "scheduler_info")
    if is_client or callable(getattr(source, "get_client", None)):
        from handoff_lab.guests.dask_workers import DaskWorkers

        return DaskWorkers(source)
    raise TypeError(f"source is {source!r}; give an ipyparallel Client or view, a Dask Client or cluster, or 'ray'")


def _families(source: Any) -> Iterator[str]:
    """The packages that its class and their ancestors are of."""
    return (base.__module__.partition(".")[0] for base in type(source).__mro__)


def missing(package: str, extra: str) -> BackendError:
    """The error for an optional dependency that is not there."""
    where = sys.executable
    return BackendError(f'{package} is not installed for {where}; pip install "handoff_lab[{extra}]"')


def share(machines: Mapping[str, tuple[str, Mapping[str, float]]]) -> dict[str, Resources]:
    """What places have, by name, from the host of each and what that has: those of one host get equal parts.

    GPUs cannot be told apart by those who share a host, so that none of them is given any.

    >>> machine = {"cpu": 5, "memory": 1000, "gpu": 1}
    >>> share({"a": ("one", machine), "b": ("one", machine), "c": ("two", machine)})["a"]
    Resources({'cpu': 2, 'memory': 500})
    """
    hosts = [host for host, _ in machines.values()]
    return {name: _part(has, hosts.count(host)) for name, (host, has) in machines.items()}


def _part(has: Mapping[str, float], parts: int) -> Resources:
    if parts == 1:
        return Resources(has)
    return Resources({"cpu": max(1.0, has["cpu"] // parts), "memory": has["memory"] // parts})
