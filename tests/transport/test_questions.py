"""What crosses between readers and holders: it comes back as it went, and nothing else gets through."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff_lab.messages import AttemptId
from handoff_lab.transport.questions import (
    Chunk,
    LargeAnswer,
    Request,
    SmallAnswers,
    new_number,
    read_answer,
    read_chunk,
    read_chunk_head,
    read_request,
)
from handoff_lab.transport.wire import WireError

KEYS = st.builds(AttemptId, st.text(), st.integers(0, 2**31), st.integers(0, 2**31))
SIZES = st.lists(st.integers(0, 2**40), min_size=1).filter(any)
PARTS = st.lists(st.binary(max_size=20), min_size=1, max_size=3).map(tuple)


@given(st.integers(0, 2**63), st.lists(st.text()), st.lists(KEYS))
def test_requests_come_back(first: int, address: list[str], keys: list[AttemptId]) -> None:
    request = Request(first, address, keys)
    assert read_request(request.pack()) == request


@given(st.builds(Chunk, *[st.integers(0, 2**40)] * 4, KEYS))
def test_chunks_come_back(chunk: Chunk) -> None:
    assert read_chunk(chunk.pack()) == chunk
    assert read_chunk_head(chunk.pack_head()) == (chunk.number, chunk.part, chunk.offset)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.none() | PARTS)))
def test_small_answers_come_back(answers: list[tuple[int, Any]]) -> None:
    answer = SmallAnswers([number for number, _ in answers], [parts for _, parts in answers])
    assert read_answer(answer.pack()) == answer


@given(st.integers(0, 2**64 - 1), st.none() | SIZES, st.none() | st.text())
def test_heads_of_large_answers_come_back(number: int, sizes: list[int] | None, endpoint: str | None) -> None:
    assert read_answer(LargeAnswer(number, sizes, endpoint).pack()) == LargeAnswer(number, sizes, endpoint)


@pytest.mark.parametrize(
    "answer",
    [
        None, [], [1], [1, 2], [1, None, 3], ["a", None], [[1], None], [[1], []], [["a"], [b"x"]], [[1], ["text"]],
        [[1], [[]]], [[1], [[b"x", 1]]], [1, [-1]], [1, ["a"]], [True, None], [1, []], [1, [0]], [1, [], "tcp://a"],
        [1, [0, 0], "tcp://a"],
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused(answer: Any) -> None:
    with pytest.raises(WireError):
        read_answer(msgpack.packb(answer))


@pytest.mark.parametrize(
    "request_",
    [
        None,
        [],
        ["a", [], []],
        [1, None, []],
        [1, [2], []],
        [1, [], [1]],
        [1, [], [["run", 1]]],
        [-1, [], []],
        [2**64 - 1, [], [["run", 1, 1], ["run", 2, 1]]],
    ],
)
def test_what_is_no_request_is_refused(request_: Any) -> None:
    with pytest.raises(WireError):
        read_request(msgpack.packb(request_))


@given(st.binary(max_size=30))
def test_noise_is_refused_or_read_but_nothing_else_happens(noise: bytes) -> None:
    for read in (read_answer, read_request, read_chunk, read_chunk_head):
        try:
            read(noise)
        except WireError:
            pass


def test_numbers_cannot_be_guessed() -> None:
    assert len({new_number() for _ in range(100)}) == 100
    assert max(new_number() for _ in range(100)) > 2**50
