"""Words of the command line."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff_lab.cli.options import node, setting

names = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
amounts = st.integers(0, 10**6)


@given(names, st.dictionaries(names, amounts, min_size=1))
def test_a_node_reads_as_it_was_written(name: str, capabilities: dict[str, int]) -> None:
    text = f"{name}:{','.join(f'{k}={v}' for k, v in capabilities.items())}"
    assert node(text) == (name, capabilities)


@pytest.mark.parametrize("text", ["", "alpha", "alpha:", ":cpu=1", "alpha:cpu", "alpha:cpu=1,", "alpha:=1"])
def test_a_node_without_what_it_has_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not NAME:cpu=4,gpu=1"):
        node(text)


@pytest.mark.parametrize("text", ["alpha:cpu=-1", "alpha:cpu=two", "alpha:memory=2 apples", "alpha:cpu=inf"])
def test_amounts_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        node(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("k=3", 3), ("k=[1, 2]", [1, 2]), ("k='3'", "3"), ("k=Oslo", "Oslo"), ("k=a=b", "a=b"), ("k=", "")],
)
def test_a_setting_is_a_literal_or_text(text: str, value: object) -> None:
    assert setting(text) == ("k", value)


@pytest.mark.parametrize("text", ["k", "=3"])
def test_a_setting_needs_a_name_and_a_value(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not NAME=VALUE"):
        setting(text)
