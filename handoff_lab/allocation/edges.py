"""What passes between functions, and how large it is as far as anyone said."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeAlias

from handoff_lab.graph import Argument, Function

Sizes: TypeAlias = Mapping[Hashable, Mapping[Hashable, float | None]]  # by consumer, then by producer; None: not known


def input_sizes(functions: Sequence[Function]) -> Sizes:
    """Bytes of each input that one of ``functions`` takes from another: those of its argument, else of the result."""
    made = {function.id: function.output_size for function in functions}
    return {function.id: _inputs(function, made) for function in functions if function.args}


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
