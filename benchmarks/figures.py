"""What is measured: each figure by name, its unit, and how it is taken from an engine."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from engines.base import Ability, Engine, Settling
from workloads import (
    Graph,
    Vertex,
    chain,
    evaluate,
    fan_out,
    identity,
    layered,
    make_array,
    passing,
    sinks,
    sum_array,
    tree,
)

_WARM_PASSES = 3
_RUNS, _RUNS_S = 5, 1.0  # a graph is run so often, but not again once that took so many seconds


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of each work there is; figures are named after the defaults."""

    few: int = 2_000
    many: int = 10_000
    hops: int = 300
    layers: int = 20
    width: int = 50
    passed_nbytes: int = 100_000_000
    result_nbytes: int = 50_000_000


QUICK = Sizes(few=40, many=80, hops=10, layers=3, width=5, passed_nbytes=1_000_000, result_nbytes=1_000_000)


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    unit: str
    take: Callable[[Engine, Sizes], float]
    needs: Ability | None = None

    @property
    def more_is_better(self) -> bool:
        return self.unit.endswith("/s")

    def ratio(self, ours: float, peer: float) -> float:
        """How many times better ours is."""
        return ours / peer if self.more_is_better else peer / ours


def measure(engine: Engine, names: Sequence[str], sizes: Sizes) -> Iterator[tuple[str, float]]:
    """Take the named figures from an engine that is not started yet, in the table's order."""
    started = _start_up(engine, sizes)
    if START_UP in names:
        yield START_UP, started
    _warm_up(engine)
    for figure in FIGURES.values():
        if figure.name in names and figure.name != START_UP and (figure.needs is None or figure.needs in engine.can):
            yield figure.name, figure.take(engine, sizes)


def _start_up(engine: Engine, _: Sizes) -> float:
    """Seconds until two workers are there and a first function's result is here."""
    began = time.monotonic()
    engine.start()
    _run(engine, [Vertex(identity, extra=(1,))])
    return time.monotonic() - began


def _warm_up(engine: Engine) -> None:
    """Imports, connections and the engines' own caches are not what the figures are about."""
    if isinstance(engine, Settling):
        engine.settle()
    _run(engine, fan_out(100))
    _run(engine, chain(10))
    if Ability.PINS in engine.can:
        _run(engine, chain(10, alternate=True))


def _run(engine: Engine, graph: Graph) -> float:
    """Seconds from handing the graph over until all of it is known to be done; then its results are checked."""
    work = engine.build(graph)
    gc.collect()
    began = time.monotonic()
    work.run()
    took = time.monotonic() - began
    ends, expected = sinks(graph), evaluate(graph)
    if list(work.values(ends)) != [expected[i] for i in ends]:
        raise ValueError(f"{engine.name} gave wrong results")
    return took


def _rate(shape: Callable[[Sizes], Graph]) -> Callable[[Engine, Sizes], float]:
    """Functions per second; the median of some runs of graphs that take but a moment."""

    def take(engine: Engine, sizes: Sizes) -> float:
        graph = shape(sizes)
        took = [_run(engine, graph)]
        while len(took) < _RUNS and sum(took) < _RUNS_S:
            took.append(_run(engine, graph))
        return len(graph) / statistics.median(took)

    return take


def _hop(shape: Callable[[Sizes], Graph]) -> Callable[[Engine, Sizes], float]:
    """Milliseconds per function."""
    rate = _rate(shape)
    return lambda engine, sizes: 1e3 / rate(engine, sizes)


def _build(engine: Engine, sizes: Sizes) -> float:
    graph = fan_out(sizes.many)
    gc.collect()
    began = time.monotonic()
    work = engine.build(graph)
    took = time.monotonic() - began
    del work
    return len(graph) / took


def _pass_first(engine: Engine, sizes: Sizes) -> float:
    work = engine.build(passing(sizes.passed_nbytes))
    work.run()
    (elapsed,) = work.values([1])
    return sizes.passed_nbytes / float(elapsed) / 1e9


def _result_first(engine: Engine, sizes: Sizes) -> float:
    work = engine.build([Vertex(make_array, extra=(sizes.result_nbytes,))])
    work.run()
    (array,) = work.values([0])
    return sizes.result_nbytes / sum_array(array) / 1e9


def _warm(take: Callable[[Engine, Sizes], float]) -> Callable[[Engine, Sizes], float]:
    """The median of some, after one that doesn't count."""

    def again(engine: Engine, sizes: Sizes) -> float:
        take(engine, sizes)
        return statistics.median(take(engine, sizes) for _ in range(_WARM_PASSES))

    return again


START_UP = "start-up"

FIGURES: dict[str, Figure] = {
    figure.name: figure
    for figure in (
        Figure(START_UP, "s", _start_up),
        Figure("build-10k", "functions/s", _build, Ability.GRAPHS),
        Figure("fan-out-2k", "functions/s", _rate(lambda sizes: fan_out(sizes.few))),
        Figure("fan-out-2k-claims", "functions/s", _rate(lambda sizes: fan_out(sizes.few, claim=True)), Ability.CLAIMS),
        Figure("fan-out-10k", "functions/s", _rate(lambda sizes: fan_out(sizes.many))),
        Figure("chain-300", "ms/hop", _hop(lambda sizes: chain(sizes.hops))),
        Figure("chain-300-across", "ms/hop", _hop(lambda sizes: chain(sizes.hops, alternate=True)), Ability.PINS),
        Figure("layered-20x50", "functions/s", _rate(lambda sizes: layered(sizes.layers, sizes.width))),
        Figure("tree-10k", "functions/s", _rate(lambda sizes: tree(sizes.many))),
        Figure("pass-100mb-first", "GB/s", _pass_first),
        Figure("pass-100mb", "GB/s", _warm(_pass_first)),
        Figure("result-50mb-first", "GB/s", _result_first),
        Figure("result-50mb", "GB/s", _warm(_result_first)),
    )
}
