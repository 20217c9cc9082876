"""Who is there: nodes that come, those that are started here, and what becomes of those that go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from handoff_lab._errors import BackendError, HandoffError
from handoff_lab._names import name_fault
from handoff_lab.backends.kernels.hub import Hub
from handoff_lab.backends.kernels.local import END_S, SILENCE_S, LocalAgents
from handoff_lab.messages import NodeInfo, NodeLost
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.sockets import LEASE_S
from handoff_lab.transport.wire import pack

_REVOKED = "its key was revoked"


class Presence:
    """Hears from the hub and from the agents of this machine, and tells of each node once that it came, or went.

    Parameters
    ----------
    nodes
        Kept here: those that are there now, by name.
    came
        Called with a node that is there from now on.
    heard
        Called with what a node says: its name, the kind of the message, and its fields.
    went
        Called with a node that is gone, or could not come.
    waits
        Whether nodes are to wait for the coordinator after this one when a connection breaks.
    """

    hub: Hub  # set by whoever makes both
    agents: LocalAgents

    def __init__(
        self,
        loop: Loop,
        nodes: dict[str, NodeInfo],
        came: Callable[[NodeInfo], None],
        heard: Callable[[str, str, list[Any]], None],
        went: Callable[[NodeLost], None],
        waits: bool,
    ) -> None:
        self._loop = loop
        self._came = came
        self._heard = heard
        self._went = went
        self._waits = waits
        self._nodes = nodes
        self._farewells: dict[str, str] = {}  # why nodes go
        self._leaving: set[str] = set()  # those of them that were asked to

    # -- what is asked for -------------------------------------------------------

    def start(self, name: str, capabilities: Mapping[str, float] | None, labels: Mapping[str, str]) -> None:
        """Start an agent on this machine."""
        if fault := name_fault(name, "node"):
            raise BackendError(fault)
        if name in self._nodes or name in self.agents:
            raise BackendError(f"there is a node {name!r} already; choose another name")
        self.agents.start(name, capabilities, labels)

    def remove(self, name: str) -> None:
        """Let a node end."""
        verdict = "it did not end when it was told to"
        self.hub.send(name, pack("stop"))
        if name in self.agents:
            self.agents.end(name, END_S, verdict)
        elif name in self._nodes:
            self._loop.call_later(END_S, lambda: self._insist(name, verdict))
        else:
            return
        self._farewells[name] = "it was removed"
        self._leaving.add(name)

    def _insist(self, name: str, verdict: str) -> None:
        if name in self._leaving:
            self.hub.dismiss(name, verdict)

    def revoke(self, name: str) -> None:
        """Cut a node off at once, and leave it no key with which it could come back; it may be away now."""
        if name in self._nodes or name in self.agents:
            self._farewells[name] = _REVOKED
            self._leaving.add(name)
        if name in self.agents:
            self.hub.dismiss(name, _REVOKED)
            self.agents.kill(name, _REVOKED)
        elif self.hub.revoke(name, _REVOKED):
            self.agents.renew(self.hub.join_file)
        else:
            raise BackendError(f"there is no node {name!r}, and none of this name was here")

    # -- what the hub hears ------------------------------------------------------

    def refusal(self, info: NodeInfo) -> str | None:
        """Refuse those who take the name of a node that is being started here."""
        pid = self.agents.pid(info.name)
        return "a node of this name is being started" if pid is not None and pid != info.pid else None

    def refused(self, name: str, error: HandoffError) -> None:
        """Tell of a node that would have come, had it the right versions."""
        if name and name not in self._nodes and name not in self.agents:
            self._went(NodeLost(name, str(error)))

    def joined(self, info: NodeInfo) -> None:
        """A node is there."""
        self.agents.joined(info.name)
        self._nodes[info.name] = info
        self._came(info)

    def received(self, name: str, kind: str, fields: list[Any]) -> None:
        """Take what a node says."""
        if kind == "leaving":
            self._farewells[name] = fields[0]
            self.hub.dismiss(name, fields[0])
        else:
            self._heard(name, kind, fields)

    def endures(self, name: str) -> bool:
        """A node of this machine that runs calls again, unless it waits for the coordinator after this one."""
        goes = name in self._farewells or name in self._leaving
        return not self._waits and not goes and self.agents.is_running(name)

    def disconnected(self, name: str, reason: str) -> None:
        """A node is gone; one of this machine that did not say that it goes, and is still there, is replaced."""
        why = f"it answered nothing for {LEASE_S:g} s"
        verdict = f"{reason} while its agent was still there ({why}), so the cluster killed it"
        if name in self.agents and name in self._farewells:
            self.agents.end(name, END_S, verdict)
        elif name in self.agents:
            self.agents.replace(name, self._nodes[name].capabilities, SILENCE_S, verdict)
        else:
            self._lose(name, reason)

    # -- what is noticed here ------------------------------------------------------

    def agent_ended(self, name: str, story: str) -> None:
        """An agent of this machine is no more."""
        joined = name in self._nodes
        self.hub.dismiss(name, story)
        if name in self._nodes or not joined:  # else that was its loss
            self._lose(name, story)

    def _lose(self, name: str, reason: str) -> None:
        self._nodes.pop(name, None)
        reason = self._farewells.pop(name, reason)
        expected = name in self._leaving
        self._leaving.discard(name)
        self._went(NodeLost(name, reason, expected))
