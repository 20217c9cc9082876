"""Words of the command line that several commands take."""

from __future__ import annotations

import argparse
import ast
from typing import Any

from handoff_lab._units import parse_amounts
from handoff_lab.resources import Resources, parse_capabilities


def node(text: str) -> tuple[str, Resources]:
    """A node and what it has.

    Examples
    --------
    >>> node("beta:cpu=2,gpu=1,memory=8GiB")
    ('beta', Resources({'cpu': 2, 'gpu': 1, 'memory': 8589.934592}))
    """
    name, colon, rest = text.partition(":")
    if not (name and colon and rest):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:cpu=4,gpu=1")
    try:
        return name, parse_capabilities(parse_amounts(rest))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:cpu=4,gpu=1: {error}") from None


def setting(text: str) -> tuple[str, Any]:
    """An input and its value: a Python literal where it reads as one, else text.

    Examples
    --------
    >>> setting("k=[1, 2]"), setting("city=Oslo")
    (('k', [1, 2]), ('city', 'Oslo'))
    """
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
