from dataclasses import replace

import pytest

from handoff_lab import VersionMismatchError
from handoff_lab.messages import NodeInfo
from handoff_lab.transport.hello import Hello, glance, is_name, mismatch, own_versions
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.wire import FROM_NODE, PROTOCOL, WireError, unpack

HELLO = Hello(
    NodeInfo("alpha", {"cpu": 2.0, "fpga": 0.5}, 2, "host", 7, own_versions(), {"rack": "7"}, "/run/kernel.json"),
    KeyPair.generate().public,
    "tcp://127.0.0.1:1",
)


def fields(hello: Hello) -> dict:
    kind, (protocol, fields) = unpack(hello.pack(), FROM_NODE)
    assert (kind, protocol) == ("hello", PROTOCOL)
    return fields


def test_is_read_as_it_was_written() -> None:
    assert Hello.read(fields(HELLO)) == HELLO


@pytest.mark.parametrize(
    "change",
    [
        {"key": "short"},
        {"key": "ä" * 40},
        {"endpoint": "ipc:///tmp/x"},
        {"endpoint": 7},
        {"node": None},
        {"node": {}},
    ],
)
def test_what_is_none_is_refused(change: dict) -> None:
    with pytest.raises(WireError):
        Hello.read({**fields(HELLO), **change})


@pytest.mark.parametrize(
    "change",
    [
        {"name": " alpha"},
        {"name": ""},
        {"pid": -1},
        {"labels": {"a": 1}},
        {"slots": "2"},
        {"capabilities": {"cpu": -1.0}},
        {"keeps_ledger": 1},
    ],
)
def test_a_node_that_makes_no_sense_is_refused(change: dict) -> None:
    content = fields(HELLO)
    with pytest.raises(WireError):
        Hello.read({**content, "node": {**content["node"], **change}})


@pytest.mark.parametrize("name", ["", " a", "a ", "a\nb", "a" * 65])
def test_names_that_are_none(name: str) -> None:
    assert not is_name(name)


def test_the_same_versions_match() -> None:
    assert mismatch(PROTOCOL, own_versions(), "node 'a'") is None


def test_another_patch_of_python_matches() -> None:
    major, minor, _ = own_versions()["python"].split(".")
    assert mismatch(PROTOCOL, {"python": f"{major}.{minor}.999"}, "node 'a'") is None


def test_another_minor_python_does_not_match_and_both_are_named() -> None:
    error = mismatch(PROTOCOL, {"python": "3.99.1"}, "node 'a'")
    assert isinstance(error, VersionMismatchError)
    assert "node 'a' has Python 3.99.1" in str(error)
    assert f"here it is {own_versions()['python']}" in str(error)


def test_another_protocol_does_not_match() -> None:
    error = mismatch(PROTOCOL + 1, own_versions(), "node 'a'")
    assert isinstance(error, VersionMismatchError)
    assert error.what == "protocol"


def test_name_and_versions_of_a_hello_of_another_protocol() -> None:
    newer = replace(HELLO, info=replace(HELLO.info, versions={"python": "4.0.0"}))
    assert glance({**fields(newer), "more": 1}) == ("alpha", {"python": "4.0.0"})
    assert glance({}) == ("", {})
    assert glance({"node": [1]}) == ("", {})
