"""Code that arrives by value: which names it sees in a slot and in a kernel."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import cloudpickle
import pytest

from handoff_lab.node.codes import Codes


@pytest.fixture
def notebook() -> Iterator[types.ModuleType]:
    """A ``__main__`` like a notebook's."""
    return types.ModuleType("__main__")


def define(notebook: types.ModuleType, source: str, name: str) -> bytes:
    """Run a cell, and pickle what it defined."""
    exec(source, vars(notebook))
    pickled: bytes = cloudpickle.dumps(vars(notebook)[name], protocol=5)
    return pickled


def codes(namespace: dict[str, Any], shared: bool, **pickles: bytes) -> Codes:
    made = Codes(namespace, shared)
    for key, pickled in pickles.items():
        made.add(key, pickled)
    return made


def test_in_a_slot_functions_see_what_set_up_made(notebook: types.ModuleType) -> None:
    function = define(notebook, "def f(): return tool, k\nk = 1", "f")
    slot = codes({"__name__": "__main__"}, False, f=function, setup=cloudpickle.dumps("tool = 'saw'\nk = 5"))
    slot.set_up("setup")
    assert slot.get("f")() == ("saw", 1)  # what came along wins


def test_in_a_slot_functions_keep_the_globals_of_their_time(notebook: types.ModuleType) -> None:
    first = define(notebook, "k = 1\ndef f(): return k", "f")
    second = define(notebook, "k = 2\ndef g(): return k", "g")
    slot = codes({}, False, f=first, g=second)
    assert (slot.get("f")(), slot.get("g")(), slot.get("f")()) == (1, 2, 1)


def test_set_up_runs_once(notebook: types.ModuleType) -> None:
    namespace: dict[str, Any] = {"runs": []}
    slot = codes(namespace, False, setup=cloudpickle.dumps("runs.append(1)"))
    slot.set_up("setup")
    slot.set_up("setup")
    assert namespace["runs"] == [1]


def test_set_up_that_failed_runs_again(notebook: types.ModuleType) -> None:
    namespace: dict[str, Any] = {"runs": []}
    slot = codes(namespace, False, setup=cloudpickle.dumps("runs.append(1)\nif len(runs) < 2: raise OSError"))
    with pytest.raises(OSError):
        slot.set_up("setup")
    slot.set_up("setup")
    assert namespace["runs"] == [1, 1]


def test_in_a_kernel_functions_live_in_its_namespace(notebook: types.ModuleType) -> None:
    function = define(
        notebook, "def f():\n    global made\n    made = model * 2\n    return helper()\ndef helper(): return made", "f"
    )
    namespace: dict[str, Any] = {"__name__": "__main__", "model": 21}
    assert codes(namespace, True, f=function).get("f")() == 42
    assert namespace["made"] == 42


def test_in_a_kernel_what_functions_loaded_stays_until_the_notebook_changes_it(notebook: types.ModuleType) -> None:
    cell = "def f():\n    global model\n    if model is None: model = 'warm'\n    return model"
    namespace: dict[str, Any] = {"__name__": "__main__"}
    first = define(notebook, f"model = None\n{cell}", "f")
    edited = define(notebook, f"{cell} + '!'", "f")
    changed = define(notebook, f"model = 'other'\n{cell}", "f")
    kernel = codes(namespace, True, first=first, edited=edited, changed=changed)
    assert kernel.get("first")() == "warm"
    assert kernel.get("edited")() == "warm!"
    assert kernel.get("changed")() == "other"


def test_in_a_kernel_edited_helpers_replace_the_old_ones(notebook: types.ModuleType) -> None:
    first = define(notebook, "def helper(): return 1\ndef f(): return helper()", "f")
    second = define(notebook, "def helper(): return 2\ndef f(): return helper() + 0", "f")
    kernel = codes({"__name__": "__main__"}, True, first=first, second=second)
    assert (kernel.get("first")(), kernel.get("second")()) == (1, 2)


def test_functions_of_modules_keep_their_modules_globals() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    function = cloudpickle.dumps(types.ModuleType, protocol=5)
    assert codes(namespace, True, f=function).get("f") is types.ModuleType
    assert namespace == {"__name__": "__main__"}
