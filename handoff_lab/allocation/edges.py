"""What passes between functions, and how large it is as far as anyone said."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from itertools import chain
from typing import TypeAlias

from handoff_lab.graph import Argument, Function

Sizes: TypeAlias = Mapping[Hashable, Mapping[Hashable, float | None]]  # by consumer, then by producer; None: not known


def input_sizes(functions: Sequence[Function]) -> Sizes:
    """Bytes of each input that one of ``functions`` takes from another: those of its argument, else of the result."""
    made = {function.id: function.output_size for function in functions}
    return {function.id: _inputs(function, made) for function in functions if function.args}


def nothing_said(functions: Sequence[Function]) -> bool:
    """Whether it is plain at a glance that no size is known: args are mere ids, and no result has a size."""
    if any(function.output_size is not None for function in functions):
        return False
    return Argument not in map(type, chain.from_iterable(function.args for function in functions))


def any_known(sizes: Sizes) -> bool:
    """Whether the size of any input is known."""
    return any({*inputs.values()} != {None} for inputs in sizes.values() if inputs)


def edges(function: Function) -> list[tuple[Hashable, float | None]]:
    """Producer of each of the function's args, and the bytes that the argument says."""
    return [(arg.id, arg.nbytes) if isinstance(arg, Argument) else (arg, None) for arg in function.args]


def _inputs(function: Function, made: Mapping[Hashable, float | None]) -> dict[Hashable, float | None]:
    if Argument not in map(type, function.args):
        return {id: made[id] for id in function.args if id in made}
    return {id: made[id] if nbytes is None else nbytes for id, nbytes in edges(function) if id in made}


class Edges:
    """Edges between functions by their number, where args are mere ids, and the longest way to each."""

    __slots__ = ("depth", "inputs", "outputs")

    def __init__(self, functions: Sequence[Function]) -> None:
        number = {function.id: i for i, function in enumerate(functions)}
        inputs: list[Collection[int]] = [()] * len(functions)
        outputs: list[list[int]] = [[] for _ in functions]
        depth = [0] * len(functions)
        depth_of = depth.__getitem__
        for i, function in enumerate(functions):
            if function.args:
                inputs[i] = producers = {number[id] for id in function.args if id in number}
                depth[i] = 1 + max(map(depth_of, producers), default=-1)
                for producer in producers:
                    outputs[producer].append(i)
        self.inputs, self.outputs, self.depth = inputs, outputs, depth
