"""Whatever comes in from outside is read or refused: nothing else is raised, and nothing hangs."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.safety.decoders import DECODERS
from tests.safety.fuzz import CORPUS, CORPUS_BYTES, read_corpus

names = st.sampled_from(sorted(DECODERS))


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What is dropped is logged: thousands of lines here."""
    caplog.set_level(logging.CRITICAL)


@pytest.mark.parametrize("name", DECODERS)
def test_good_inputs_are_read(name: str) -> None:
    decoder = DECODERS[name]
    for seed in decoder.seeds:
        assert decoder(decoder.frame(seed))


@given(names, st.binary(max_size=80))
@settings(max_examples=2000)
def test_good_inputs_with_changes_are_read_or_refused(name: str, data: bytes) -> None:
    decoder = DECODERS[name]
    decoder(decoder.make(data))


@given(names, st.binary(max_size=300))
@example("log_lines", b"[" * 100_000)
@example("join_file", b"[" * 100_000)
@example("from_node", b"\x91" * 100_000)
@example("answer", b"\x81\xa1a" * 100_000)
@settings(max_examples=500)
def test_noise_is_read_or_refused(name: str, noise: bytes) -> None:
    decoder = DECODERS[name]
    decoder(noise)
    decoder(decoder.frame(noise))


def test_what_the_fuzzer_found_is_read_or_refused() -> None:
    found = read_corpus()
    for name, data in found:
        decoder = DECODERS[name]
        decoder(decoder.make(data))
    assert {name for name, _ in found} == DECODERS.keys()
    assert CORPUS.stat().st_size <= CORPUS_BYTES


@pytest.mark.real
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_the_fuzzer_runs() -> None:
    command = [sys.executable, "-m", "tests.safety.fuzz", "--fuzz", "-runs=500", "-max_len=40"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "500 inputs, " in done.stdout
