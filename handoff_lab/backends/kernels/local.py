"""The agents that a backend started on this machine, and the directory that it shares with them."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from handoff_lab._errors import BackendError
from handoff_lab.backends.kernels.gpus import LocalGpus
from handoff_lab.backends.kernels.launch import LocalAgent, Reaper, end_all
from handoff_lab.node.options import NodeOptions
from handoff_lab.resources import Resources
from handoff_lab.store.directory import SharedDirectory, unusable
from handoff_lab.transport.keys import JoinFile
from handoff_lab.transport.loop import Loop, Timer

log = logging.getLogger(__name__)

JOIN_S = 30.0  # from its start until an agent has joined
END_S = 2.0  # for an agent that was told to stop
SILENCE_S = 0.05  # from an unexplained end of an agent's connection to its own
AGAIN_S = 0.5  # from a replacement that did not come to the next; each time twice as long
LATEST_S = 60.0


@dataclass(slots=True)
class _Entry:
    options: NodeOptions
    agent: LocalAgent
    deadline: Timer
    verdict: str = ""  # why it was killed
    again_s: float | None = None  # until another takes its place; None: none does


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
        self._coming: dict[str, Timer] = {}  # starts of replacements, by name
        self._gpus = LocalGpus()
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
        if name in self._coming:
            self._coming.pop(name).cancel()
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

    def _launch(self, options: NodeOptions, again_s: float | None = None) -> None:
        name = options.name
        log_file = self._place() / f"agent-{next(self._numbers)}.log"
        environment = self._gpus.environment(name, options.capabilities or {})
        agent = LocalAgent(self._loop, options, log_file, lambda: self._has_ended(name), environment)
        deadline = self._loop.call_later(JOIN_S, lambda: self.kill(name, f"it did not join within {JOIN_S:g} s"))
        self._entries[name] = _Entry(options, agent, deadline, again_s=again_s)

    def pid(self, name: str) -> int | None:
        """The process of a node's agent, if it was started here."""
        entry = self._entries.get(name)
        return None if entry is None else entry.agent.pid

    def is_running(self, name: str) -> bool:
        """Whether a node's agent was started here, and is neither stopped nor at its end."""
        entry = self._entries.get(name)
        return entry is not None and not entry.verdict and entry.agent.is_running

    def settle(self, name: str) -> None:
        """Take in at once that an agent's process ends, if its end has begun: others may have lost it already."""
        entry = self._entries.get(name)
        if entry is not None and entry.agent.is_ending:
            self._has_ended(name)

    def log(self, name: str) -> str:
        """The end of what an agent wrote."""
        return self._entries[name].agent.written

    def joined(self, name: str) -> None:
        """The agent is there in time."""
        if name in self._entries:
            self._entries[name].deadline.cancel()
            self._entries[name].again_s = None

    def end(self, name: str, patience_s: float, verdict: str) -> None:
        """Kill an agent, unless it ends by itself in time."""
        entry = self._entries[name]
        entry.again_s = None
        entry.deadline.cancel()
        entry.deadline = self._loop.call_later(patience_s, lambda: self.kill(name, verdict))

    def replace(self, name: str, capabilities: Mapping[str, float], patience_s: float, verdict: str) -> None:
        """Kill an agent, unless it ends by itself in time, and start others in its place until one has joined."""

        def kill() -> None:
            if not entry.agent.is_ending:
                entry.again_s = 0.0
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
        for timer in (*self._coming.values(), *(entry.deadline for entry in entries.values())):
            timer.cancel()
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
                self._directory = self._make_place()
                self._reaper = Reaper(self._directory.path)
            return self._directory.path

    def _make_place(self) -> SharedDirectory:
        directory = self._enter_known() or SharedDirectory.create()
        join_file = directory.path / "join.json"
        if not join_file.exists():
            try:
                self._join.write(join_file)
            except OSError as error:
                directory.leave()
                raise unusable(directory.path.parent, error) from error
        return directory

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
        self._gpus.give_back(name)
        entry.deadline.cancel()
        entry.agent.close()
        story = entry.agent.story
        if entry.verdict:
            story = f"{entry.verdict}; {story}"
        if entry.again_s is not None:
            self._launch_later(entry.options, entry.again_s)
        if entry.again_s:
            log.warning("node %r is tried again in %g s: %s", name, entry.again_s, story)
        self._ended(name, story)

    def _launch_later(self, options: NodeOptions, after_s: float) -> None:
        """Start a replacement, and others after it until one has joined."""
        name, again_s = options.name, min(max(AGAIN_S, 2 * after_s), LATEST_S)

        def launch() -> None:
            del self._coming[name]
            try:
                self._launch(options, again_s)
            except OSError as error:
                log.warning("node %r is tried again in %g s: %s", name, again_s, error)
                self._launch_later(options, again_s)

        self._coming[name] = self._loop.call_later(after_s, launch)
