"""Requests find the view that has their key, and no view is kept for them."""

import gc
import json

import pytest

from handoff_lab import HandoffError
from handoff_lab.widgets import answer
from handoff_lab.widgets.requests import register, withdraw


class View:
    def __init__(self, key):
        self.key = key
        self.received = []

    def receive(self, message):
        self.received.append(message)


def test_a_request_goes_to_the_view_of_its_key():
    one, other = View("one"), View("other")
    register(one)
    register(other)
    answer("other", json.dumps({"type": "request", "id": 3}))
    assert (one.received, other.received) == ([], [{"type": "request", "id": 3}])


def test_nobody_answers_for_a_view_that_withdrew():
    view = View("gone")
    register(view)
    withdraw("gone")
    withdraw("gone")
    with pytest.raises(HandoffError, match="was closed"):
        answer("gone", "{}")


def test_a_view_is_not_kept():
    register(View("lost"))
    gc.collect()
    with pytest.raises(HandoffError, match="run its cell again"):
        answer("lost", "{}")
