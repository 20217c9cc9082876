"""What a node has, and how much of it those hold that run here: shared by its slots and its kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from handoff_lab.node.task import Claim
from handoff_lab.resources import Resources

_NOTHING = Resources()
_REMEMBERED = 1000  # claims whose amounts are known


class Room:
    """The node's own ledger, for attempts that come without a claim granted.

    Below what is held, capabilities can be lowered: then nothing new starts until there is room again.

    Parameters
    ----------
    capabilities
        What the node has; without them there is room for everything.
    is_full
        Whether its store of values has no room for another result; when it has again, call ``tell``.

    Examples
    --------
    >>> room = Room({"cpu": 1})
    >>> room.take((("cpu", 1.0),)), room.take((("cpu", 1.0),)), room.take(None)
    (True, False, True)
    """

    def __init__(
        self, capabilities: Mapping[str, float] | None = None, is_full: Callable[[], bool] = lambda: False
    ) -> None:
        self.is_full = is_full
        self._capabilities = None if capabilities is None else Resources(capabilities)
        self._held = _NOTHING
        self._costs: dict[Claim, Resources] = {}
        self._watchers: dict[object, Callable[[], None]] = {}
        self._lacking: set[object] = set()

    def watch(self, who: object, on_room: Callable[[], None]) -> None:
        """Call back whenever there is more room than before."""
        self._watchers[who] = on_room

    def unwatch(self, who: object) -> None:
        """Call back no more."""
        self._lacking.discard(who)
        self._watchers.pop(who, None)

    def lacks(self, who: object, something: bool) -> None:
        """Remember whether something waits there for room: next time it is called before those that found room."""
        self._lacking.discard(who)
        if something:
            self._lacking.add(who)
            self._watchers = {who: self._watchers.pop(who), **self._watchers}

    def is_wanted_beside(self, who: object) -> bool:
        """Whether another waits for room, so that what is held should be given back between batches."""
        return bool(self._lacking - {who})

    def resize(self, capabilities: Mapping[str, float]) -> None:
        """The node has these capabilities now."""
        self._capabilities = Resources(capabilities)
        self.tell()

    def fits(self, claim: Claim) -> bool:
        """Whether there is room for this claim now."""
        if claim is None or self._capabilities is None:
            return True
        return self._cost(claim).fits_beside(self._held, self._capabilities)

    def take(self, claim: Claim) -> bool:
        """Hold the claim, if there is room for it."""
        if not self.fits(claim):
            return False
        if claim is not None:
            self._held += self._cost(claim)
        return True

    def give_back(self, claim: Claim) -> None:
        """Hold it no longer."""
        if claim is not None:
            self._held -= self._cost(claim)
            self.tell()

    def tell(self) -> None:
        """Say that there is more room than before."""
        for watcher in list(self._watchers.values()):
            watcher()

    def _cost(self, claim: Claim) -> Resources:
        cost = self._costs.get(claim)
        if cost is None:
            if len(self._costs) > _REMEMBERED:
                self._costs.clear()
            cost = self._costs[claim] = Resources(dict(claim or ()))
        return cost
