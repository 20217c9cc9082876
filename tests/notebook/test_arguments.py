"""What the lines of the magics are read as."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.error import UsageError

from handoff_lab.notebook.arguments import CELL, COMMANDS, Parser, function_options, split_command
from handoff_lab.notebook.commands import _VERBS


def options(line: str) -> dict[str, object]:
    return function_options(CELL.read(line))


def test_no_flags_say_nothing():
    assert options("") == {}


def test_flags_become_options_of_functions():
    assert options("--cpu 2 --memory 2GiB --gpu 1 --resource fpga=2 --inline --cache") == {
        "cost": {"cpu": 2, "memory": 2147.483648, "gpu": 1, "fpga": 2},
        "type": "inline",
        "cache": True,
    }


def test_quotes_are_taken_off():
    assert options("""--node 'my box' --group "a b" """) == {"node": "my box", "group": "a b"}


def test_zero_is_a_number_too():
    assert options("--max-retries 0 --retry-delay 0") == {"max_retries": 0, "retry_delay": 0}


def test_memory_as_a_resource_takes_units():
    assert options("--resource memory=1GB") == {"cost": {"memory": 1000}}


@given(st.floats(min_value=0, max_value=1e9))
def test_numbers_are_read_back_as_they_are(value):
    assert options(f"--cpu {value!r}") == {"cost": {"cpu": value}}


@pytest.mark.parametrize("word", ["-1", "nan", "inf", "two", ""])
def test_what_is_no_amount_is_refused(word):
    with pytest.raises(UsageError, match="zero or more"):
        options(f"--cpu '{word}'")


def test_options_are_not_guessed_from_their_beginning():
    with pytest.raises(UsageError, match="it takes no '--me'"):
        options("--me 2")


def test_an_error_shows_the_usage():
    with pytest.raises(UsageError, match=r"(?s)%handoff logs: .*required.*\nusage: %handoff logs ID"):
        COMMANDS["logs"].read("")


def test_run():
    read = COMMANDS["run"].read("agg report --set xs='[1, 2]' --set k=v=w --on a b --allocator locality --wait -o r")
    assert (read.ids, read.inputs) == (["agg", "report"], [("xs", "[1, 2]"), ("k", "v=w")])
    assert (read.nodes, read.allocator, read.wait, read.variable) == (["a", "b"], "locality", True, "r")


def test_nodes_of_start():
    read = COMMANDS["start"].read("alpha:cpu=4,gpu=1 beta:memory=2GB")
    assert dict(read.nodes) == {"alpha": {"cpu": 4, "gpu": 1}, "beta": {"memory": 2000}}


def test_every_command_has_a_verb_and_every_verb_a_command():
    assert set(COMMANDS) == set(_VERBS)


def test_split_command():
    assert split_command("  run agg --wait ") == ("run", "agg --wait")
    with pytest.raises(UsageError, match="did you mean graph"):
        split_command("grahp")


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ([], "function"),
        (["agg"], "function"),
        (["--set"], "input"),
        (["--set", "x=1"], "function"),
        (["--on"], "node"),
        (["--on", "a"], "node"),
        (["--on", "a", "--wait"], "function"),
        (["-o"], ""),
        (["--allocator"], "allocator"),
    ],
)
def test_what_is_expected_next(words, kind):
    assert COMMANDS["run"].expected(words) == kind


def test_a_parser_without_positionals_expects_nothing():
    assert Parser("%x", "").takes("--node", completes="node").expected([]) == ""
