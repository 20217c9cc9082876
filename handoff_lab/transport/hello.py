"""What a joining node says of itself, how a coordinator reads it, and whether the two can work together."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handoff_lab._errors import ResourceError, VersionMismatchError
from handoff_lab._names import NAME_LENGTH, is_name
from handoff_lab._version import __version__
from handoff_lab.messages import NodeInfo
from handoff_lab.resources import parse_capabilities
from handoff_lab.transport.keys import is_key
from handoff_lab.transport.peers import Member
from handoff_lab.transport.rows import read_amounts, read_count, read_flag, read_text, read_texts
from handoff_lab.transport.wire import PROTOCOL, WireError, pack


@dataclass(frozen=True, slots=True)
class Hello:
    """A node that wants to join: what it has, and the key and endpoint by which it will be known."""

    info: NodeInfo
    public_key: str
    endpoint: str

    @property
    def member(self) -> Member:
        """The node as one that holds values."""
        return Member(self.info.name, self.public_key, self.endpoint)

    def pack(self) -> bytes:
        """The message."""
        facts = {"node": facts_of(self.info), "key": self.public_key, "endpoint": self.endpoint}
        return pack("hello", PROTOCOL, facts)

    @classmethod
    def read(cls, fields: Mapping[Any, Any]) -> Hello:
        """A hello from what arrived.

        Raises
        ------
        WireError
            When it is none.
        """
        info = read_info(fields.get("node"))
        key, endpoint = read_text(fields.get("key")), read_text(fields.get("endpoint"))
        if not is_name(info.name) or not is_key(key) or not endpoint.startswith("tcp://"):
            raise WireError("malformed hello")
        return cls(info, key, endpoint)


def facts_of(info: NodeInfo) -> dict[str, Any]:
    """What a node says of itself, by name."""
    return {name: getattr(info, name) for name in NodeInfo.__slots__}


def read_info(facts: Any) -> NodeInfo:
    """A node from its facts.

    Raises
    ------
    WireError
        When they are none.
    """
    if not isinstance(facts, dict) or set(facts) != set(NodeInfo.__slots__):
        raise WireError("malformed node")
    info = NodeInfo(
        name=read_text(facts["name"]),
        capabilities=read_amounts(facts["capabilities"]),
        slots=read_count(facts["slots"]),
        host=read_text(facts["host"]),
        pid=read_count(facts["pid"]),
        versions=read_texts(facts["versions"]),
        labels=read_texts(facts["labels"]),
        connection_file=read_text(facts["connection_file"]),
        keeps_ledger=read_flag(facts["keeps_ledger"]),
    )
    check_capabilities(info.capabilities)
    return info


def check_capabilities(capabilities: Mapping[str, float]) -> None:
    """Raise `WireError` where these are nothing that a node can have."""
    try:
        parse_capabilities(capabilities)
    except ResourceError as error:
        raise WireError(str(error)) from None


def glance(fields: Mapping[Any, Any]) -> tuple[str, dict[str, str]]:
    """Name and versions in a hello of whatever protocol; nothing where they cannot be read."""
    try:
        node = fields["node"]
        return read_text(node["name"])[:NAME_LENGTH], read_texts(node["versions"])
    except (WireError, LookupError, TypeError):
        return "", {}


def own_versions() -> dict[str, str]:
    """What both sides must agree on, and more that helps a person."""
    import cloudpickle  # type: ignore[import-untyped]

    python = ".".join(map(str, sys.version_info[:3]))
    return {"python": python, "handoff_lab": __version__, "cloudpickle": cloudpickle.__version__}


def mismatch(protocol: int, versions: Mapping[str, str], who: str) -> VersionMismatchError | None:
    """Why this process cannot work with ``who``, which has these versions; None when it can.

    Pickled code is read by the same minor version of Python alone.
    """
    if protocol != PROTOCOL:
        return VersionMismatchError("protocol", str(PROTOCOL), str(protocol), who)
    here, there = own_versions()["python"], versions.get("python", "unknown")
    if here.split(".")[:2] != there.split(".")[:2]:
        return VersionMismatchError("Python", here, there, who)
    return None
