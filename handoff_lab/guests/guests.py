"""Brings nodes to the places of other systems: invites them, waits until all are there, or gives all places back."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from handoff_lab._errors import BackendError, HandoffError
from handoff_lab.guests.places import LABEL, Place, Stay, lender_of
from handoff_lab.node.options import NodeOptions
from handoff_lab.resources import Resources

if TYPE_CHECKING:
    from handoff_lab.coordinator.verbs import Verbs

_LOOK_S = 0.02  # a coordinator that is far away tells nobody of its nodes: it has to be asked


class Guests:
    """The nodes of a cluster that are guests, with what keeps their places."""

    def __init__(self, coordinator: Verbs, cluster: str) -> None:
        self._coordinator = coordinator
        self._cluster = cluster
        self._stays: dict[str, Stay] = {}  # by node

    def add(
        self, source: Any, capabilities: Resources | None, nodes: Collection[str] | None, timeout_s: float
    ) -> list[str]:
        """Have a node on each place that has none yet, or on those whose nodes are called so; the names of the new.

        Raises
        ------
        BackendError
            A place could not be had, or its node did not join; the others are given back.
        """
        end = time.monotonic() + timeout_s
        for name in self._stays.keys() - self._coordinator.seen_nodes().keys():
            self._stays.pop(name).cancel()
        lender = lender_of(source)
        places = self._free(lender.places(), nodes)
        if capabilities is None:
            has = lender.capabilities(places, timeout_s)
        else:
            has = {place.name: capabilities for place in places}
        begun: dict[str, Stay] = {}
        try:
            for place in places:
                begun[place.name] = lender.lend(place, self._options(place, has[place.name], timeout_s))
            self._wait(begun, end, timeout_s)
        except BaseException:
            self._give_back(begun)
            raise
        self._stays |= begun
        return list(begun)

    def _free(self, places: Sequence[Place], wanted: Collection[str] | None) -> list[Place]:
        if wanted is not None and (unknown := set(wanted) - {place.name for place in places}):
            there = ", ".join(place.name for place in places) or "none"
            raise BackendError(f"there is no place {', '.join(map(repr, sorted(unknown)))}; there are {there}")
        present = self._coordinator.seen_nodes()
        taken = {seen.info.labels.get(LABEL) for seen in present.values()}
        free = [place for place in places if place.address not in taken and (wanted is None or place.name in wanted)]
        for place in free:
            if place.name in present:
                raise BackendError(f"there is a node {place.name!r} already, elsewhere; remove it first")
        return free

    def _options(self, place: Place, capabilities: Resources, timeout_s: float) -> NodeOptions:
        return NodeOptions(
            join_file=None,
            name=place.name,
            capabilities=capabilities,
            labels={LABEL: place.address},
            cluster=self._cluster,
            invite=self._coordinator.invite(timeout_s),
        )

    def _wait(self, begun: Mapping[str, Stay], end: float, timeout_s: float) -> None:
        """Wait until each is a node, or cannot become one any more."""
        waiting: dict[str, Stay] = dict(begun)
        failed: dict[str, str] = {}
        while waiting and time.monotonic() < end:
            ended = {name: reason for name, stay in waiting.items() if (reason := stay.ended()) is not None}
            failed |= ended
            present = self._coordinator.seen_nodes().keys()
            waiting = {name: stay for name, stay in waiting.items() if name not in ended and name not in present}
            time.sleep(_LOOK_S if waiting else 0)
        failed |= dict.fromkeys(waiting, f"it did not join within {timeout_s:g} s; is the place busy?")
        if failed:
            reasons = "; ".join(f"{name!r}: {reason}" for name, reason in failed.items())
            raise BackendError(f"{len(failed)} of {len(begun)} places did not become nodes: {reasons}")

    def _give_back(self, begun: Mapping[str, Stay]) -> None:
        for stay in begun.values():
            stay.cancel()
        for name in begun.keys() & self._coordinator.seen_nodes().keys():
            with suppress(HandoffError):  # it went by itself, or the cluster was closed
                self._coordinator.remove_node(name, drain=False)
