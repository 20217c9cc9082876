"""Who may connect: libzmq asks here for each new connection (ZAP, RFC 27), and the answer is a list of known keys."""

from __future__ import annotations

import itertools
import logging

import zmq
from zmq.utils import z85

from handoff_lab.transport.loop import Loop

log = logging.getLogger(__name__)

_VERSION = b"1.0"


class Admission:
    """The allow-list of one loop's sockets: for each domain, public keys and the names of those who have them.

    The frames of each connection bear a User-Id with the name that its key had, see ``name_in``; it counts for as long
    as the key is admitted, so that one whose key was revoked is not taken for the next of that name. A connection of a
    revoked key is not cut here: its holder does that with ``sockets.cut``.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._users: dict[tuple[str, str], str] = {}  # User-Ids
        self._good: set[str] = set()  # the same
        self._numbers = itertools.count(1)
        self._socket = loop.context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind("inproc://zeromq.zap.01")
        loop.add_reader(self._socket, self._answer_all)

    def admit(self, domain: str, public_key: str, name: str) -> None:
        """Let the holder of this key connect to sockets of ``domain``, under this name."""
        known = self._users.get((domain, public_key))
        if known is None or name_in(known) != name:
            self.revoke(domain, public_key)
            user = self._users[domain, public_key] = f"{next(self._numbers)} {name}"
            self._good.add(user)

    def revoke(self, domain: str, public_key: str) -> None:
        """Let this key in no more."""
        user = self._users.pop((domain, public_key), None)
        if user is not None:
            self._good.discard(user)

    def counts(self, user: str) -> bool:
        """Whether the key with which a connection got this User-Id is still admitted."""
        return user in self._good

    def close(self) -> None:
        """Answer no more: every new connection is refused."""
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _answer_all(self) -> None:
        while True:
            try:
                request = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._socket.send_multipart(self._answer(request))

    def _answer(self, request: list[bytes]) -> list[bytes]:
        if len(request) < 2 or request[0] != _VERSION:
            return [_VERSION, b"", b"500", b"not understood", b"", b""]
        user = self._user_of(request)
        if user is None:
            log.warning("a connection from %s was refused: its key is not known", _address(request))
            return [_VERSION, request[1], b"400", b"not admitted", b"", b""]
        return [_VERSION, request[1], b"200", b"", user.encode(), b""]

    def _user_of(self, request: list[bytes]) -> str | None:
        if len(request) != 7 or request[5] != b"CURVE" or len(request[6]) != 32:
            return None
        key = z85.encode(request[6]).decode("ascii")
        return self._users.get((request[2].decode("utf-8", "replace"), key))


def name_in(user: str) -> str:
    """The name in a User-Id.

    >>> name_in("7 alpha")
    'alpha'
    """
    return user.partition(" ")[2]


def _address(request: list[bytes]) -> str:
    return request[3].decode("utf-8", "replace") if len(request) > 3 else "somewhere"
