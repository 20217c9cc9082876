"""Random DAGs of everything that a DAG may have, and what they must give: computed here, one function after the other.

>>> dag = random_dag(random.Random(1), 50, pins=["alpha"])
>>> sorted(serial_results(dag)) == sorted(id for id, function in dag.functions.items() if function.type == "regular")
True
"""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Hashable, Sequence
from typing import Any

from handoff_lab.graph import DAG, Argument, Function, collocated

NEAR = 60  # a function takes its inputs from so many before it
LARGE = 200_000  # bytes of some results: too many to travel within messages


def random_dag(
    rng: random.Random, size: int, *, pins: Sequence[str] = (), seconds: float = 0.0, name: str = "random"
) -> DAG:
    """A DAG of ``size`` functions: some inline, pinned, collocated, with serializers, with large results.

    Parameters
    ----------
    pins
        Nodes to which some functions are pinned.
    seconds
        How long a function takes at most.
    """
    dag = DAG(name)
    regular: list[int] = []
    functions: dict[int, Function] = {}
    for i in range(size):
        above = rng.sample(range(max(0, i - NEAR), i), k=min(i, rng.choice((0, 1, 1, 2, 2, 3))))
        if above and rng.random() < 0.1:
            functions[i] = Function(i, small, above, extra_args=[i, 0.0], type="inline")
            continue
        args = [_argument(rng, functions[producer]) for producer in above]
        code = large if rng.random() < 0.03 else small
        extra = [i, rng.uniform(0, seconds)]
        functions[i] = Function(i, code, args, extra_args=extra, **_where(rng, functions, regular, pins))
        regular.append(i)
    return dag.add(*functions.values())


def collected(dag: DAG, together: int = 100) -> DAG:
    """The DAG with one function more, ``"total"``, whose result depends on each result of the others."""
    ids = [id for id, function in dag.functions.items() if function.type == "regular"]
    parts = [("part", at) for at in range(0, len(ids), together)]
    for part in parts:
        dag.add(Function(part, small, ids[part[1] : part[1] + together], extra_args=[0, 0.0]))
    return dag.add(Function("total", small, parts, extra_args=[0, 0.0]))


def _argument(rng: random.Random, producer: Function) -> Hashable:
    serialized = producer.type == "regular" and rng.random() < 0.1
    if serialized:
        return Argument(producer.id, serialize=wrap, deserialize=unwrap)
    return Argument(producer.id, argument_inclusion="as_list") if rng.random() < 0.1 else producer.id


def _where(
    rng: random.Random, functions: dict[int, Function], regular: Sequence[int], pins: Sequence[str]
) -> dict[str, Any]:
    chance = rng.random()
    if chance < 0.1 and pins:
        return {"node": rng.choice(pins), "cost": rng.choice((None, {"cpu": 1}))}
    near = [i for i in regular[-NEAR:] if functions[i].node is None]
    if chance < 0.2 and near:
        return {"node": collocated(rng.choice(near))}
    return {"cost": rng.choice((None, None, {"cpu": 1}, {"cpu": 0.5}))}


def small(*values: Any) -> int:
    """A number that depends on all that it is given; the last two are the function's own, and seconds to wait."""
    *inputs, number, seconds = values
    if seconds:
        time.sleep(seconds)
    return _digest([*inputs, number])


def large(*values: Any) -> bytes:
    """The same as bytes, and many."""
    return small(*values).to_bytes(8, "little") * (LARGE // 8)


def _digest(values: Sequence[Any]) -> int:
    digest = 0
    for value in values:
        inner = _digest(value) if isinstance(value, list) else value
        digest = zlib.crc32(inner if isinstance(inner, bytes) else str(inner).encode(), digest)
    return digest


def wrap(value: Any, source: str, target: str) -> tuple[str, Any]:
    """A serializer."""
    return "wrapped", value


def unwrap(value: tuple[str, Any], source: str, target: str) -> Any:
    """Its counterpart."""
    mark, inner = value
    if mark != "wrapped":
        raise ValueError(f"{mark!r} was never wrapped")
    return inner


def serial_results(dag: DAG) -> dict[Hashable, Any]:
    """The results of a random DAG's regular functions, without engine, nodes or waiting."""
    values: dict[Hashable, Any] = {}
    for id, function in dag.functions.items():  # in topological order
        given: list[Any] = []
        gathered: list[Any] | None = None
        for argument in function.arguments:
            if argument.argument_inclusion == "variadic":
                given.append(values[argument.id])
            elif gathered is None:
                gathered = [values[argument.id]]
                given.append(gathered)
            else:
                gathered.append(values[argument.id])
        assert function.code is not None
        values[id] = function.code(*given, function.extra_args[0], 0.0)
    return {id: value for id, value in values.items() if dag[id].type == "regular"}
