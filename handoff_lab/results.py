"""The results of a run: values that are fetched when they are read, and freed when nobody reads them any more."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, overload

from handoff_lab._errors import ResultUnavailableError
from handoff_lab._items import Joined
from handoff_lab._units import format_bytes
from handoff_lab.coordinator.state import RunState
from handoff_lab.graph import maps
from handoff_lab.messages import Failure
from handoff_lab.telemetry.record import HAS_RESULT

if TYPE_CHECKING:
    from handoff_lab.coordinator.verbs import Verbs
    from handoff_lab.store import ResultStore
    from handoff_lab.store.payload import Payload


class Results(Mapping[Hashable, Any]):
    """Results by function id; a value is fetched when it is read, and kept for the next time.

    That of a map is a `MapResults` once all its chunks are there; each chunk is there under its own id, too.
    When this is garbage, the results are freed wherever they lie.
    """

    def __init__(self, state: RunState, coordinator: Verbs, store: ResultStore | None, before: Results | None) -> None:
        self._state = state
        self._coordinator = coordinator
        self._store = store
        self._before = before  # keeps the results that the run took over
        self._values: dict[Hashable, Any] = {}
        self._latest: dict[Hashable, tuple[Hashable, Sequence[Any]]] = {}  # by map: the chunk that was read last
        if store is not None:
            state.publish = partial(_publish, state, coordinator, store)
            state.withdraw = partial(_withdraw, state, store)
        weakref.finalize(self, coordinator.forget, state.id).atexit = False

    def __getitem__(self, id: Hashable) -> Any:
        if id in self._values:
            return self._values[id]
        joined = maps.joined(self._state.dag, id)
        if joined is not None:
            return MapResults(self, id, self._made(maps.chunks(self._state.dag, id)), joined)
        if self._is_stored(id):
            return self.read(id)
        self._values[id] = self.read(id)
        return self._values[id]

    def read(self, id: Hashable) -> Any:
        """The value of a function that is no map, not kept for the next time."""
        if id in self._values:
            return self._values[id]
        if self._store is not None and self._is_stored(id):
            return self._store.get((self._state.id, id))
        self._made([id])
        return _payload(self._coordinator, self._state, id, self.index(id)).load()

    def chunk(self, map: Hashable, id: Hashable) -> Sequence[Any]:
        """The value of a chunk of a map; of each map, the latest is kept."""
        kept, values = self._latest.get(map, (None, ()))
        if kept != id:
            values = self.read(id)
            self._latest[map] = id, values
        return values

    def _is_stored(self, id: Hashable) -> bool:
        return self._store is not None and (self._state.id, id) in self._store

    def _made(self, ids: Sequence[Hashable]) -> Sequence[Hashable]:
        """The ids, if there is a result of each."""
        for id in ids:
            record = self._state.record.functions.get(id)
            if record is None:
                self.index(id)
            elif record.status not in HAS_RESULT:
                raise ResultUnavailableError(id, f"it is {record.status}; see run.errors and run.wait()")
        return ids

    def peek(self, id: Hashable, timeout: float, most: int) -> Any:
        """The value of a function or an input, fetched if need be and not kept for the next time.

        Raises
        ------
        ResultUnavailableError
            It is not there, has more than ``most`` bytes, or did not come within ``timeout`` seconds.
        """
        if id in self._values:
            return self._values[id]
        payload = _payload(self._coordinator, self._state, id, self.index(id), timeout)
        if payload.nbytes > most:
            raise ResultUnavailableError(id, f"it is large: {format_bytes(payload.nbytes)}")
        return payload.load()

    def nbytes(self, id: Hashable) -> int | None:
        """Bytes of a result, where they are known; those of one that was taken over from the run that made it."""
        record = self._state.record.functions.get(id)
        if record is not None and record.nbytes is not None:
            return record.nbytes
        return None if self._before is None else self._before.nbytes(id)

    def __iter__(self) -> Iterator[Hashable]:
        for id, status in self._state.record.functions.statuses():
            if status in HAS_RESULT and id not in self._maps:
                yield id
        yield from filter(self.__contains__, self._maps)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @cached_property
    def _maps(self) -> dict[Hashable, None]:
        """Ids of the maps, in order."""
        return dict.fromkeys(maps.ids(self._state.dag))

    def __contains__(self, id: object) -> bool:
        if maps.joined(self._state.dag, id) is not None:
            return all(chunk in self for chunk in maps.chunks(self._state.dag, id))
        record = self._state.record.functions.get(id)
        return record is not None and record.status in HAS_RESULT

    def __repr__(self) -> str:
        return f"<results of {', '.join(map(repr, self))}>" if len(self) < 20 else f"<{len(self)} results>"

    def wait(self, id: Hashable, timeout: float) -> bool:
        """Wait until there is a result of ``id``, or there will be none; whether there is one."""
        self._state.wait_for(lambda: id in self, timeout)
        return id in self

    def keep(self) -> None:
        """Fetch every result now, so that it outlives the cluster."""
        for id in self:
            self[id]

    def index(self, id: Hashable) -> int:
        """The number of a function in the run's program."""
        index = self._state.program.index.get(id)
        if index is not None:
            return index
        function = self._state.dag.functions.get(id)
        if function is None:
            raise ResultUnavailableError(id, f"the DAG {self._state.dag.name!r} has no such function")
        if function.type == "inline":
            raise ResultUnavailableError(id, "it is inline: evaluated inside the functions that use it")
        raise ResultUnavailableError(id, "no target of this run needed it")


class MapResults(Sequence[Any]):
    """What a map gave for each item; a chunk is fetched when an item of it is read, and the latest is kept.

    It equals a list of the same values, and is one when it is pickled or sent to another function.
    """

    def __init__(self, results: Results, id: Hashable, chunks: Sequence[Hashable], joined: Joined) -> None:
        self._results = results
        self._id = id
        self._chunks = chunks
        self._length = joined.length
        self._chunksize = joined.chunksize

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._length))]
        at = operator.index(index)
        if not -self._length <= at < self._length:
            raise IndexError(f"{self._id!r} has {self._length} results, and none at {at}")
        number, place = divmod(at % self._length, self._chunksize)
        return self._results.chunk(self._id, self._chunks[number])[place]

    def __iter__(self) -> Iterator[Any]:
        for chunk in self._chunks:
            yield from self._results.chunk(self._id, chunk)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | MapResults):
            return NotImplemented
        return len(self) == len(other) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as a list

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        return list, (list(self),)

    def __repr__(self) -> str:
        return f"<{self._length} results of {self._id!r}>"


def _payload(coordinator: Verbs, state: RunState, id: Hashable, index: int, timeout: float | None = None) -> Payload:
    if coordinator.closed:
        raise ResultUnavailableError(id, "it stayed on its node, and the cluster is closed; read results before that")
    try:
        payload = coordinator.fetch(state.id, index).result(timeout)
    except TimeoutError:
        raise ResultUnavailableError(id, f"it did not come within {timeout:g} s; its node is busy") from None
    if isinstance(payload, Failure):
        hint = "" if state.end is None else f"; run.rerun({id!r}) makes it again"
        raise ResultUnavailableError(id, payload.message + hint)
    return payload


def _publish(state: RunState, coordinator: Verbs, store: ResultStore, id: Hashable) -> None:
    store.put((state.id, id), _payload(coordinator, state, id, state.program.index[id]).load())


def _withdraw(state: RunState, store: ResultStore) -> None:
    for id in state.record.functions:
        if (state.id, id) in store:
            store.delete((state.id, id))
