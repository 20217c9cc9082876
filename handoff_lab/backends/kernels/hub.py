"""The coordinator's end of the control connections: who may join, who is there, who is gone."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import zmq

from handoff_lab.backends.kernels.invitations import Invitations
from handoff_lab.backends.kernels.site import Expected, Site
from handoff_lab.transport.hello import Hello, glance, mismatch
from handoff_lab.transport.keys import JoinFile, KeyPair
from handoff_lab.transport.loop import Loop, Timer
from handoff_lab.transport.peers import Member, Peers
from handoff_lab.transport.sockets import CONTROL_THREAD, Heartbeat, Watch, cut, serve
from handoff_lab.transport.stream import Stream, is_numbered
from handoff_lab.transport.wire import FROM_NODE, FROM_NODE_LIMIT, WireError, pack, unpack
from handoff_lab.transport.zap import Admission, name_in

if TYPE_CHECKING:
    from handoff_lab.backends.kernels.presence import Presence

log = logging.getLogger(__name__)

DOMAIN = "control"
GOODBYE_S = 0.2  # for the last commands
READY_S = 10.0  # from the welcome until the node is back with its own key
RETURN_S = 10.0  # for a node of which the connection alone broke: it, or this process, may stand still for a while
AGAIN_S = 60.0  # for a lost node that was invited to join anew
_TOO_LATE = "it did not come back in time after its welcome; it may join anew"
_WORTHLESS = "this invitation was used already, or is past its time; make a new one with cluster.invite()"


@dataclass(slots=True)
class _Guest:
    """A node that was welcomed; it has joined when it has an identity."""

    hello: Hello
    invitation: str  # the name under which it said hello
    came_by: bytes  # and the identity of that connection
    deadline: Timer
    identity: bytes = b""
    descriptor: int = -1
    stream: Stream | None = None
    away: bool = False  # its connection broke, and it has not called again


@dataclass(slots=True)
class _Letter:
    """A message and where it came from."""

    identity: bytes
    user: str  # the node, or the newcomer; nothing where its key was revoked
    descriptor: int
    body: memoryview = field(repr=False)


class Hub:
    """Listens for nodes on ``host``. A node is known by the key that it proved, not by what it says.

    With a ``site`` it listens there, and nodes are told to wait when it is gone.
    """

    def __init__(
        self,
        loop: Loop,
        admission: Admission,
        peers: Peers,
        here: Member,
        host: str,
        presence: Presence,
        site: Site | None = None,
    ) -> None:
        self._loop = loop
        self._admission = admission
        self._peers = peers
        self._here = here
        self._presence = presence
        self._guests: dict[str, _Guest] = {}
        self._connected: dict[int, _Guest] = {}  # by descriptor
        self._gone: dict[str, _Guest] = {}  # the latest of each name that may come back
        self._site = site
        server = KeyPair.generate() if site is None else site.server
        joiner, port = (None, None) if site is None else (site.joiner, site.port)
        self._taken = {server.public, here.public_key}
        self._invitations = Invitations(loop, admission, DOMAIN)
        if site is not None:
            for expected in site.expected:
                self._invitations.renew(expected, site.lease_s)
        self._socket, endpoint = serve(loop, server, DOMAIN, host, Heartbeat(), CONTROL_THREAD, FROM_NODE_LIMIT, port)
        self._watch = Watch(loop, self._socket, zmq.EVENT_DISCONNECTED, self._disconnected)
        loop.add_reader(self._socket, self._receive_all)
        self.join_file = JoinFile(endpoint, server.public, self._invitations.make(keys=joiner))

    def send(self, name: str, message: bytes) -> None:
        """Send to a node; to one that is gone by now, nothing."""
        guest = self._guests.get(name)
        if guest is not None and guest.identity:
            self._tell(guest, message)

    def broadcast(self, message: bytes) -> None:
        """Send to every node."""
        for name in self._guests:
            self.send(name, message)

    def dismiss(self, name: str, reason: str) -> None:
        """Listen to a node no more, and let it in no more."""
        guest = self._guests.pop(name, None)
        if guest is None:
            return
        self._watch.drain()  # it may have hung up: its descriptor is not to be cut then
        guest.deadline.cancel()
        if guest.stream is not None:
            guest.stream.close()
        self._admission.revoke(DOMAIN, guest.hello.public_key)
        self._taken.discard(guest.hello.public_key)
        self._peers.remove(name)
        if guest.identity:
            if guest.descriptor >= 0:
                cut(guest.descriptor)
            self.broadcast(pack("gone", name))
            self._presence.disconnected(name, reason)

    def invite(self, ttl_s: float) -> JoinFile:
        """Let one node join, within ``ttl_s``."""
        return replace(self.join_file, keys=self._invitations.make(ttl_s), once=True)

    @property
    def expected(self) -> tuple[Expected, ...]:
        """Who else than those who have the join file is to be let in by a coordinator that takes this one's place."""
        invited = (guest for guest in self._guests.values() if not self._invitations.is_good(guest.invitation))
        return (*self._invitations.open, *(Expected(guest.hello.public_key, None, own=True) for guest in invited))

    def revoke(self, name: str, reason: str) -> bool:
        """Dismiss a node for good, or one that is gone and might come back; whether there is or was one of this name.

        If it came by the join file that is changed: it may have kept the key.
        """
        guests = [guests[name] for guests in (self._guests, self._gone) if name in guests]
        self.dismiss(name, reason)
        self._gone.pop(name, None)
        for guest in guests:
            self._invitations.forget(guest.hello.public_key)
            if self._invitations.is_good(guest.invitation):
                self._invitations.withdraw(guest.invitation)
                self.join_file = replace(self.join_file, keys=self._invitations.make())
        return bool(guests)

    def close(self) -> None:
        """Let nodes hear what was sent last, and listen no more."""
        self._watch.farewell(len(self._connected), GOODBYE_S)
        self._loop.remove_reader(self._socket)
        for guest in self._guests.values():
            if guest.stream is not None:
                guest.stream.close()
        self._socket.close()

    # -- what comes in ---------------------------------------------------------

    def _receive_all(self) -> None:
        while not self._socket.closed:
            try:
                identity, *rest = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            last = rest[-1]
            body = last.buffer if len(rest) == 1 else memoryview(b"")  # no message has more than one frame
            sender = self._sender(str(last.get("User-Id")))
            self._receive(_Letter(identity.bytes, sender, int(last.get(zmq.SRCFD)), body))

    def _sender(self, user: str) -> str:
        name = name_in(user)
        return name if self._invitations.is_newcomer(name) or self._admission.counts(user) else ""

    def _receive(self, letter: _Letter) -> None:
        guest = self._guests.get(letter.user)
        try:
            if not is_numbered(letter.body):
                self._hear(letter, letter.body)
            elif guest and guest.stream and (guest.identity == letter.identity or self._is_back(guest, letter)):
                for body, *_ in guest.stream.take([letter.body]):
                    self._hear(letter, body)
            # else it was under way when that connection was given up
        except WireError as error:
            log.warning("%r sent what is no message: %s", letter.user, error)
            if guest is not None:
                self._gone[letter.user] = guest
            self.dismiss(letter.user, f"it sent what is no message: {error}")
            if guest is None or guest.descriptor != letter.descriptor:
                cut(letter.descriptor)

    def _hear(self, letter: _Letter, body: memoryview) -> None:
        kind, fields = unpack(body, FROM_NODE)
        if self._invitations.is_newcomer(letter.user):
            if kind == "hello":
                self._on_hello(letter, *fields)
        elif kind in ("ready", "numbered"):
            self._on_ready(letter, numbered=kind == "numbered")
        elif (guest := self._guests.get(letter.user)) and guest.identity == letter.identity:
            self._presence.received(letter.user, kind, fields)

    def _on_hello(self, letter: _Letter, protocol: int, fields: dict[str, Any]) -> None:
        name, versions = glance(fields)
        error = mismatch(protocol, versions, f"node {name!r}")
        if error is not None:
            log.warning("%s", error)
            self._send(letter.identity, pack("refused", str(error), error.what, error.here, error.there))
            self._presence.refused(name, error)
            return
        hello = Hello.read(fields)
        self._watch.drain()  # it may come again, and the end of its first connection not have been noticed
        known = self._guests.get(hello.info.name)
        if known is not None and known.came_by == letter.identity:
            self._send(letter.identity, pack("welcome"))  # it may not have heard that it is
            return
        reason = self._refusal(hello, letter.user)
        if reason is not None:
            log.warning("node %r may not join: %s", hello.info.name, reason)
            self._send(letter.identity, pack("refused", reason, "", "", ""))
            return
        deadline = self._loop.call_later(READY_S, lambda: self.dismiss(name, "it did not come back"))
        self._guests[name] = _Guest(hello, letter.user, letter.identity, deadline)
        self._invitations.used(letter.user)
        self._taken.add(hello.public_key)
        self._admission.admit(DOMAIN, hello.public_key, name)
        self._send(letter.identity, pack("welcome"))

    def _refusal(self, hello: Hello, invitation: str) -> str | None:
        if not self._invitations.is_good(invitation):
            return _WORTHLESS
        if hello.info.name in self._guests:
            return "there is a node of this name already; choose another with --name"
        if hello.public_key in self._taken or self._invitations.is_anothers(hello.public_key, invitation):
            return "its key is another's"
        return self._presence.refusal(hello.info)

    def _on_ready(self, letter: _Letter, *, numbered: bool) -> None:
        self._watch.drain()  # so that a descriptor used anew is not taken for the old connection
        guest = self._guests.get(letter.user)
        if guest is None:
            self._send(letter.identity, pack("refused", _TOO_LATE, "", "", ""))
            return
        if guest.identity:
            if guest.identity == letter.identity or self._is_back(guest, letter):
                self._send(letter.identity, pack("welcome"))  # it may not have heard that it is
            return
        self._attach(guest, letter)
        self._send(letter.identity, pack("welcome"))
        if numbered:
            guest.stream = Stream(self._loop, lambda frames: self._send(guest.identity, *frames))
        self._introduce(guest)
        if self._site is not None:
            self._tell(guest, pack("lease", round(self._site.lease_s * 1000)))
        self._presence.joined(guest.hello.info)

    def _introduce(self, new: _Guest) -> None:
        """Tell the new member of the others, and them of it."""
        others = [guest for guest in self._guests.values() if guest.identity and guest is not new]
        members = [self._here, *(guest.hello.member for guest in others)]
        self._peers.add(new.hello.member)
        self._tell(new, pack("peers", members))
        for guest in others:
            self._tell(guest, pack("peers", [new.hello.member]))

    def _attach(self, guest: _Guest, letter: _Letter) -> None:
        guest.deadline.cancel()
        guest.identity, guest.descriptor = letter.identity, letter.descriptor
        self._connected[letter.descriptor] = guest

    def _disconnected(self, event: int, descriptor: int) -> None:
        guest = self._connected.pop(descriptor, None)
        if guest is not None:
            guest.descriptor = -1
            name = guest.hello.info.name
            if self._guests.get(name) is guest:
                self._lose(name, guest)

    def _lose(self, name: str, guest: _Guest) -> None:
        reason = "its connection ended"
        if guest.stream is not None and self._presence.endures(name):
            guest.away = True
            guest.deadline = self._loop.call_later(RETURN_S, lambda: self.dismiss(name, reason))
        else:
            self._gone[name] = guest
            self.dismiss(name, reason)
            if not self._invitations.is_good(guest.invitation):
                self._invitations.expect(guest.hello.public_key, AGAIN_S)

    def _is_back(self, guest: _Guest, letter: _Letter) -> bool:
        """Whether this comes over a new connection of one that was away."""
        self._watch.drain()
        if not guest.away or guest.stream is None or letter.user not in self._guests:
            return False
        guest.away = False
        self._attach(guest, letter)
        guest.stream.resume()
        return True

    def _tell(self, guest: _Guest, message: bytes) -> None:
        if guest.stream is None:
            self._send(guest.identity, message)
        else:
            guest.stream.send(message)

    def _send(self, identity: bytes, message: bytes) -> None:
        try:
            self._socket.send_multipart([identity, message])
        except zmq.ZMQError as error:
            log.debug("a command could not be sent: %s", error)  # the node is gone; the watch will tell
