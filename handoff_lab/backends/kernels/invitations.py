"""The keys with which newcomers may say hello: the join file's, which stays good, and those of invitations."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

from handoff_lab.backends.kernels.site import Expected
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.loop import Loop, Timer
from handoff_lab.transport.zap import Admission

_NEWCOMER = " newcomer "  # how their names begin: no node's name begins with a blank


@dataclass(frozen=True, slots=True)
class _Invitation:
    expected: Expected
    expiry: Timer | None  # None: good until it is withdrawn, for any number of newcomers


class Invitations:
    """Lets newcomers in to ``domain``, under a name for each invitation."""

    def __init__(self, loop: Loop, admission: Admission, domain: str) -> None:
        self._loop = loop
        self._admission = admission
        self._domain = domain
        self._numbers = itertools.count(1)
        self._open: dict[str, _Invitation] = {}  # by that name

    def make(self, ttl_s: float | None = None, keys: KeyPair | None = None) -> KeyPair:
        """A pair of keys to join with, fresh unless given: once and within ``ttl_s``, or as often as wanted."""
        keys = keys or KeyPair.generate()
        self._admit(keys.public, ttl_s, own=False)
        return keys

    @property
    def open(self) -> list[Expected]:
        """Those that are good once."""
        return [invitation.expected for invitation in self._open.values() if invitation.expiry is not None]

    @staticmethod
    def is_newcomer(user: str) -> bool:
        """Whether what has this name in its User-Id was sent by one with an invitation, good or not."""
        return user.startswith(_NEWCOMER)

    def is_good(self, user: str) -> bool:
        """Whether this invitation still counts. A connection may be older than its end."""
        return user in self._open

    def expect(self, public_key: str, ttl_s: float) -> None:
        """Let a node come back within ``ttl_s``, which was invited once and proves the key that it had here."""
        self._admit(public_key, ttl_s, own=True)

    def renew(self, expected: Expected, lease_s: float) -> None:
        """Let in whom the coordinator before this one would have let in."""
        ttl_s = lease_s if expected.until is None else expected.until - time.time()
        if ttl_s > 0:
            self._admit(expected.public_key, ttl_s, expected.own)

    def is_anothers(self, public_key: str, user: str) -> bool:
        """Whether the key of a newcomer is an invitation's, and not the one with which it is expected."""
        return any(
            invitation.expected.public_key == public_key and not (invitation.expected.own and name == user)
            for name, invitation in self._open.items()
        )

    def used(self, user: str) -> None:
        """Let nobody else in with this invitation, if it is good once."""
        if self._open[user].expiry is not None:
            self.withdraw(user)

    def withdraw(self, user: str) -> None:
        """Let nobody in with this invitation any more."""
        invitation = self._open.pop(user)
        if invitation.expiry is not None:
            invitation.expiry.cancel()
        self._admission.revoke(self._domain, invitation.expected.public_key)

    def forget(self, public_key: str) -> None:
        """Let the node that has this key not come back."""
        for user, invitation in list(self._open.items()):
            if invitation.expected.own and invitation.expected.public_key == public_key:
                self.withdraw(user)

    def _admit(self, public_key: str, ttl_s: float | None, own: bool) -> None:
        user = f"{_NEWCOMER}{next(self._numbers)}"
        expiry = None if ttl_s is None else self._loop.call_later(ttl_s, lambda: self.withdraw(user))
        until = None if ttl_s is None else time.time() + ttl_s
        self._open[user] = _Invitation(Expected(public_key, until, own), expiry)
        self._admission.admit(self._domain, public_key, user)
