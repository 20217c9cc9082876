"""Reading and writing amounts: memory sizes in MB (10^6 bytes), costs as text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

_BYTES = {
    "": 10**6,
    "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
    "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12,
}  # fmt: skip
MEMORIES = frozenset({"memory", "gpu_memory"})  # resources of which amounts are MB
MOST_AMOUNT = 2**53  # up to there a float holds every whole number, and a message any
MOST_SECONDS = 10**9  # over 30 years
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)\s*([a-zA-Z]*)\s*")


def parse_megabytes(text: str) -> float:
    """Megabytes (10^6 bytes) that ``text`` says; a bare number is megabytes already.

    >>> parse_megabytes("500MB"), parse_megabytes("2GiB"), parse_megabytes("750")
    (500.0, 2147.483648, 750.0)
    """
    match = _AMOUNT.fullmatch(text)
    if match is None or match[2].lower() not in _BYTES:
        raise ValueError(f"{text!r} is not an amount of memory; write a number of MB, or '500MB', '2GiB'")
    return float(match[1]) * _BYTES[match[2].lower()] / 10**6


def parse_bytes(amount: int | str) -> int:
    """Bytes that ``amount`` says: a number of them, or text, in which a bare number is megabytes.

    >>> parse_bytes(1024), parse_bytes("2GB"), parse_bytes("1KiB")
    (1024, 2000000000, 1024)
    """
    if isinstance(amount, str):
        return round(parse_megabytes(amount) * 10**6)
    if type(amount) is not int or amount < 0:  # True is none
        raise ValueError(f"{amount!r} is not an amount of memory; write a whole number of bytes, or '500MB', '2GiB'")
    return amount


def is_seconds(value: object) -> bool:
    """Whether it is a time that can be waited for.

    >>> is_seconds(2.5), is_seconds("2"), is_seconds(math.inf)
    (True, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_SECONDS


def parse_number(text: str) -> float:
    """A number as people write one, whole where it is.

    >>> parse_number("4"), parse_number("0.5")
    (4, 0.5)
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"{text!r} is not a number, zero or more")
    return int(value) if value.is_integer() else value


def parse_amounts(text: str) -> dict[str, float]:
    """Amounts of resources by name; memory in MB.

    >>> parse_amounts("cpu=4, memory=8GB")
    {'cpu': 4, 'memory': 8000.0}
    """
    amounts = {}
    for part in text.split(","):
        name, _, value = (word.strip() for word in part.partition("="))
        if not (name and value):
            raise ValueError(f"{part.strip()!r} is not NAME=AMOUNT, such as cpu=4")
        amounts[name] = parse_megabytes(value) if name in MEMORIES else parse_number(value)
    return amounts


def format_bytes(nbytes: float) -> str:
    """``nbytes`` in the unit a person would use.

    >>> format_bytes(512), format_bytes(100_000_000)
    ('512 B', '100 MB')
    """
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if nbytes >= size:
            return f"{nbytes / size:.3g} {unit}"
    return f"{nbytes:.0f} B"


def format_cost(cost: Mapping[str, float]) -> str:
    """A cost as a person reads it.

    >>> format_cost({"cpu": 2, "memory": 4000.0})
    'cpu 2, memory 4000 MB'
    """
    if not cost:
        return "nothing"
    return ", ".join(f"{name} {format_amount(name, amount)}" for name, amount in cost.items())


def format_amount(resource: str, amount: float) -> str:
    """How much of one resource: memory in MB up to five digits, beyond that in the unit a person would use.

    >>> format_amount("memory", 64000), format_amount("memory", 1_099_512), format_amount("disk", 1_099_512)
    ('64000 MB', '1.1 TB', '1099512')
    """
    if resource in MEMORIES:
        return f"{amount:g} MB" if amount < 10**5 else format_bytes(amount * 10**6)
    return f"{amount:g}" if amount < 10**5 else f"{amount:.0f}"


def format_seconds(seconds: float) -> str:
    """A duration as a person reads it.

    >>> format_seconds(0.00032), format_seconds(4.2), format_seconds(190)
    ('0.32 ms', '4.20 s', '3 min 10 s')
    """
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
