import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff_lab.messages import (
    Attempt,
    AttemptId,
    Cancelled,
    Failed,
    Failure,
    FailureKind,
    Finished,
    FinishedMany,
    GpuLoad,
    GpuUse,
    NodeChanged,
    NodeLoad,
    ResultLost,
    Source,
    Started,
    Transferred,
    TransferredMany,
    Wrote,
)
from handoff_lab.transport.rows import attempt_row, event_row, read_attempts, read_events
from handoff_lab.transport.wire import FROM_NODE, TO_NODE, WireError, pack, unpack

ids = st.builds(AttemptId, st.text(max_size=5), st.integers(0, 2**31), st.integers(0, 99))
numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**40)
frames = st.none() | st.lists(st.binary(max_size=20), min_size=1, max_size=3).map(tuple)
amounts = st.dictionaries(st.text(max_size=5), numbers, max_size=3)
seconds = st.none() | numbers
failures = st.builds(
    Failure,
    st.sampled_from(FailureKind),
    st.text(),
    st.text(),
    st.text(),
    st.none() | st.binary(),
    st.booleans(),
    st.text(),
)
gpu_uses = st.builds(GpuUse, ids, seconds, st.none() | counts)
gpu_loads = st.builds(GpuLoad, st.text(), seconds, counts, counts, st.lists(gpu_uses, max_size=2).map(tuple))
events = st.one_of(
    st.builds(Started, ids, numbers, counts),
    st.builds(Finished, ids, numbers, numbers, counts, frames, counts, st.none() | counts, st.text()),
    st.builds(Failed, ids, failures, seconds, seconds, counts, st.none() | counts, st.text()),
    st.builds(Cancelled, ids, seconds, seconds, st.text()),
    st.builds(Transferred, ids, st.text(), st.text(), counts, numbers, numbers),
    st.builds(Wrote, ids, st.text()),
    st.builds(NodeChanged, st.text(), amounts, counts),
    st.builds(NodeLoad, st.text(), numbers, counts, st.lists(gpu_loads, max_size=2).map(tuple)),
    st.builds(ResultLost, ids, st.text()),
)


@st.composite
def columns(draw: st.DrawFn) -> FinishedMany | TransferredMany:
    count = draw(st.integers(1, 4))

    def column(values: st.SearchStrategy) -> list:
        return draw(st.lists(values, min_size=count, max_size=count))

    small, run = st.integers(0, 2**31), draw(st.text(max_size=5))
    if draw(st.booleans()):
        return TransferredMany(
            run, draw(st.text(max_size=5)), column(small), column(small), column(st.text(max_size=5)), column(counts),
            column(numbers), column(numbers),
        )  # fmt: skip
    return FinishedMany(
        run, column(small), column(small), column(numbers), column(numbers), column(counts), column(frames),
        column(small), column(st.none() | counts), column(st.text(max_size=5)),
    )  # fmt: skip


events |= columns()
sources = st.builds(Source, ids, st.text(max_size=5), frames)
texts = st.lists(st.text(max_size=5), max_size=3).map(tuple)
attempts = st.builds(
    Attempt,
    id=ids,
    node=st.just("alpha"),
    label=st.text(max_size=5),
    codes=texts,
    inputs=st.lists(sources, max_size=3).map(tuple),
    recipe=st.none() | st.binary(),
    cost=amounts,
    priority=numbers,
    runs_in=st.sampled_from(["process", "kernel"]),
    timeout_s=seconds,
    retry_on=st.none() | st.text(max_size=5),
    setup=texts,
    granted=st.booleans(),
)


@given(st.lists(events, max_size=5))
def test_events_come_back(given_events: list) -> None:
    data = pack("events", [event_row(event) for event in given_events])
    _, (rows,) = unpack(data, FROM_NODE)
    assert read_events(rows) == given_events


@given(st.lists(attempts, max_size=3))
def test_attempts_come_back_for_their_node(given_attempts: list[Attempt]) -> None:
    data = pack("submit", [attempt_row(attempt, attempt.inputs, attempt.recipe) for attempt in given_attempts])
    _, (rows,) = unpack(data, TO_NODE)
    assert read_attempts(rows, "alpha") == given_attempts


wrong = st.none() | st.booleans() | st.integers(-9, -1) | st.text() | st.binary() | st.lists(st.integers(), max_size=2)


@given(st.data(), events)
def test_a_row_with_a_wrong_field_is_refused_or_read_as_it_is(data, event: object) -> None:
    row = msgpack.unpackb(pack("events", event_row(event)))[1]
    at = data.draw(st.integers(0, len(row) - 1))
    row[at] = data.draw(wrong | st.just(float("nan")) | st.just({"a": None}))
    try:
        (read,) = read_events([row])
    except WireError:
        return
    assert list(msgpack.unpackb(pack("events", event_row(read)))[1]) == row


@given(st.recursive(wrong, lambda inner: st.lists(inner, max_size=6), max_leaves=12))
def test_noise_raises_nothing_but_a_wire_error(rows: object) -> None:
    for read in (read_events, lambda rows: read_attempts(rows, "alpha")):
        try:
            assert read(rows) == []
        except WireError:
            pass


@pytest.mark.parametrize("number", [-1, 99, True, "0", None])
def test_an_unknown_class_is_refused(number: object) -> None:
    with pytest.raises(WireError):
        read_events([[number, ["run", 0, 1], 0.0, 0]])


@given(columns(), st.data())
def test_columns_of_different_lengths_are_refused(event: FinishedMany | TransferredMany, data: st.DataObject) -> None:
    row = msgpack.unpackb(pack("events", event_row(event)))[1]
    row[data.draw(st.integers(3 if isinstance(event, TransferredMany) else 2, len(row) - 1))].pop()
    with pytest.raises(WireError):
        read_events([row])


def test_a_column_of_peaks_is_as_strict_as_one_peak() -> None:
    event = FinishedMany("r", [0], [1], [1.0], [1.0], [1], [None], [0], [-1], [""])
    with pytest.raises(WireError):
        read_events(msgpack.unpackb(pack("events", [event_row(event)]))[1])


@pytest.mark.parametrize(
    "event",
    [
        Finished(AttemptId("r", 0, 1), 1.0, 1.0, 0, ()),
        FinishedMany("r", [0, 1], [1, 1], [1.0] * 2, [1.0] * 2, [1, 0], [(b"x",), ()], [0, 0], [None] * 2, [""] * 2),
    ],
)
def test_a_result_without_frames_is_refused(event: Finished | FinishedMany) -> None:
    with pytest.raises(WireError):
        read_events(msgpack.unpackb(pack("events", [event_row(event)]))[1])


def test_an_input_without_frames_is_refused() -> None:
    attempt = Attempt(AttemptId("r", 1, 1), "alpha", "f", ("k",), (Source(AttemptId("r", 0, 1), "beta", ()),))
    with pytest.raises(WireError):
        read_attempts(msgpack.unpackb(pack("submit", [attempt_row(attempt, attempt.inputs, None)]))[1], "alpha")
