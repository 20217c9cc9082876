"""Invitations: all that a node needs to join once, as one line of text that can be pasted."""

from __future__ import annotations

import base64
import zlib

import zmq
from zmq.utils import z85

from handoff_lab._errors import AuthenticationError
from handoff_lab.transport.keys import JoinFile, KeyPair

_PREFIX = "handoff1-"  # with the version of the form
_KEY_BYTES = 32
_SUM_BYTES = 4


def write_invitation(join: JoinFile) -> str:
    """The text: endpoint, the coordinator's public key, the joiner's secret key and a check sum.

    >>> keys = KeyPair.generate()
    >>> join = JoinFile("tcp://127.0.0.1:1234", KeyPair.generate().public, keys, once=True)
    >>> read_invitation(write_invitation(join)) == join
    True
    """
    content = z85.decode(join.server_key) + z85.decode(join.keys.secret) + join.endpoint.encode("ascii")
    return _PREFIX + base64.urlsafe_b64encode(content + _sum(content)).decode("ascii").rstrip("=")


def read_invitation(text: str) -> JoinFile:
    """What an invitation says.

    Raises
    ------
    AuthenticationError
        It is none, or not whole.
    """
    content = _content(text.strip())
    if content is None:
        raise AuthenticationError(
            "this is no invitation, or not the whole of one: copy all of the text that cluster.invite() returned"
        )
    secret = z85.encode(content[_KEY_BYTES : 2 * _KEY_BYTES])
    keys = KeyPair(zmq.curve_public(secret).decode("ascii"), secret.decode("ascii"))
    endpoint = content[2 * _KEY_BYTES :].decode("ascii")
    return JoinFile(endpoint, z85.encode(content[:_KEY_BYTES]).decode("ascii"), keys, once=True)


def _content(text: str) -> bytes | None:
    coded = text.removeprefix(_PREFIX)
    try:
        data = base64.b64decode(coded + "=" * (-len(coded) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    content, check = data[:-_SUM_BYTES], data[-_SUM_BYTES:]
    endpoint = content[2 * _KEY_BYTES :]
    whole = coded != text and check == _sum(content) and endpoint.startswith(b"tcp://") and endpoint.isascii()
    return content if whole else None


def _sum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_SUM_BYTES, "big")
