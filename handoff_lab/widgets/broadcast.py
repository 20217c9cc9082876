"""One run, or a DAG that was not run, on its way to the browser: whole states are published, patches sent."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from handoff_lab._errors import HandoffError
from handoff_lab.allocation import Plan
from handoff_lab.graph import DAG
from handoff_lab.telemetry import RunRecord
from handoff_lab.widgets.protocol import Message, RunFacts, State
from handoff_lab.widgets.remaining import Forecast
from handoff_lab.widgets.state import LiveState
from handoff_lab.widgets.structure import Structure, structure_of

if TYPE_CHECKING:
    from handoff_lab.run import Run

MOST_PLANNED: Final = 5000  # functions; more take too long to predict beside a run
_FORECAST_S: Final = 1.0
_FORECAST_OF_EACH_S: Final = 5e-6  # about what a forecast costs for each function
_FEW: Final = 200  # functions whose picture and forecasts cost next to nothing
_SHARE: Final = 0.01  # of its time that may go into forecasts
_PICTURE_OF_EACH_S: Final = 4e-6  # about what the first picture costs for each function
_SHARE_OF_PICTURE: Final = 0.1
_LONGEST_PATIENCE_S: Final = 0.5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outlet:
    """The way to the browser."""

    lock: RLock  # held while something is published or sent
    publish: Callable[[str, Any], object]
    send: Callable[[Message], object]
    cannot: Callable[[Run], dict[str, str]]  # why verbs can't be used now
    settled: Callable[[], object]  # called without the lock


@dataclass(slots=True)
class _Picture:
    structure: Structure
    live: LiveState


class Broadcast:
    """Everything that a view shows, and how it changes.

    The picture of a run that goes on is made by the feed where there are many functions: not on the thread of who
    asked for it, and once the run has gone on for long enough to bear its cost, or is over.

    Parameters
    ----------
    subject
        What is shown.
    outlet
        Where it goes.
    stale
        Functions whose results are out of date.
    """

    def __init__(self, subject: DAG | Run, outlet: Outlet, stale: Collection[Hashable] = ()) -> None:
        self.is_run = not isinstance(subject, DAG)
        self._run: Callable[[], Run | None] = lambda: None if isinstance(subject, DAG) else subject
        self.dag = subject if isinstance(subject, DAG) else subject.part
        self.ids = tuple(self.dag.functions)
        self.goes_on = self.run is not None and self.run.status == "running"
        self._outlet = outlet
        self._picture: _Picture | None = None
        self._is_published = False
        self._stale = stale
        self._seen_at = time.time()
        self._expected: float | None = None
        self._expect_at = self._first_forecast()  # monotonic; not sooner is it looked at again
        self._forecast = Forecast(self.dag)
        self._is_planned = False
        if not self.goes_on or len(self.ids) <= _FEW:
            self.draw()

    @property
    def run(self) -> Run | None:
        """The run; None too when nobody else holds it any more and it was let go."""
        return self._run()

    @property
    def structure(self) -> Structure | None:
        """How it is drawn; None as long as it was not."""
        picture = self._picture
        return None if picture is None else picture.structure

    @property
    def patience_s(self) -> float:
        """How long the run has yet to go on before it bears the cost of its picture."""
        run = self.run
        if run is None or self._picture is not None:
            return 0.0
        wanted = min(len(self.ids) * _PICTURE_OF_EACH_S / _SHARE_OF_PICTURE, _LONGEST_PATIENCE_S)
        began = run.record.started
        return wanted if began is None else max(0.0, wanted - (time.time() - began))

    def draw(self) -> _Picture:
        """The picture, made if there is none yet."""
        if self._picture is None:
            structure = structure_of(self.dag)
            with self._outlet.lock:
                if self._picture is None:
                    self._begin(structure)
        assert self._picture is not None
        return self._picture

    def snapshot(self) -> State | None:
        """The whole state as far as it was told; None as long as nothing was drawn."""
        with self._outlet.lock:
            return None if self._picture is None else self._picture.live.snapshot(time.time())

    def publish(self) -> None:
        """Publish structure and state; None each as long as nothing was drawn."""
        with self._outlet.lock:
            self._is_published = self._picture is not None
            self._outlet.publish("structure", self.structure)
            self.refresh()

    def refresh(self) -> None:
        """Publish the whole state."""
        with self._outlet.lock:
            self._outlet.publish("state", self.snapshot())

    def tell(self, *, meters: bool) -> bool:
        """Send what changed, amounts too if ``meters``; whether there was anything."""
        if not self._is_published:
            self.draw()
            self.publish()
        told = self._tell(meters)
        if self._find_plan():
            told |= self._tell(meters)
        return told

    def mark_stale(self, ids: Collection[Hashable]) -> None:
        """Tell which results are out of date."""
        with self._outlet.lock:
            self._stale = ids
            if self._picture is not None:
                self._picture.live.mark_stale(ids)
                self._tell(meters=False)

    def fold(self, groups: Sequence[int]) -> None:
        """Draw these groups as one shape each, and no others."""
        picture = self.draw()
        names = picture.structure["groups"]
        folded = structure_of(self.dag, [names[group] for group in groups if 0 <= group < len(names)])
        with self._outlet.lock:
            picture.structure = folded
            picture.live.key = folded["key"]

    def let_go(self) -> None:
        """Hold the run by a weak reference from now on."""
        run = self.run
        if run is not None:
            self._run = weakref.ref(run)

    def ended(self) -> None:
        """The run is over, and all was told."""
        self._outlet.settled()

    def _begin(self, structure: Structure) -> None:
        run = self.run
        live = LiveState(structure["key"], self.dag, None if run is None else run.record)
        live.mark_stale(self._stale)
        self._picture = _Picture(structure, live)
        if not self.goes_on:
            self._find_plan()
        live.patch(self._seen_at, self._facts())

    def _tell(self, meters: bool) -> bool:
        with self._outlet.lock:
            patch = self.draw().live.patch(time.time(), self._facts(), meters=meters)
            if patch is not None:
                self._outlet.send({**patch})
            return patch is not None

    def _find_plan(self) -> bool:
        """Predict the run once it is known what runs where; whether there is a plan now that was not there before."""
        run = self.run
        if self._is_planned or run is None or run.record.started is None:
            return False
        self._is_planned = True
        if len(self.dag) > MOST_PLANNED:
            return False
        try:
            plan = run.plan
        except HandoffError:  # nodes have less now than the run needed: that is no reason to show nothing
            _log.debug("run %s cannot be predicted", run.id, exc_info=True)
            return False
        if plan is None:
            return False
        with self._outlet.lock:
            self._forecast = Forecast(self.dag, _most_at_once(plan))
            self.draw().live.show_plan(plan)
            self._expect_at = self._first_forecast()
        return True

    def _facts(self) -> RunFacts | None:
        run = self.run
        if run is None:
            return None
        record, status, error = run.record, run.status, run.exception()
        over = status != "running"
        if over:
            self._expected = None
        elif time.monotonic() >= self._expect_at:
            self._expected = self._expect(record)
        return {
            "id": run.id,
            "status": status,
            "strategy": record.strategy,
            "started": round(record.started or self._seen_at, 3),
            "ended": round(record.ended or record.last_time, 3) if over else None,
            "expected": self._expected,
            "error": None if error is None else str(error).partition("\n")[0],
            "cannot": self._outlet.cannot(run),
        }

    def _first_forecast(self) -> float:
        """When the run will have gone on for long enough to bear the cost of a forecast."""
        count = len(self.dag)
        return 0.0 if count <= _FEW else time.monotonic() + count * _FORECAST_OF_EACH_S / _SHARE

    def _expect(self, record: RunRecord) -> float | None:
        begin, now = time.monotonic(), time.time()
        left = self._forecast.seconds_left(record, now)
        if record.started is not None:  # else its begin may be the last news for long
            self._expect_at = begin + max(_FORECAST_S, (time.monotonic() - begin) / _SHARE)
        return None if left is None else round(now + left, 1)


def _most_at_once(plan: Plan) -> int:
    """How many functions go on at the same time, by a plan."""
    steps = sorted([*((end, -1) for end in plan.end.values()), *((start, 1) for start in plan.start.values())])
    return max(accumulate(step for _, step in steps), default=1)
