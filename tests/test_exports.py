"""What `import handoff_lab` shows and what it costs."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import handoff_lab as hl

HEAVY = ("IPython", "dask", "ipywidgets", "matplotlib", "msgpack", "numpy", "psutil", "zmq")


def public_names() -> list[str]:
    return sorted(name for name in hl.__all__ if not name.startswith("_"))


def test_the_import_is_light() -> None:
    code = f"import sys, handoff_lab; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_all_is_what_is_visible() -> None:
    ours = {name for name, value in vars(hl).items() if _comes_from_within(value) and not name.startswith("_")}
    assert ours <= set(hl.__all__)
    assert set(hl.__all__) <= set(dir(hl))
    assert sorted(hl.__all__) == sorted(set(hl.__all__))


def _comes_from_within(value: object) -> bool:
    return (getattr(value, "__module__", None) or "").startswith("handoff_lab.")


@pytest.mark.parametrize("name", public_names())
def test_every_public_name_is_documented(name: str) -> None:
    assert (inspect.getdoc(getattr(hl, name)) or "").strip()


@pytest.mark.parametrize("name", [n for n in public_names() if inspect.isclass(getattr(hl, n))])
def test_every_public_method_is_documented(name: str) -> None:
    cls = getattr(hl, name)
    undocumented = [
        member
        for member, value in vars(cls).items()
        if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
        if not inspect.getdoc(getattr(cls, member))
    ]
    assert undocumented == []


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing_of_that_name'"):
        _ = hl.nothing_of_that_name
