"""What goes to nodes although something is wrong with it, and values that come here to stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from handoff_lab.messages import HERE, Failed
from tests.backends.conftest import Rig

pytestmark = pytest.mark.real


def test_an_id_that_is_no_unicode_fails_its_own_function_only(two: Rig) -> None:
    """Names of files may be such."""
    good, bad = two.attempt(lambda: 1), replace(two.attempt(lambda: 2), label="\udc80")
    two.backend.submit([bad, good])
    assert two.value(good.id) == 1
    end = two.end(bad.id)
    assert isinstance(end, Failed)
    assert "could not be sent to its node: UnicodeEncodeError" in end.failure.message


@pytest.mark.parametrize(("wrong", "why"), [(2**70, "OverflowError"), (1j, "TypeError")])
def test_what_no_message_can_hold_fails_its_own_function_only(two: Rig, wrong: Any, why: str) -> None:
    good, bad = two.attempt(lambda: 1), replace(two.attempt(lambda: 2), timeout_s=wrong)
    two.backend.submit([good, bad])
    assert two.value(good.id) == 1
    end = two.end(bad.id)
    assert isinstance(end, Failed)
    assert f"could not be sent to its node: {why}" in end.failure.message
    assert two.value(two.submit(lambda: 3)) == 3


@pytest.mark.usefixtures("base")
def test_values_that_stay_here_take_no_more_memory_than_they_may(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(alpha={"cpu": 1})
    store = rig.backend._store
    store.limit_bytes = 1_000_000
    keys = [rig.submit(partial(np.full, 600_000, fill, np.uint8)) for fill in range(4)]
    for key in keys:
        rig.end(key)
        rig.backend.put(key, rig.get(key, "alpha"))
    rig.until(lambda: store.in_memory <= store.limit_bytes)
    assert store.on_disk >= 3 * 600_000
    for fill, key in enumerate(keys):
        assert (rig.get(key, HERE).load() == fill).all()
