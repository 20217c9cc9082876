import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff_lab.transport.wire import FROM_NODE, TO_NODE, WireError, pack, unpack

leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()


def plain(keys: st.SearchStrategy) -> st.SearchStrategy:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=10,
    )


EXAMPLES = {int: 1, str: "text", bytes: b"bytes", list: [1], dict: {"a": 1}}


@pytest.mark.parametrize("schema", [TO_NODE, FROM_NODE])
def test_every_message_comes_back(schema) -> None:
    for kind, types in schema.items():
        fields = [EXAMPLES[cls] for cls in types]
        assert unpack(pack(kind, *fields), schema) == (kind, fields)


@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        unpack(data, FROM_NODE)


@given(plain(st.text() | st.integers(0, 9)))
def test_what_is_no_message_is_refused(content: object) -> None:
    with pytest.raises(WireError):
        unpack(msgpack.packb(content), FROM_NODE)


@given(st.sampled_from(sorted(FROM_NODE)), st.lists(plain(st.text()), max_size=4))
def test_fields_have_the_types_of_their_kind(kind: str, fields: list) -> None:
    right = [type(field) for field in fields] == list(FROM_NODE[kind])
    try:
        unpack(msgpack.packb([kind, *fields]), FROM_NODE)
    except WireError:
        assert not right
    else:
        assert right


def test_a_truth_value_is_no_number() -> None:
    with pytest.raises(WireError):
        unpack(pack("cell_output", True, b""), FROM_NODE)


def test_directions_are_not_mixed() -> None:
    with pytest.raises(WireError, match="unknown message 'submit'"):
        unpack(pack("submit", []), FROM_NODE)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(WireError):
        unpack(b"\x91" * 100_000, FROM_NODE)


def test_a_length_that_lies_is_refused() -> None:
    with pytest.raises(WireError):
        unpack(b"\xdd\xff\xff\xff\xff", FROM_NODE)  # a list of four billion
