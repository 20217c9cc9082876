"""The runs that were not forgotten, and the code and values that they need: begun, taken up again, and freed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from handoff_lab.backends.base import Backend, Code
from handoff_lab.coordinator.state import RunState
from handoff_lab.messages import AttemptId, Command, Start, Started
from handoff_lab.scheduler import Past, RunOptions, Scheduler
from handoff_lab.store.payload import Payload


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """A run that another coordinator began, and how far it came."""

    state: RunState
    options: RunOptions
    codes: Mapping[str, Code]
    values: Mapping[AttemptId, Payload]
    past: Past


class RunBook:
    """Kept on the coordinator's thread, by what users want. Who calls carries out the commands that are returned."""

    def __init__(self, backend: Backend, scheduler: Scheduler) -> None:
        self._backend = backend
        self._scheduler = scheduler
        self.states: dict[str, RunState] = {}  # by id, oldest first
        self._codes: dict[str, tuple[str, ...]] = {}  # keys of the code of each run
        self._code_uses: Counter[str] = Counter()  # runs that use it, by key

    def begin(
        self,
        state: RunState,
        options: RunOptions,
        codes: Mapping[str, Code],
        values: Mapping[AttemptId, Payload],
    ) -> list[Command]:
        """Begin a run; raises what is wrong with it before anything starts."""
        commands = self._scheduler.submit(state.program, options, time.monotonic())
        self._enter(state, codes, values)
        return commands

    def resume(self, runs: Sequence[EarlierRun]) -> tuple[list[Command], list[Started]]:
        """Take up runs; also returned are the attempts that go on where they are."""
        commands: list[Command] = []
        running: dict[AttemptId, Started] = {}
        for run in runs:
            commands += self._scheduler.resume(run.state.program, run.options, run.past, time.monotonic())
            self._enter(run.state, run.codes, run.values)
            running |= {event.id: event for _, event in run.past.running.values()}
        adopted = running.keys() & {command.id for command in commands if isinstance(command, Start)}
        return commands, [running[id] for id in adopted]

    def _enter(self, state: RunState, codes: Mapping[str, Code], values: Mapping[AttemptId, Payload]) -> None:
        state.ids = [function.id for function in state.program.functions]
        state.failures = self._scheduler.progress(state.id).failures
        self.states[state.id] = state
        self._codes[state.id] = tuple(codes)
        self._code_uses.update(codes.keys())
        self._backend.load(codes)
        for key, value in values.items():
            self._backend.put(key, value)

    def forget(self, run: str) -> list[Command]:
        """Free everything that a run, which is over, left behind."""
        commands = self._scheduler.forget(run)
        del self.states[run]
        self._unload(self._codes.pop(run))
        return commands

    def _unload(self, keys: Iterable[str]) -> None:
        """Drop a run's claim on its code; what no other run uses is forgotten."""
        self._code_uses.subtract(keys)
        unused = [key for key in keys if self._code_uses[key] <= 0]
        for key in unused:
            del self._code_uses[key]
        self._backend.unload(unused)

    def results_of(self, run: str) -> dict[Hashable, tuple[AttemptId, str]]:
        """Where the finished functions of a run have their results, by function id."""
        index = self.states[run].program.index
        regular = (id for id, function in self.states[run].dag.functions.items() if function.type == "regular")
        held = {id: self._scheduler.holder(run, index[id]) for id in regular if id in index}
        return {id: holder for id, holder in held.items() if holder is not None}
