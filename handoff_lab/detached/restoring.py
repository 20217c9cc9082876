"""How far the runs of a killed coordinator were: from its journal, their logs, and what nodes say that they hold."""

from __future__ import annotations

import logging
import pickle
import time
from collections import Counter, defaultdict
from collections.abc import Container, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from handoff_lab.backends.base import Code
from handoff_lab.coordinator.codes import PickledCode
from handoff_lab.coordinator.runs import EarlierRun
from handoff_lab.coordinator.state import RunState
from handoff_lab.detached.journal import Journal
from handoff_lab.detached.outline import from_outline
from handoff_lab.detached.protocol import unpack_parts
from handoff_lab.messages import AttemptId, Failed, FailureKind, Finished, Started
from handoff_lab.node.tether import Memory
from handoff_lab.scheduler import Past, RunOptions, State, Tried
from handoff_lab.scheduler.state import FinalFailure
from handoff_lab.store.payload import Payload
from handoff_lab.telemetry.events import FUNCTION_EXCEPTION, FUNCTION_RETRY, Event
from handoff_lab.telemetry.functions import FunctionRecord, FunctionStatus
from handoff_lab.telemetry.log import RunLog, log_path
from handoff_lab.telemetry.record import HAS_RESULT, RunRecord

log = logging.getLogger(__name__)

_FREE = (FailureKind.NODE, FailureKind.INPUT)  # losses, which are no fault of the function's
_DEAD = {FunctionStatus.SKIPPED: State.SKIPPED, FunctionStatus.CANCELLED: State.CANCELLED}


@dataclass(frozen=True, slots=True)
class Record:
    """A run as it was written down."""

    state: RunState
    options: RunOptions
    codes: Mapping[str, Code]
    values: Mapping[AttemptId, Payload]
    failures: Mapping[int, FinalFailure]
    cancelled: Sequence[int | None]  # functions that were to be cancelled; None: all of it

    def taken_up(self, held: Mapping[str, Memory], generation: int) -> EarlierRun:
        """The run with what nodes hold of it."""
        return EarlierRun(self.state, self.options, self.codes, self.values, self._past(held, generation))

    def _past(self, held: Mapping[str, Memory], generation: int) -> Past:
        state, index, failures = self.state, self.state.program.index, self.failures
        functions = {index[id]: record for id, record in state.record.functions.items() if id in index}
        dead = {i: _DEAD[record.status] for i, record in functions.items() if record.status in _DEAD}
        dead |= dict.fromkeys(failures, State.FAILED)
        nodes = {i: record.node for i, record in functions.items() if record.node}
        told = {i for i, record in functions.items() if record.status is FunctionStatus.FAILED}
        made: dict[int, tuple[str, Finished]] = {}
        running: dict[int, tuple[str, Started]] = {}
        for node, memory in held.items():
            for id, finished in memory.finished.items():
                is_news = id.function not in made or made[id.function][1].id < id
                if self._is_of(id, node, nodes, dead) and is_news:
                    made[id.function] = node, finished
            for id, started in memory.started.items():
                if self._is_of(id, node, nodes, dead):
                    running[id.function] = node, started
        unheard = self._unheard(held, nodes, {*dead, *made, *running})
        return Past(
            generation=generation,
            elapsed_s=time.time() - (state.record.started or time.time()),
            status="running" if state.end is None else state.end.status,
            nodes=nodes,
            attempts={i: record.attempts for i, record in functions.items()},
            done={i for i, record in functions.items() if record.status in HAS_RESULT},
            begun={i for i, record in functions.items() if record.status is FunctionStatus.RUNNING},
            dead=dead,
            failures=failures,
            untold=[i for i in failures if i not in told],
            tried=self._tried(functions),
            unheard=unheard,
            cancelled=self.cancelled,
            made=made,
            running=running,
            present={(key, node) for node, memory in held.items() for key in memory.finished},
        )

    def _is_of(self, id: AttemptId, node: str, nodes: Mapping[int, str], dead: Container[int]) -> bool:
        """Whether an attempt is of this run, of a function that its node was given last and that is still to be."""
        return id.run == self.state.id and nodes.get(id.function) == node and id.function not in dead

    def _unheard(
        self, held: Mapping[str, Memory], nodes: Mapping[int, str], over: Container[int]
    ) -> dict[int, list[Failed]]:
        """Attempts that failed and of which the log says nothing: it knows those that it tells of by their times."""
        known = {
            (event.metadata["function"], event.measurements.get("ended"))
            for event in self.state.record.events.parts
            if isinstance(event, Event) and event.name == FUNCTION_EXCEPTION
        }
        functions = self.state.program.functions
        found: defaultdict[int, list[Failed]] = defaultdict(list)
        for node, memory in held.items():
            for id, event in sorted(memory.failed.items()):
                is_ours = self._is_of(id, node, nodes, over) and event.ended is not None
                if is_ours and (functions[id.function].id, event.ended) not in known:
                    found[id.function].append(event)
        return found

    def _tried(self, functions: Mapping[int, FunctionRecord]) -> dict[int, Tried]:
        """What the log tells of attempts that failed."""
        retries: Counter[Hashable] = Counter()
        deaths: Counter[Hashable] = Counter()
        due: dict[Hashable, float] = {}  # when, in wall-clock seconds, a function is tried again
        for event in self.state.record.events.parts:
            if isinstance(event, Event) and event.name == FUNCTION_EXCEPTION:
                id, kind = event.metadata["function"], event.metadata["kind"]
                retries[id] += kind not in _FREE
                deaths[id] += kind == FailureKind.DIED
            elif isinstance(event, Event) and event.name == FUNCTION_RETRY:
                due[event.metadata["function"]] = event.time + event.measurements["delay"]
        now = time.time()
        return {
            i: Tried(
                retries[record.id],
                deaths[record.id],
                due.get(record.id, now) - now if record.status is FunctionStatus.RETRYING else 0.0,
            )
            for i, record in functions.items()
            if record.id in retries
        }


def read_runs(journal: Journal, directory: str | None) -> Iterator[Record]:
    """The runs, oldest first, with their logs in ``directory``; one that cannot be read is left out, with a warning."""
    for run in journal.runs():
        try:
            path = journal.log(run, log_path(run, directory))
            if path is None:
                log.warning("run %s is forgotten: it did not begin, or its log is gone", run)
                journal.drop(run)
            else:
                yield _read(journal, run, path)
        except Exception:  # it may be anything, where a user's policy is unpickled: the other runs go on
            log.exception("run %s is lost", run)


def _read(journal: Journal, run: str, path: Path) -> Record:
    order = journal.order(run)
    state = from_outline(order.outline)
    state.log_directory = path.parent
    state.record = RunRecord.from_log(path)
    options = pickle.loads(order.options)
    codes, values = unpack_parts(run, order.parts)
    pickled = {key: PickledCode(None, data) for key, data in codes.items()}
    record = Record(state, options, pickled, values, journal.failures(run), journal.cancelled(run))
    end = journal.end(run)
    if end is None:
        state.log = RunLog(run, path.parent, resume=True)
    else:
        state.finish(end)
    return record


def useful(runs: Iterable[EarlierRun]) -> set[AttemptId]:
    """Results of these runs that nodes are to keep."""
    found: set[AttemptId] = set()
    for run in runs:
        found.update(finished.id for _, finished in run.past.made.values())
        found.update(function.given[0] for function in run.state.program.functions if function.given is not None)
    return found
