"""Who answers a request that does not come over a comm.

A comm's messages wait while a cell runs; what is executed in a sub-shell does not.
"""

from __future__ import annotations

import json
import weakref
from typing import Any, Protocol

from handoff_lab._errors import HandoffError


class Answerer(Protocol):
    """Has a key, and takes requests."""

    @property
    def key(self) -> str: ...
    def receive(self, message: dict[str, Any]) -> None: ...


_answerers: weakref.WeakValueDictionary[str, Answerer] = weakref.WeakValueDictionary()


def register(answerer: Answerer) -> None:
    """Have ``answerer`` answer requests for its key, as long as it is there."""
    _answerers[answerer.key] = answerer


def withdraw(key: str) -> None:
    """Nobody answers for ``key`` any more."""
    _answerers.pop(key, None)


def answer(key: str, text: str) -> None:
    """Hand a request to the view that has this key; its reply goes over the view's comm.

    Parameters
    ----------
    key : str
        Of a viewer.
    text : str
        A ``RequestMessage`` as JSON.
    """
    answerer = _answerers.get(key)
    if answerer is None:
        raise HandoffError("this view was closed, or its kernel was restarted; run its cell again")
    answerer.receive(json.loads(text))
