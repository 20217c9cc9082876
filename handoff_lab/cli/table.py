"""Tables of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns under a header; columns of numbers, with units or not, stand right.

    Examples
    --------
    >>> print(table(["node", "time"], [["alpha", "9 ms"], ["beta", "12 ms"]]))
    node    time
    alpha   9 ms
    beta   12 ms
    """
    lines = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [all(_is_number(cell) for cell in column[1:]) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _is_number(cell: str) -> bool:
    return not cell or cell == "-" or cell[0].isdigit()
