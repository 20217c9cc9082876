"""What a joining node says of itself, how a coordinator reads it, and whether the two can work together."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handoff_lab._errors import ResourceError, VersionMismatchError
from handoff_lab._version import __version__
from handoff_lab.messages import NodeInfo
from handoff_lab.resources import parse_capabilities
from handoff_lab.transport.keys import is_key
from handoff_lab.transport.peers import Member
from handoff_lab.transport.rows import read_amounts, read_count, read_flag, read_text, read_texts
from handoff_lab.transport.wire import PROTOCOL, WireError, pack

_NAME_LENGTH = 64


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
        info = {name: getattr(self.info, name) for name in NodeInfo.__slots__}
        return pack("hello", PROTOCOL, {"node": info, "key": self.public_key, "endpoint": self.endpoint})

    @classmethod
    def read(cls, fields: Mapping[Any, Any]) -> Hello:
        """A hello from what arrived.

        Raises
        ------
        WireError
            When it is none.
        """
        node = fields.get("node")
        if not isinstance(node, dict) or set(node) != set(NodeInfo.__slots__):
            raise WireError("malformed hello")
        info = NodeInfo(
            name=read_text(node["name"]),
            capabilities=read_amounts(node["capabilities"]),
            slots=read_count(node["slots"]),
            host=read_text(node["host"]),
            pid=read_count(node["pid"]),
            versions=read_texts(node["versions"]),
            labels=read_texts(node["labels"]),
            connection_file=read_text(node["connection_file"]),
            keeps_ledger=read_flag(node["keeps_ledger"]),
        )
        check_capabilities(info.capabilities)
        key, endpoint = read_text(fields.get("key")), read_text(fields.get("endpoint"))
        if not is_name(info.name) or not is_key(key) or not endpoint.startswith("tcp://"):
            raise WireError("malformed hello")
        return cls(info, key, endpoint)


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
        return read_text(node["name"])[:_NAME_LENGTH], read_texts(node["versions"])
    except (WireError, LookupError, TypeError):
        return "", {}


def is_name(name: str) -> bool:
    """Whether a node may be called so: one line of printable text, no blanks around it.

    >>> is_name("my box"), is_name(" box"), is_name("")
    (True, False, False)
    """
    return 0 < len(name) <= _NAME_LENGTH and name.isprintable() and name == name.strip()


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
