"""Amounts of named resources: what a function costs, what a node has, what is claimed of it."""

from __future__ import annotations

import math
from collections.abc import ItemsView, Iterator, Mapping
from functools import lru_cache
from numbers import Real
from typing import TypeVar, cast, overload

from handoff_lab._errors import ResourceError
from handoff_lab._names import name_fault, shown
from handoff_lab._units import MEMORIES, MOST_AMOUNT, format_cost, parse_megabytes

_T = TypeVar("_T")

# Amounts are whole billionths, so what was added and taken away again leaves exactly nothing;
# a fit allows a millionth more, so six claims of a sixth (0.166666667) fit one cpu.
_DIGITS = 9
SLACK = 1 + 1e-6
_GPU_MEMORY = "gpu_memory"


class Resources(Mapping[str, float]):
    """Non-negative amounts of named resources; never changes, can be a dict key.

    A resource that is not named is there zero times: ``r["gpu"]`` is 0.0, and
    naming a zero makes no difference to equality. ``memory`` and ``gpu_memory``
    are in MB.

    What a node has of ``gpu_memory`` is that of all its GPUs together; what a
    cost says of it must be there on one, taken as an equal share of the whole.

    Parameters
    ----------
    amounts
        Name to amount. Amounts of memory may be text, such as ``"2GiB"``.

    Raises
    ------
    ResourceError
        For an amount that is no non-negative finite number.

    Examples
    --------
    >>> node = Resources({"cpu": 4, "memory": "16GB"})
    >>> node - Resources({"cpu": 1})
    Resources({'cpu': 3, 'memory': 16000})
    >>> Resources({"cpu": 6, "gpu": 1}).shortfall(node)
    Resources({'cpu': 2, 'gpu': 1})
    """

    __slots__ = ("_amounts", "_hash")
    _amounts: dict[str, float]
    _hash: int | None

    def __init__(self, amounts: Mapping[str, object] | None = None) -> None:
        self._amounts = _checked(amounts)
        self._hash = None

    def __getitem__(self, name: str) -> float:
        return self._amounts.get(name, 0.0)

    def __iter__(self) -> Iterator[str]:
        return iter(self._amounts)

    def __len__(self) -> int:
        return len(self._amounts)

    def __contains__(self, name: object) -> bool:
        return name in self._amounts

    def items(self) -> ItemsView[str, float]:
        """As a dict does it."""
        return self._amounts.items()

    @overload
    def get(self, name: str, /) -> float | None: ...
    @overload
    def get(self, name: str, default: float | _T, /) -> float | _T: ...
    def get(self, name: str, default: object = None, /) -> object:
        """As a dict does it: ``default`` where the resource is not named."""
        return self._amounts.get(name, default)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        theirs = other._amounts if isinstance(other, Resources) else other
        mine = self._amounts
        return mine == theirs or all(mine.get(name, 0) == theirs.get(name, 0) for name in {*mine, *theirs})

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(item for item in self._amounts.items() if item[1]))
        return self._hash

    def __add__(self, other: Resources) -> Resources:
        total = self._amounts.copy()
        for name, amount in other._amounts.items():
            total[name] = _tidy(total.get(name, 0.0) + amount)
        return _make(total)

    def __sub__(self, other: Resources) -> Resources:
        """What is left: nothing of a resource of which more is taken than there is."""
        left = self._amounts.copy()
        for name, amount in other._amounts.items():
            if name in left:
                left[name] = max(0.0, _tidy(left[name] - amount))
        return _make(left)

    def scaled(self, factor: float) -> Resources:
        """Every amount ``factor`` times, ``factor`` being a non-negative number."""
        if not 0 <= factor < math.inf:
            raise ResourceError("factor", factor, "must be a finite number, zero or more")
        return _make({name: _tidy(amount * factor) for name, amount in self._amounts.items()})

    def fits_in(self, other: Resources) -> bool:
        """Whether ``other`` holds all of this."""
        there = other._amounts
        for name, amount in self._amounts.items():
            if not _enough(there.get(name, 0.0), amount):
                return False
        return _GPU_MEMORY not in self._amounts or _enough(_on_one_gpu(there), self._amounts[_GPU_MEMORY])

    def fits_beside(self, claimed: Resources, capabilities: Resources) -> bool:
        """Whether ``capabilities`` hold this on top of what is ``claimed`` of them already.

        Only what this names counts: memory that is overdrawn stops nobody who needs cpu alone.
        """
        there, taken = capabilities._amounts, claimed._amounts
        for name, amount in self._amounts.items():
            if amount and not _enough(there.get(name, 0.0), taken.get(name, 0.0) + amount):
                return False
        return True

    def shortfall(self, available: Resources) -> Resources:
        """How much ``available`` lacks to hold this; only what is lacking is named."""
        there = {**available._amounts, _GPU_MEMORY: _on_one_gpu(available._amounts)}
        return _make(
            {
                name: _tidy(amount - there.get(name, 0.0))
                for name, amount in self._amounts.items()
                if not _enough(there.get(name, 0.0), amount)
            }
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _make, (self._amounts,)

    def __repr__(self) -> str:
        shown = {name: int(amount) if amount.is_integer() else amount for name, amount in self._amounts.items()}
        return f"Resources({shown})"

    def __str__(self) -> str:
        return format_cost(self._amounts)


def parse_cost(cost: Mapping[str, object] | None) -> Resources:
    """What a function costs; zeros are dropped, ``None`` costs nothing.

    Raises
    ------
    ResourceError
        For an amount that is no non-negative finite number.

    Examples
    --------
    >>> parse_cost({"cpu": 2, "memory": "500MB", "gpu": 0})
    Resources({'cpu': 2, 'memory': 500})
    """
    if type(cost) is dict:  # thousands of functions say the same in dicts of their own: one object stands for all
        try:
            return _cost_of(tuple(cost), *cost.values())
        except TypeError:  # not hashable
            pass
    return _cost(cost)


@lru_cache(maxsize=1024, typed=True)  # typed: 1 is an amount, True is none
def _cost_of(names: tuple[str, ...], *amounts: object) -> Resources:
    return _cost(dict(zip(names, amounts, strict=True)))


def _cost(cost: Mapping[str, object] | None) -> Resources:
    return _make({name: amount for name, amount in _checked(cost, "cost").items() if amount})


def parse_capabilities(capabilities: Mapping[str, object] | None) -> Resources:
    """What a node has; zeros are kept, for a node may say that it has no gpu.

    Raises
    ------
    ResourceError
        For an amount that is no non-negative finite number.
    """
    return _make(_checked(capabilities, "mapping of capabilities"))


def _make(amounts: dict[str, float]) -> Resources:
    """Resources of amounts known to be right."""
    made = Resources.__new__(Resources)
    made._amounts = amounts
    made._hash = None
    return made


def _checked(amounts: Mapping[str, object] | None, what: str = "mapping of resources") -> dict[str, float]:
    if amounts is None:
        return {}
    if isinstance(amounts, Resources):
        return amounts._amounts
    if not isinstance(amounts, Mapping):
        reason = f"{shown(amounts)} is no {what}; write a mapping such as {{'cpu': 2, 'memory': '500MB'}}"
        raise ResourceError(None, amounts, reason)
    return {_name(name): _amount(name, value) for name, value in amounts.items()}


def _name(name: object) -> str:
    if fault := name_fault(name, "resource"):
        raise ResourceError(None, name, fault)
    return cast(str, name)


def _amount(name: str, value: object) -> float:
    number = value
    if isinstance(value, str):
        if name not in MEMORIES:
            raise ResourceError(name, value, "is text; write a number (only memory and gpu_memory take units)")
        try:
            number = parse_megabytes(value)
        except ValueError as error:
            raise ResourceError(name, value, "is no amount of memory; write MB as a number, or '2GiB'") from error
    if isinstance(number, bool) or not isinstance(number, Real):
        raise ResourceError(name, value, "must be a number")
    try:
        amount = float(number)
    except OverflowError:
        amount = math.inf
    if not 0 <= amount <= MOST_AMOUNT:
        raise ResourceError(name, value, f"must be a finite number, zero or more, and at most {MOST_AMOUNT:.1g}")
    return _tidy(amount)


def _tidy(amount: float) -> float:
    return amount if amount.is_integer() else round(amount, _DIGITS)


def _on_one_gpu(amounts: Mapping[str, float]) -> float:
    return amounts.get(_GPU_MEMORY, 0.0) / max(1.0, amounts.get("gpu", 0.0))


def _enough(available: float, amount: float) -> bool:
    return amount <= available * SLACK
