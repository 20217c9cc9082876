"""What runs inside a Dask worker: a batch of attempts is one Dask task, which runs them one after the other.

What a batch tells goes through Dask's topics, in messages of ``[batch, kind, ...]``: ``began`` with a place in the
batch and a time, ``wrote`` with a place and text, ``rows`` with outcomes. A row is place, started, ended, size, frames
of a small result, log, failure; of an attempt that did not run it is the place alone. Large results are what the Dask
task returns: they stay on the worker, under the task's key.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import socket
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from types import ModuleType
from typing import Any, TypeAlias

import msgpack  # type: ignore[import-untyped]

from handoff_lab.backends.dask.output import Log, caught
from handoff_lab.messages import Failure
from handoff_lab.node.codes import Codes
from handoff_lab.node.execution import execute_pickled
from handoff_lab.node.failures import code_failure, sendable, set_up_failure
from handoff_lab.store.payload import Frames, join
from handoff_lab.transport.hello import own_versions

SMALL = 1024  # bytes of a result that is sent along with the news of it; Dask's scheduler keeps a thousand messages
REPORT_S = 0.01  # outcomes of brief functions wait this long for company
REPORT_BYTES = 64 * 1024
LOG_S = 0.2  # between looks at what a running function wrote
SURE_S = 10.0  # that what may kill its worker waits at most until its start is known
GIVEN, MADE = 1, 2  # an input: a list of frames, or one of these with numbers
_REMEMBERED = 1000  # batches that are over
_FAILURE_FIELDS = [field.name for field in fields(Failure)]

Row: TypeAlias = list[Any]

log = logging.getLogger(__name__)


class Made:
    """Results of a batch that stay on its worker, by place; workers send them without a copy."""

    __slots__ = ("values",)

    def __init__(self, values: dict[int, Sequence[Any]]) -> None:
        self.values = values

    def __sizeof__(self) -> int:
        return sum(memoryview(part).nbytes for parts in self.values.values() for part in parts)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        wrap = pickle.PickleBuffer if protocol >= 5 else bytes  # where Dask does not know what the other side reads
        return Made, ({place: [*map(wrap, parts)] for place, parts in self.values.items()},)

    def frames(self, place: int) -> Frames:
        """One of them."""
        return Frames(tuple(self.values[place]))


class Site:
    """What one cluster of ours has in one worker."""

    def __init__(self) -> None:
        self.codes = Codes(vars(ModuleType("__main__")))
        # Held while code is unpickled, which can take long: never by the worker's loop.
        self.loading = threading.RLock()
        self._lock = threading.Lock()
        self._ages: dict[str, int] = {}  # of code: how often code was forgotten before it was sent
        self._batches: dict[str, _Batch] = {}
        self._refused: dict[str, set[int]] = {}  # places of batches that are still to come
        self._over: OrderedDict[str, None] = OrderedDict()

    def learn(self, codes: Mapping[str, bytes], age: int) -> None:
        """Keep code."""
        with self._lock:
            for key, code in codes.items():
                self.codes.add(key, code)
                self._ages[key] = age

    def unlearn(self, keys: Iterable[str], age: int) -> None:
        """Forget code, but not what was sent again since: news of a batch may come before this."""
        with self._lock:
            old = [key for key in keys if self._ages.get(key, age) < age]
            for key in old:
                del self._ages[key]
            self.codes.remove(old)

    def open(self, batch: _Batch) -> None:
        """A batch is here."""
        with self._lock:
            self._batches[batch.name] = batch
            batch.waiting -= self._refused.pop(batch.name, set())

    def begin(self, batch: _Batch, place: int) -> bool:
        """Whether an attempt may begin: then it is not taken back any more."""
        with self._lock:
            there = place in batch.waiting
            batch.waiting.discard(place)
            return there

    def end(self, batch: _Batch) -> None:
        """A batch is done."""
        with self._lock:
            del self._batches[batch.name]
            self._over[batch.name] = None
            if len(self._over) > _REMEMBERED:
                self._over.popitem(last=False)

    def take_back(self, name: str, places: list[int]) -> list[int]:
        """Those of ``places`` that did not begin, and will not; what is done is told."""
        with self._lock:
            if name in self._over:
                return []
            batch = self._batches.get(name)
            if batch is None:
                self._refused.setdefault(name, set()).update(places)
                if len(self._refused) > _REMEMBERED:
                    del self._refused[next(iter(self._refused))]
                return places
            taken = batch.waiting.intersection(places)
            batch.waiting -= taken
        batch.report()
        return list(taken)


_sites: weakref.WeakKeyDictionary[Any, dict[str, Site]] = weakref.WeakKeyDictionary()
_sites_lock = threading.Lock()


def _site(worker: Any, topic: str) -> Site:
    with _sites_lock:
        sites = _sites.setdefault(worker, {})
        return sites.setdefault(topic, Site())


# -- called on the worker's own loop: all of them return at once -------------------------


def introduce(dask_worker: Any) -> dict[str, Any]:
    """Where the worker is, and its versions."""
    import os

    return {"host": socket.gethostname(), "pid": os.getpid(), "versions": own_versions()}


def take_back(topic: str, batch: str, places: list[int], dask_worker: Any) -> list[int]:
    """Keep attempts of a batch from running; which of them will not."""
    return _site(dask_worker, topic).take_back(batch, places)


def unload(topic: str, keys: list[str], age: int, dask_worker: Any) -> None:
    """Forget code."""
    _site(dask_worker, topic).unlearn(keys, age)


def leave(topic: str, dask_worker: Any) -> None:
    """Forget everything of one cluster of ours."""
    with _sites_lock:
        _sites.get(dask_worker, {}).pop(topic, None)


# -- called in a thread of the worker ---------------------------------------------------------


def run_batch(message: bytes, given: list[Made]) -> Made:
    """Run a batch; its large results."""
    from distributed import get_worker

    worker = get_worker()
    batch = msgpack.unpackb(message, strict_map_key=False)
    return _Batch(batch, given, worker, _site(worker, batch["topic"])).run()


class _Batch:
    def __init__(self, batch: dict[str, Any], given: list[Made], worker: Any, site: Site) -> None:
        self.name: str = batch["name"]
        self.waiting = set(range(len(batch["rows"])))  # places that did not begin, and were not taken back
        self._topic, self._brief, self._surely = batch["topic"], batch["brief"], batch["surely"]
        self._calls, self._attempts = batch["calls"], batch["rows"]
        self._given = given
        self._worker = worker
        self._site = site
        self._made: dict[int, Frames] = {}
        self._kept: dict[int, Sequence[Any]] = {}
        self._rows: list[Row] = []
        self._nbytes = 0
        self._reporting = threading.Lock()
        self._told = time.monotonic()
        site.learn(batch["codes"], batch["age"])

    def run(self) -> Made:
        """Run what is not taken back."""
        self._site.open(self)
        try:
            for place, attempt in enumerate(self._attempts):
                self._one(place, attempt)
                if time.monotonic() - self._told > REPORT_S or self._nbytes > REPORT_BYTES:
                    self.report()
        finally:
            self._site.end(self)
            self.report()
        return Made(self._kept)

    def _one(self, place: int, attempt: Row) -> None:
        label, call, recipe, nodes, sources = attempt
        inputs = [value for source in sources if (value := self._input(source)) is not None]
        if len(inputs) < len(sources) or not self._site.begin(self, place):
            self._add([place])
            return
        written = Log(lambda: self._worker.loop.add_callback(self._look_later, place, written))
        started = time.time()
        if self._surely:
            self._tell_surely("began", place, started)
        elif not self._brief or not place:
            self._tell("began", place, started)
        with caught(written):
            outcome = self._work(label, self._calls[call], recipe, nodes, inputs)
        ended, text = time.time(), written.close()
        if isinstance(outcome, Failure):
            outcome = sendable(outcome)
            story = [getattr(outcome, name) for name in _FAILURE_FIELDS]
            self._add([place, started, ended, 0, None, text, story], len(text))
        else:
            small = self._keep(place, outcome)
            sent = 0 if small is None else outcome.nbytes
            self._add([place, started, ended, outcome.nbytes, small, text, None], sent + len(text))

    def _input(self, source: Any) -> Frames | None:
        if source[0] == GIVEN:
            made: Made = self._given[source[1]]
            return made.frames(source[2])
        if source[0] == MADE:
            return self._made.get(source[1])
        return Frames(tuple(source[1]))

    def _keep(self, place: int, value: Frames) -> tuple[bytes, ...] | None:
        """The result, where it is small enough to be sent."""
        self._made[place] = value
        if value.nbytes > SMALL:
            self._kept[place] = value.parts
            return None
        return join(value.buffers)

    def _work(
        self, label: str, call: list[Any], recipe: bytes | None, nodes: list[Any] | None, inputs: list[Frames]
    ) -> Frames | Failure:
        keys, retry_key, setup = call
        codes = self._site.codes
        try:
            with self._site.loading:
                for key in setup:
                    codes.set_up(key)
        except BaseException as error:
            return set_up_failure(error)
        try:
            with self._site.loading:
                functions = [codes.get(key) for key in keys]
                retry_on = codes.get(retry_key) if retry_key else Exception
            unpickled = None if recipe is None else pickle.loads(recipe)
        except BaseException as error:
            return code_failure(f"the code of {label!r}", error)
        return execute_pickled(unpickled, functions, inputs, retry_on, *(nodes or ()))

    # -- what it tells ---------------------------------------------------------------

    def _tell(self, kind: str, *what: Any) -> None:
        self._worker.log_event(self._topic, self._packed(kind, what))

    def _tell_surely(self, kind: str, *what: Any) -> None:
        """And wait until Dask's scheduler has it: what is only sent is lost when this process dies the next moment."""
        call = self._worker.scheduler.log_event

        async def tell() -> None:
            await call(topic=self._topic, msg=self._packed(kind, what))

        try:
            asyncio.run_coroutine_threadsafe(tell(), self._worker.loop.asyncio_loop).result(SURE_S)
        except Exception as error:
            log.warning("Dask's scheduler was not told surely that a function began: %r", error)
            self._tell(kind, *what)

    def _packed(self, kind: str, what: Sequence[Any]) -> bytes:
        packed: bytes = msgpack.packb([self.name, kind, *what], unicode_errors="backslashreplace")
        return packed

    def _add(self, row: Row, nbytes: int = 0) -> None:
        with self._reporting:
            self._rows.append(row)
            self._nbytes += nbytes

    def report(self) -> None:
        """Tell what is done."""
        with self._reporting:
            rows, self._rows, self._nbytes = self._rows, [], 0
            if rows:
                self._tell("rows", rows)
        self._told = time.monotonic()

    def _look_later(self, place: int, log: Log) -> None:
        def look() -> None:
            if text := log.news():
                self._tell("wrote", place, text)

        self._worker.loop.call_later(LOG_S, look)
