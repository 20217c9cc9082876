"""The real scheduler on the simulated backend: whole runs in virtual time, in one thread, the same each time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from handoff_lab.backends.simulated import SimulatedBackend
from handoff_lab.messages import (
    Attempt,
    AttemptId,
    BackendEvent,
    Command,
    Ended,
    Finished,
    Forget,
    Free,
    Report,
    Source,
    Start,
    Stop,
    Wake,
)
from handoff_lab.resources import ResourceTracker
from handoff_lab.scheduler import Program, RunOptions, Scheduler

Watch: TypeAlias = Callable[[Sequence[BackendEvent], Sequence[Command]], None]


class Simulation:
    """Does for the simulated backend what a coordinator does for a real one.

    Parameters
    ----------
    backend
        Its nodes are there when the simulation is made.
    tracker, prefetch
        As `Scheduler` takes them.
    timeouts
        Whether attempts end when their functions' timeouts are up.
    watch
        Called after each answer of the scheduler, with the events that it was told and its commands.
    """

    def __init__(
        self,
        backend: SimulatedBackend,
        *,
        tracker: ResourceTracker | None = None,
        prefetch: int = 32,
        timeouts: bool = True,
        watch: Watch | None = None,
    ) -> None:
        self.backend = backend
        self.scheduler = Scheduler(tracker, prefetch=prefetch)
        self.finished: dict[AttemptId, Finished] = {}
        self.ended: dict[str, Ended] = {}
        self.reports: list[tuple[float, Report]] = []
        self._timeouts = timeouts
        self._watch = watch
        self._programs: dict[str, Program] = {}
        backend.open(None, self._hear)
        backend.step()

    def submit(self, program: Program, options: RunOptions) -> None:
        """Begin a run now."""
        commands = self.scheduler.submit(program, options, self.backend.now)
        self._programs[program.run] = program
        self._obey((), commands)

    def cancel(self, run: str, function: int | None = None) -> None:
        """Cancel a run, or a function of it, now."""
        self._obey((), self.scheduler.cancel(run, self.backend.now, function))

    def drain(self, node: str) -> None:
        """Have a node take nothing new from now on."""
        self._obey((), self.scheduler.drain(node, self.backend.now))

    def retire(self, node: str) -> None:
        """Have a node take only what can run nowhere else from now on."""
        self._obey((), self.scheduler.retire(node, self.backend.now))

    def undrain(self, node: str) -> None:
        """Have a node that was drained take functions again, from now on."""
        self._obey((), self.scheduler.undrain(node, self.backend.now))

    def forget(self, run: str) -> None:
        """Drop a run that is over."""
        self._obey((), self.scheduler.forget(run))

    def run(self) -> None:
        """Go on until nothing is left to happen."""
        while self.backend.step():
            pass

    def _hear(self, events: Sequence[BackendEvent]) -> None:
        for event in events:
            if isinstance(event, Finished):
                self.finished[event.id] = event
        self._obey(events, self.scheduler.handle(events, self.backend.now))

    def _wake(self) -> None:
        self._obey((), self.scheduler.wake(self.backend.now))

    def _obey(self, events: Sequence[BackendEvent], commands: Sequence[Command]) -> None:
        if self._watch is not None:
            self._watch(events, commands)
        for command in commands:
            match command:
                case Start():
                    self.backend.submit([self._attempt(command)])
                case Stop():
                    self.backend.cancel(command.id, command.how)
                case Wake():
                    self.backend.at(command.at, self._wake)
                case Free():
                    self.backend.free(command.keys)
                case Forget():
                    self.backend.forget(command.run)
                case Report():
                    self.reports.append((self.backend.now, command))
                case Ended():
                    self.ended[command.run] = command

    def _attempt(self, start: Start) -> Attempt:
        scheduled = self._programs[start.id.run].functions[start.id.function]
        return Attempt(
            start.id,
            start.node,
            str(scheduled.id),
            (),
            tuple(Source(key, node) for key, node in start.sources),
            cost=scheduled.cost,
            priority=start.priority,
            timeout_s=scheduled.function.timeout if self._timeouts and scheduled.function is not None else None,
            granted=start.granted,
        )
