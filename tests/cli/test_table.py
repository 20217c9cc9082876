"""Tables of text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from handoff_lab.cli.table import table

cells = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)


def test_numbers_stand_right_and_words_left() -> None:
    assert table(["name", "n"], [["a", 5], ["long name", 10]]) == "name        n\na           5\nlong name  10"


@given(st.lists(st.lists(cells, min_size=3, max_size=3)))
def test_every_cell_is_there_in_its_line(rows: list[list[str]]) -> None:
    lines = table(["x", "y", "z"], rows).splitlines()
    assert [line.split() for line in lines[1:]] == rows


def test_no_rows_leave_the_header() -> None:
    assert table(["node", "has"], []) == "node  has"
