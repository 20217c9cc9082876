"""What a node does while it has no coordinator: it calls again.

A node of a detached cluster keeps its values, goes on, and remembers what it began and finished, so that a coordinator
that takes the place of one that was killed can go on from there. Any other has been given up and comes back as it was
at first, unless its coordinator has ended. When nobody answers in time, a node ends.
"""

from __future__ import annotations

import logging
import socket as system_socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from handoff_lab._errors import HandoffError, VersionMismatchError
from handoff_lab.messages import AttemptId, BackendEvent, Cancelled, Failed, Finished, FinishedMany, Started
from handoff_lab.node.joining import KeyRefusedError, join
from handoff_lab.transport.hello import Hello
from handoff_lab.transport.keys import JoinFile, KeyPair
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.rows import event_row
from handoff_lab.transport.sockets import Socket, host_and_port

log = logging.getLogger(__name__)

AGAIN_S = 0.2  # between two calls
PATIENCE_S = 30.0  # without a lease: for a coordinator that is stopped, or out of reach
PROBE_S = 1.0  # for a host that does not answer at all; the node stands still meanwhile
ROWS = 2048  # in one message
FAILURES = 64  # that are remembered: those of some seconds


class Memory:
    """What this node began and did not end, what it made and still has, and what failed lately."""

    def __init__(self) -> None:
        self.started: dict[AttemptId, Started] = {}
        self.finished: dict[AttemptId, Finished] = {}
        self.failed: dict[AttemptId, Failed] = {}

    def note(self, event: BackendEvent) -> None:
        """Take in what the coordinator is told."""
        match event:
            case Started():
                self.started[event.id] = event
            case Finished():
                self.started.pop(event.id, None)
                self.finished[event.id] = replace(event, inline=None, log="")
            case FinishedMany():
                for finished in event.each():
                    self.note(finished)
            case Failed():
                self.started.pop(event.id, None)
                self.failed[event.id] = event  # a coordinator may be killed before it has written that down
                if len(self.failed) > FAILURES:
                    del self.failed[next(iter(self.failed))]
            case Cancelled():
                self.started.pop(event.id, None)

    def free(self, keys: Iterable[AttemptId]) -> None:
        """These results are here no more."""
        for key in keys:
            self.finished.pop(key, None)

    def forget(self, run: str) -> None:
        """The results of this run are here no more."""
        self.free([key for key in self.finished if key.run == run])

    def messages(self, running: Iterable[AttemptId] = ()) -> Iterator[tuple[list[Any], list[Any], int]]:
        """Rows of what was finished, or failed, and of what runs, and whether that is all.

        Of what is ``running`` some may not have begun, or not have said so: they count as begun at the time 0.
        """
        finished = [event_row(event) for event in self.finished.values()]
        unsaid = [Started(id, 0.0) for id in running if id not in self.started]
        started = [event_row(event) for event in (*self.started.values(), *unsaid)]
        for at in range(0, len(finished), ROWS):
            yield finished[at : at + ROWS], [], 0
        for event in self.failed.values():  # with tracebacks, which may be long
            yield [event_row(event)], [], 0
        yield [], started, 1


class Tether:
    """Finds the coordinator again.

    Parameters
    ----------
    hello
        What the node says of itself now.
    found
        Takes the new connection.
    lifeline
        See ``join``; a lease makes it void.
    """

    def __init__(
        self,
        loop: Loop,
        file: JoinFile,
        keys: KeyPair,
        hello: Callable[[], Hello],
        found: Callable[[Socket], None],
        lifeline: int | None,
    ) -> None:
        self._loop = loop
        self._file = replace(file, keys=keys) if file.once else file  # its own key is known there
        self._keys = keys
        self._hello = hello
        self._found = found
        self._lifeline = lifeline
        self.memory: Memory | None = None  # with a lease only
        self._patience_s = PATIENCE_S
        self._end = 0.0

    def extend(self, lease_s: float) -> None:
        """Do not end with the coordinator, but wait so long for another."""
        self._patience_s = lease_s
        self._lifeline = None
        if self.memory is None:
            self.memory = Memory()

    def lost(self) -> None:
        """The connection is lost."""
        self._end = time.monotonic() + self._patience_s
        self._call()

    def _call(self) -> None:
        if time.monotonic() > self._end:
            self._loop.stop()
            return
        try:
            self._probe()
            connection = join(self._loop, self._file, self._keys, self._hello(), self._lifeline)
        except (OSError, HandoffError) as error:
            if isinstance(error, KeyRefusedError) and self._file.keys != self._keys:
                self._file = replace(self._file, keys=self._keys)  # the join file has another by now; this one is known
                self._call()
            elif self._is_final(error):
                log.warning("the node ends: %s", self._why(error))
                self._loop.stop()
            else:
                log.debug("no coordinator yet: %s", error)
                self._loop.call_later(AGAIN_S, self._call)
        else:
            self._found(connection)

    def _is_final(self, error: Exception) -> bool:
        """Whether to call again would be in vain."""
        has_ended = self.memory is None and isinstance(error, ConnectionRefusedError)  # it will not be started again
        return has_ended or isinstance(error, (KeyRefusedError, VersionMismatchError))

    def _why(self, error: Exception) -> str:
        where = self._file.endpoint
        if isinstance(error, ConnectionRefusedError):
            return f"nobody listens at {where} any more: its cluster was closed, or the process that held it has ended"
        if isinstance(error, KeyRefusedError):
            return f"{where} lets it in no more: it was revoked, or away for too long; ask for a new invitation"
        return str(error)

    def _probe(self) -> None:
        """Raise `OSError` at once where nobody listens: a join would wait, and the node with it."""
        system_socket.create_connection(host_and_port(self._file.endpoint), PROBE_S).close()
