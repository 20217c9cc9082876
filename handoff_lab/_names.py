"""What nodes, clusters and resources may be called, and how text that has no UTF-8 is written."""

from __future__ import annotations

NAME_LENGTH = 64
NAME_RULE = f"up to {NAME_LENGTH} printable characters, no blanks around them"


def is_name(name: object) -> bool:
    """Whether it is one line of up to 64 printable characters, no blanks around it.

    >>> is_name("my box"), is_name(" box"), is_name("")
    (True, False, False)
    """
    return isinstance(name, str) and 0 < len(name) <= NAME_LENGTH and name.isprintable() and name == name.strip()


def name_fault(name: object, what: str) -> str | None:
    """Why ``what`` can't be called so; None where it can.

    >>> name_fault("", "node")
    "'' is no name for a node; use up to 64 printable characters, no blanks around them"
    >>> name_fault("my box", "node")
    """
    if is_name(name):
        return None
    return f"{shown(name)} is no name for a {what}; use {NAME_RULE}"


def shown(value: object, most: int = 80) -> str:
    """A value in a message, cut off where it is long.

    >>> shown("ab"), shown("abcdefgh", 6)
    ("'ab'", "'ab...")
    """
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def writable(text: str) -> str:
    r"""The text with escapes for what UTF-8 has not, as names of files may have it.

    >>> writable("a\udcff")
    'a\\udcff'
    """
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
