"""The agents that a backend started on this machine, and the directory that it shares with them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from handoff_lab._errors import BackendError
from handoff_lab.backends.kernels.launch import LocalAgent, Reaper, end_all
from handoff_lab.node.options import NodeOptions
from handoff_lab.resources import Resources
from handoff_lab.store.directory import SharedDirectory
from handoff_lab.transport.keys import JoinFile
from handoff_lab.transport.loop import Loop, Timer

JOIN_S = 30.0  # from its start until an agent has joined
END_S = 2.0  # for an agent that was told to stop
SILENCE_S = 0.05  # from an unexplained end of an agent's connection to its own


@dataclass(slots=True)
class _Entry:
    options: NodeOptions
    agent: LocalAgent
    deadline: Timer
    verdict: str = ""  # why it was killed
    again: bool = False  # whether another takes its place


class LocalAgents:
    """Starts agents, and tells with ``ended(name, story)`` when one is no more."""

    def __init__(
        self,
        loop: Loop,
        join: JoinFile,
        cluster: str,
        host: str,
        ended: Callable[[str, str], None],
        store_limit: int | None = None,
        directory: Path | None = None,
    ) -> None:
        self._loop = loop
        self._cluster = cluster
        self._host = host
        self._ended = ended
        self._store_limit = store_limit
        self._entries: dict[str, _Entry] = {}
        self._numbers = itertools.count()
        self._join = join
        self._known = directory  # of the coordinator before this one, if there was one
        self._directory: SharedDirectory | None = None
        self._reaper: Reaper | None = None
        self._lock = threading.Lock()  # around making and leaving the directory
        self._closed = False

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    @property
    def join_file(self) -> Path:
        """The file with which nodes join. May be asked for in any thread."""
        return self._place() / "join.json"

    @property
    def path(self) -> Path:
        """The directory that is shared with the agents."""
        return self._place()

    def renew(self, join: JoinFile) -> None:
        """Put another join file in the place of the one so far."""
        with self._lock:
            self._join = join
            if self._directory is not None:
                new = self._directory.path / "join.new"
                join.write(new)
                new.replace(self._directory.path / "join.json")

    def start(self, name: str, capabilities: Mapping[str, float] | None, labels: Mapping[str, str]) -> None:
        """Start the agent of a node."""
        place = self._place()
        options = NodeOptions(
            self.join_file,
            name,
            capabilities=None if capabilities is None else Resources(capabilities),
            labels=labels,
            host=self._host,
            directory=place,
            cluster=self._cluster,
            store_limit=self._store_limit,
        )
        self._launch(options)

    def _launch(self, options: NodeOptions) -> None:
        name = options.name
        log_file = self._place() / f"agent-{next(self._numbers)}.log"
        agent = LocalAgent(self._loop, options, log_file, lambda: self._has_ended(name))
        deadline = self._loop.call_later(JOIN_S, lambda: self.kill(name, f"it did not join within {JOIN_S:g} s"))
        self._entries[name] = _Entry(options, agent, deadline)

    def pid(self, name: str) -> int | None:
        """The process of a node's agent, if it was started here."""
        entry = self._entries.get(name)
        return None if entry is None else entry.agent.pid

    def is_running(self, name: str) -> bool:
        """Whether a node's agent was started here, and is neither stopped nor at its end."""
        entry = self._entries.get(name)
        return entry is not None and not entry.verdict and entry.agent.is_running

    def log(self, name: str) -> str:
        """The end of what an agent wrote."""
        return self._entries[name].agent.written

    def joined(self, name: str) -> None:
        """The agent is there in time."""
        if name in self._entries:
            self._entries[name].deadline.cancel()

    def end(self, name: str, patience_s: float, verdict: str) -> None:
        """Kill an agent, unless it ends by itself in time."""
        entry = self._entries[name]
        entry.deadline.cancel()
        entry.deadline = self._loop.call_later(patience_s, lambda: self.kill(name, verdict))

    def replace(self, name: str, capabilities: Mapping[str, float], patience_s: float, verdict: str) -> None:
        """Kill an agent, unless it ends by itself in time, and start another in its place."""

        def kill() -> None:
            entry.again = True
            self.kill(name, verdict)

        entry = self._entries[name]
        entry.options = replace(entry.options, capabilities=Resources(capabilities))
        entry.deadline.cancel()
        entry.deadline = self._loop.call_later(patience_s, kill)

    def kill(self, name: str, verdict: str) -> None:
        """Kill an agent; ``verdict`` says why."""
        entry = self._entries[name]
        entry.verdict = verdict
        entry.agent.kill()

    def close(self) -> None:
        """Wait for the agents to end, then kill those left; remove what was shared with them."""
        entries, self._entries = self._entries, {}
        for entry in entries.values():
            entry.deadline.cancel()
        end_all([entry.agent for entry in entries.values()], END_S)
        with self._lock:
            self._closed = True
            if self._directory is not None:
                self._directory.leave(END_S)  # what killed agents leave behind clears up too, a little later
            if self._reaper is not None:
                self._reaper.close()

    def _place(self) -> Path:
        """The directory, made when it is first needed."""
        with self._lock:
            if self._closed:
                raise BackendError("the cluster is closed; make a new one")
            if self._directory is None:
                self._directory = self._enter_known() or SharedDirectory.create()
                self._reaper = Reaper(self._directory.path)
                if not (self._directory.path / "join.json").exists():
                    self._join.write(self._directory.path / "join.json")
            return self._directory.path

    def _enter_known(self) -> SharedDirectory | None:
        """The directory in which other nodes wait, if it is still there."""
        if self._known is None:
            return None
        try:
            return SharedDirectory.enter(self._known)
        except FileNotFoundError:
            return None

    def _has_ended(self, name: str) -> None:
        entry = self._entries.pop(name)
        entry.deadline.cancel()
        entry.agent.close()
        story = entry.agent.story
        self._ended(name, f"{entry.verdict}; {story}" if entry.verdict else story)
        if entry.again:
            self._launch(entry.options)
