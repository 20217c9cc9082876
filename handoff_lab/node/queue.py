"""Tasks that wait for a slot: runs take turns, within a run the most urgent goes first."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import TypeAlias

from handoff_lab.node.task import Claim, Task

_Entry: TypeAlias = tuple[float, int, Task]


class Line:
    """The waiting tasks of one run that hold the same claim, by priority."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self._heap: list[_Entry] = []

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, task: Task) -> None:
        """Put a task in its place."""
        heapq.heappush(self._heap, (task.attempt.priority, task.number, task))

    def head(self) -> _Entry | None:
        """The most urgent task with its place; those that left go."""
        while self._heap:
            entry = self._heap[0]
            _, number, task = entry
            if task.queued and task.number == number:
                return entry
            heapq.heappop(self._heap)
        return None

    def pop(self) -> None:
        """Take the head out."""
        heapq.heappop(self._heap)[2].queued = False


class Queue:
    """Lines of tasks.

    A task whose claim does not fit now can be overtaken by those behind it; when there is room again it is the first
    that is tried.
    """

    def __init__(self) -> None:
        self._runs: dict[str, dict[Claim, Line]] = {}  # the run whose turn it is comes first
        self._numbers = itertools.count(1)

    def push(self, task: Task) -> None:
        """Let a task wait, under a number that gives its place."""
        task.number = next(self._numbers)
        task.queued = True
        lines = self._runs.setdefault(task.attempt.id.run, {})
        claim = task.claim
        line = lines.get(claim)
        if line is None:
            line = lines[claim] = Line(claim)
        line.push(task)

    def best(self, fits: Callable[[Claim], bool] = lambda claim: True) -> Line | None:
        """The line with the most urgent task that fits, of the first run in turn that has any."""
        for run in list(self._runs):
            heads = [(head, line) for line in self._lines(run) if fits(line.claim) and (head := line.head())]
            if heads:
                return min(heads, key=lambda found: found[0])[1]
        return None

    def served(self, run: str) -> None:
        """Let the other runs have their turns first."""
        lines = self._runs.pop(run, None)
        if lines:
            self._runs[run] = lines

    def clear(self) -> None:
        """Forget all tasks."""
        self._runs.clear()

    def _lines(self, run: str) -> Iterator[Line]:
        lines = self._runs[run]
        for claim, line in list(lines.items()):
            if line.head() is None:
                del lines[claim]
            else:
                yield line
        if not lines:
            del self._runs[run]
