"""CURVE keys, and the join file: all that a node needs to join a coordinator, in a file that only its owner reads."""

from __future__ import annotations

import json
import os
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85

from handoff_lab._errors import AuthenticationError

_KIND = "handoff_lab join file 1"
_KEY_BYTES = 32
_KEY_LENGTH = 40  # as z85 text


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair, as z85 text. The secret shows in no repr."""

    public: str
    secret: str = field(repr=False)

    @classmethod
    def generate(cls) -> KeyPair:
        """A fresh pair."""
        public, secret = zmq.curve_keypair()
        return cls(public.decode("ascii"), secret.decode("ascii"))


@dataclass(frozen=True, slots=True)
class JoinFile:
    """Where a coordinator listens, the key it proves itself with, and the key pair it lets a joiner in with.

    ``once``: the pair is good for one joiner; such a thing is no file but a text (see ``invitation``).
    """

    endpoint: str
    server_key: str
    keys: KeyPair
    once: bool = False

    def write(self, path: Path) -> None:
        """Write a new file with mode 0600; one that is there already is never written to."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask says
            json.dump(self._content(), file, indent=1)

    def _content(self) -> dict[str, str]:  # in no frame of ``write``: some tracebacks show variables
        return {
            "kind": _KIND,
            "endpoint": self.endpoint,
            "server_key": self.server_key,
            "public_key": self.keys.public,
            "secret_key": self.keys.secret,
        }

    @classmethod
    def read(cls, path: Path) -> JoinFile:
        """Read a join file.

        Raises
        ------
        AuthenticationError
            When others may read the file, it is not there, or it is no join file.
        """
        found = cls.parse(_read_private(path))
        if isinstance(found, str):  # raised here, where no variable of any frame holds a key
            raise AuthenticationError(f"{path} {found}")
        return found

    @classmethod
    def parse(cls, text: str) -> JoinFile | str:
        """What the text of a join file says, or why it is none."""
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            return "is no join file"
        if content.get("kind") != _KIND:
            return "is no join file of this version of handoff_lab"
        fields: list[Any] = [content.get(name) for name in ("endpoint", "server_key", "public_key", "secret_key")]
        endpoint, *keys = fields
        if not isinstance(endpoint, str) or not endpoint.startswith("tcp://"):
            return "is a join file that names no endpoint"
        if not all(isinstance(key, str) and is_key(key) for key in keys):
            return "is a join file that lacks a key"
        return cls(endpoint, keys[0], KeyPair(*keys[1:]))


def _read_private(path: Path) -> str:
    try:
        with open(path, encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise AuthenticationError(f"{path} is no join file")
            if mode & 0o077:
                raise AuthenticationError(
                    f"join file {path} can be read by others (mode {stat.S_IMODE(mode):04o}), so its keys may be known;"
                    f" make a new one, or if you are sure: chmod 600 {path}"
                )
            return file.read(65536)
    except UnicodeDecodeError:
        raise AuthenticationError(f"{path} is no join file") from None
    except OSError as error:
        raise AuthenticationError(f"join file {path} cannot be read: {error.strerror}") from None


def is_key(text: str) -> bool:
    """Whether this is the text of a key; libzmq takes no other.

    >>> is_key(KeyPair.generate().public), is_key("~" * 40)
    (True, False)
    """
    try:
        return len(text) == _KEY_LENGTH and len(z85.decode(text)) == _KEY_BYTES
    except (LookupError, ValueError, struct.error):
        return False
