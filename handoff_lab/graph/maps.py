"""Maps, which are functions over many items, cut into chunks: ordinary functions that call them for some of the items.

The map itself becomes an inline function that joins the results of its chunks; where many take all of many chunks, a
function of its own, which does it once for them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, NoReturn, TypeAlias, TypeVar

from handoff_lab._errors import DuplicateFunctionError
from handoff_lab._items import Items, Joined
from handoff_lab.graph.dag import DAG
from handoff_lab.graph.functions import Function
from handoff_lab.resources import Resources
from handoff_lab.resources.amounts import SLACK

Sizes: TypeAlias = Callable[[Function], int]  # items of a chunk of a map that does not say itself
_T = TypeVar("_T")
Duration: TypeAlias = float | Mapping[str, float] | None  # seconds, or seconds by node

_CHUNK = re.compile(r"(?P<map>.*)\[(?P<low>\d+):(?P<high>\d+)\]", re.DOTALL)  # the id of one
_CHUNKS_PER_PLACE = 4  # so that those who are done early find more to do
_MOST_EDGES = 10_000  # from the chunks of one map to those who take it


def cut(dag: DAG, sizes: Sizes) -> DAG:
    """The DAG in which each map is cut into chunks; ``dag`` itself where it has no map.

    Examples
    --------
    >>> dag = DAG().add(Function("cubes", pow, over=range(5), extra_args=[3]), Function("sum", sum, ["cubes"]))
    >>> list(cut(dag, lambda function: 2))
    ['cubes[0:2]', 'cubes[2:4]', 'cubes[4:5]', 'cubes', 'sum']
    """
    functions = dag.functions.values()
    if all(function.over is None for function in functions):
        return dag
    made = list(chain.from_iterable(_cut(function, sizes) for function in functions))
    try:
        return DAG(dag.name).add(*_with_fewer_edges(made))
    except DuplicateFunctionError as error:
        raise DuplicateFunctionError(error.id, "a chunk of a map has that name") from None


def by_capacity(nodes: Callable[[], Mapping[str, Resources]]) -> Sizes:
    """About four chunks for each function of the map's cost that fits on the nodes at once."""

    @cache
    def places(cost: Resources, pinned: str | None) -> int:
        return sum(_places(cost, has) for name, has in nodes().items() if pinned in (None, name))

    def size(function: Function) -> int:
        assert function.over is not None
        pinned = function.node if isinstance(function.node, str) else None
        return math.ceil(len(function.over) / (_CHUNKS_PER_PLACE * max(1, places(function.cost, pinned)))) or 1

    return size


def as_before(dag: DAG, otherwise: Sizes) -> Sizes:
    """As the maps of the same length were cut in ``dag``, so that what their chunks gave can be taken over."""

    def size(function: Function) -> int:
        assert function.over is not None
        before = joined(dag, function.id)
        return before.chunksize if before and before.length == len(function.over) else otherwise(function)

    return size


def joined(dag: DAG, id: Hashable) -> Joined | None:
    """How a map was cut; None for what is no map of ``dag``, which is cut."""
    function = dag.functions.get(id)
    return function.code if function is not None and isinstance(function.code, Joined) else None


def ids(dag: DAG) -> list[Hashable]:
    """Ids of the maps of a DAG, which is cut."""
    return [id for id, function in dag.functions.items() if isinstance(function.code, Joined)]


def chunks(dag: DAG, id: Hashable) -> tuple[Hashable, ...]:
    """Ids of the chunks of a map, in order; of any other function its own."""
    return (id,) if joined(dag, id) is None else dag.functions[id].args


def expanded(dag: DAG, ids: Iterable[Hashable]) -> tuple[Hashable, ...]:
    """The ids, but for each map those of all functions that it has become."""
    found: list[Hashable] = []
    for id in ids:
        found += chunks(dag, id)
        if joined(dag, id) is not None and dag.functions[id].type != "inline":
            found.append(id)
    return tuple(found)


class ByFunction(dict[Hashable, _T]):
    """What is told of each function, by its id; who asks for a map is sent to its chunks."""

    def __init__(self, dag: DAG, told: Mapping[Hashable, _T]) -> None:
        super().__init__(told)
        self._dag = dag

    def __missing__(self, id: Hashable) -> NoReturn:
        if joined(self._dag, id) is None:
            raise KeyError(id)
        of = chunks(self._dag, id)
        found = f"from {of[0]!r} to {of[-1]!r}; run.dag[{id!r}].args names all" if of else "of which it has none"
        raise KeyError(f"{id!r} is a map, of which each chunk is told by itself: {len(of)}, {found}")

    def __reduce__(self) -> tuple[type[dict[Hashable, _T]], tuple[dict[Hashable, _T]]]:
        return dict, (dict(self),)


def told(durations: Mapping[Hashable, Duration]) -> Callable[[Function], Duration]:
    """How long each function takes: as told, else as it says itself; a map's duration is that of one item."""
    by_map = {str(id): duration for id, duration in durations.items()}

    def duration(function: Function) -> Duration:
        if function.id in durations:
            return durations[function.id]
        chunk = _CHUNK.fullmatch(function.id) if by_map and isinstance(function.id, str) else None
        if chunk is None or chunk["map"] not in by_map:
            return function.duration
        seconds: Duration = _times(by_map[chunk["map"]], int(chunk["high"]) - int(chunk["low"]))
        return seconds

    return duration


def _cut(function: Function, sizes: Sizes) -> Iterator[Function]:
    over = function.over
    if over is None or function.code is None:
        yield function
        return
    size = function.chunksize or sizes(function)
    length = len(over)
    code = Items(function.code, repr(function.id))
    group = function.group or str(function.id) or None
    model, last = (_chunk(function, code, group, count) for count in (size, length % size or size))
    made = []
    for low in range(0, length, size):
        high = min(low + size, length)
        made.append(f"{function.id}[{low}:{high}]")
        items = (*function.extra_args, over[low:high], low)
        yield (last if high == length else model).but(id=made[-1], extra_args=items)
    yield Function(function.id, Joined(length, size), made, type="inline", group=group)


def _chunk(function: Function, code: Items, group: str | None, count: int) -> Function:
    """What the chunks of so many items are made from."""
    return function.replace(
        code=code,
        args=function.given_args(),
        group=group,
        over=None,
        chunksize=None,
        timeout=_times(function.timeout, count),
        duration=_times(function.duration, count),
        output_size=_times(function.output_size, count),
    )


def _with_fewer_edges(functions: Sequence[Function]) -> list[Function]:
    """The functions, in topological order; maps with too many edges are joined by a function of its own."""
    takers: Counter[Hashable] = Counter()
    fewer: list[Function] = []
    for function in reversed(functions):
        count = takers[function.id]
        if isinstance(function.code, Joined) and count > 1 and count * len(function.args) > _MOST_EDGES:
            fewer.append(function.but(type="regular", duration=0.0))
        else:
            fewer.append(function)
        edges = count if fewer[-1].type == "inline" else 1
        takers.update(dict.fromkeys(function.dependencies, edges))
    return fewer[::-1]


def _places(cost: Resources, has: Resources) -> int:
    """How many functions of this cost a node runs at once; without a claim on cpu each takes one."""
    most = [has[name] / amount for name, amount in cost.items() if amount]
    if not cost["cpu"]:
        most.append(has["cpu"] or 1.0)
    return int(min(most) * SLACK)


def _times(amount: Any, count: int) -> Any:
    if isinstance(amount, Mapping):
        return {node: of_node * count for node, of_node in amount.items()}
    return None if amount is None else amount * count
