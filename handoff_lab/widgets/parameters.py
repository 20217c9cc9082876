"""Which parameter of a function's code takes which of its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from handoff_lab._items import Items
from handoff_lab.graph import Function
from handoff_lab.graph.functions import Sliceable


def called(function: Function) -> tuple[Any, Sliceable | None, Sequence[Any]]:
    """Code, the items for which it is called (None: once, for none), and the constants that it takes."""
    if isinstance(function.code, Items):
        *extra, items, _ = function.extra_args
        return function.code.__wrapped__, items, extra
    return function.code, function.over, function.extra_args


def signature_of(function: Function) -> Sequence[inspect.Parameter]:
    """The parameters of what is called, with annotations as types where they can be evaluated; none if unknown."""
    code, _, _ = called(function)
    if code is None:
        return ()
    for evaluate in (True, False):
        try:
            return list(inspect.signature(code, eval_str=evaluate).parameters.values())
        except Exception:  # noqa: S112 (annotations may name anything)
            continue
    return ()


def parameters_of(function: Function) -> list[str]:
    """The parameter of each argument, then of each extra one; "" where that is not known."""
    found = signature_of(function)
    _, items, extra_args = called(function)
    led = function.init is not None or items is not None
    names = [p.name for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][led:]
    rest = next((f"*{p.name}" for p in found if p.kind is p.VAR_POSITIONAL), "")
    slots = [] if function.parameters is not None else _slots(function)
    first = max(slots, default=-1) + 1
    extra = range(first, first + len(extra_args))
    by_position = [names[slot] if slot < len(names) else rest for slot in (*slots, *extra)]
    return [*(function.parameters or ()), *by_position]


def _slots(function: Function) -> list[int]:
    """The position at which each argument is handed over; those that form a list share one."""
    slots: list[int] = []
    listed: int | None = None
    free = 0
    for argument in function.arguments:
        if "as_list" not in (function.argument_inclusion, argument.argument_inclusion):
            slots.append(free)
        elif listed is not None:
            slots.append(listed)
            continue
        else:
            slots.append(free)
            listed = free
        free += 1
    return slots
