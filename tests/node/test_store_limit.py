"""How much a node's store holds: what it was told, or a share of its memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from handoff_lab.node.options import NodeOptions, parse_options
from handoff_lab.node.report import STORE_SHARE, store_limit_of
from handoff_lab.resources.probe import probe_memory
from handoff_lab.store.segments import KEPT_BYTES

OPTIONS = NodeOptions(Path("join"), "alpha")


@pytest.mark.parametrize(("text", "nbytes"), [("2GB", 2 * 10**9), ("1KiB", 1024), ("80", 80_000_000)])
def test_an_amount_is_read(text: str, nbytes: int) -> None:
    assert parse_options(["--join", "F", "--store-limit", text]).store_limit == nbytes


def test_it_survives_the_command_line() -> None:
    options = NodeOptions(Path("join"), "alpha", store_limit=123_456_789)
    assert parse_options(options.command_line()) == options


def test_nonsense_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_options(["--join", "F", "--store-limit", "much"])
    assert "not an amount of memory" in capsys.readouterr().err


def test_without_a_word_it_is_a_share_of_the_memory() -> None:
    assert store_limit_of(OPTIONS, {"cpu": 1, "memory": 10_000}) == STORE_SHARE * 10**10 - KEPT_BYTES
    assert store_limit_of(OPTIONS, {"cpu": 1}) == int(STORE_SHARE * probe_memory()) - KEPT_BYTES
    assert store_limit_of(OPTIONS, {"memory": 10**9}) == store_limit_of(OPTIONS, {"cpu": 1})


def test_what_slots_keep_is_set_aside_up_to_half() -> None:
    options = NodeOptions(Path("join"), "alpha", store_limit=2 * 10**9)
    assert store_limit_of(options, {"cpu": 2}) == 2 * 10**9 - 2 * KEPT_BYTES
    assert store_limit_of(options, {"cpu": 64}) == 10**9
