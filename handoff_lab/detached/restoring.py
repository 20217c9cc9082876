"""How far the runs of a killed coordinator were: from its journal, their logs, and what nodes say that they hold."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from handoff_lab.backends.base import Code
from handoff_lab.coordinator.codes import PickledCode
from handoff_lab.coordinator.coordinator import EarlierRun
from handoff_lab.coordinator.state import RunState
from handoff_lab.detached.journal import Journal
from handoff_lab.detached.outline import from_outline
from handoff_lab.detached.protocol import unpack_parts
from handoff_lab.messages import AttemptId, Finished, Started
from handoff_lab.node.tether import Memory
from handoff_lab.scheduler import Past, RunOptions, State
from handoff_lab.scheduler.state import FinalFailure
from handoff_lab.store.payload import Payload
from handoff_lab.telemetry.functions import FunctionStatus
from handoff_lab.telemetry.log import RunLog, log_path
from handoff_lab.telemetry.record import HAS_RESULT, RunRecord

log = logging.getLogger(__name__)

_DEAD = {FunctionStatus.SKIPPED: State.SKIPPED, FunctionStatus.CANCELLED: State.CANCELLED}


@dataclass(frozen=True, slots=True)
class Record:
    """A run as it was written down."""

    state: RunState
    options: RunOptions
    codes: Mapping[str, Code]
    values: Mapping[AttemptId, Payload]
    failures: Mapping[int, FinalFailure]

    def taken_up(self, held: Mapping[str, Memory], generation: int) -> EarlierRun:
        """The run with what nodes hold of it."""
        return EarlierRun(self.state, self.options, self.codes, self.values, self._past(held, generation))

    def _past(self, held: Mapping[str, Memory], generation: int) -> Past:
        state, index = self.state, self.state.program.index
        functions = {index[id]: record for id, record in state.record.functions.items() if id in index}
        dead = {i: _DEAD[record.status] for i, record in functions.items() if record.status in _DEAD}
        nodes = {i: record.node for i, record in functions.items() if record.node}
        made: dict[int, tuple[str, Finished]] = {}
        running: dict[int, tuple[str, Started]] = {}
        for node, memory in held.items():
            for id, finished in memory.finished.items():
                is_news = id.function not in made or made[id.function][1].id < id
                if id.run == state.id and nodes.get(id.function) == node and is_news:
                    made[id.function] = node, finished
            for id, started in memory.started.items():
                if id.run == state.id and nodes.get(id.function) == node:  # else it was not given to this node
                    running[id.function] = node, started
        return Past(
            generation=generation,
            elapsed_s=time.time() - (state.record.started or time.time()),
            status="running" if state.end is None else state.end.status,
            nodes=nodes,
            attempts={i: record.attempts for i, record in functions.items()},
            done={i for i, record in functions.items() if record.status in HAS_RESULT},
            begun={i for i, record in functions.items() if record.status is FunctionStatus.RUNNING},
            dead=dead | dict.fromkeys(self.failures, State.FAILED),
            failures=self.failures,
            made=made,
            running=running,
            present={(key, node) for node, memory in held.items() for key in memory.finished},
        )


def read_runs(journal: Journal, directory: str | None) -> Iterator[Record]:
    """The runs, oldest first, with their logs in ``directory``; one that cannot be read is left out, with a warning."""
    for run in journal.runs():
        try:
            yield _read(journal, run, directory)
        except FileNotFoundError:
            journal.drop(run)  # it did not begin, or was so long ago that its log is gone
        except (ValueError, OSError) as error:
            log.warning("run %s is lost: %s", run, error)


def _read(journal: Journal, run: str, directory: str | None) -> Record:
    order = journal.order(run)
    state = from_outline(order.outline)
    state.log_directory = directory
    state.record = RunRecord.from_log(journal.log(run, log_path(run, directory)))
    end = journal.end(run)
    if end is None:
        state.log = RunLog(run, directory, resume=True)
    else:
        state.finish(end)
    codes, values = unpack_parts(run, order.parts)
    pickled = {key: PickledCode(None, data) for key, data in codes.items()}
    return Record(state, pickle.loads(order.options), pickled, values, journal.failures(run))


def useful(runs: Iterable[EarlierRun]) -> set[AttemptId]:
    """Results of these runs that nodes are to keep."""
    found: set[AttemptId] = set()
    for run in runs:
        found.update(finished.id for _, finished in run.past.made.values())
        found.update(function.given[0] for function in run.state.program.functions if function.given is not None)
    return found
