"""The table of ``docs/backends.md``: what each backend was seen to do by the conformance suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Rule: TypeAlias = tuple[str, str]  # a verb of a backend, and a sentence on it
Table: TypeAlias = dict[str, dict[Rule, str]]  # verdicts, by backend

_BEGIN, _END = "<!-- conformance -->\n", "<!-- /conformance -->\n"


def read_table(page: str) -> Table:
    r"""The table in a page.

    Examples
    --------
    >>> table = {"Dask": {("cancel", "what waits can be cancelled"): "yes"}}
    >>> read_table(with_table("<!-- conformance -->\n<!-- /conformance -->\n", table)) == table
    True
    """
    lines = page.partition(_BEGIN)[2].partition(_END)[0].splitlines()
    if not lines:
        return {}
    _, _, *backends = _cells(lines[0])
    table: Table = {backend: {} for backend in backends}
    for line in lines[2:]:
        verb, rule, *verdicts = _cells(line)
        for backend, verdict in zip(backends, verdicts, strict=True):
            table[backend][verb.strip("`"), rule] = verdict
    return table


def with_table(page: str, table: Mapping[str, Mapping[Rule, str]]) -> str:
    """The page with this table in place of the one that it has."""
    before, begin, rest = page.partition(_BEGIN)
    after = rest.partition(_END)[2]
    rules = sorted({rule for verdicts in table.values() for rule in verdicts})
    lines = [_line(["verb", "rule", *table]), _line(["---"] * (2 + len(table)))]
    for verb, rule in rules:
        lines.append(_line([f"`{verb}`", rule, *(verdicts.get((verb, rule), "") for verdicts in table.values())]))
    return before + begin + "".join(lines) + _END + after


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"
