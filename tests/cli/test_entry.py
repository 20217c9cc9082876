"""The command line as a whole."""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import NoReturn

import pytest

import handoff_lab as hl
from handoff_lab.cli import entry, main, version
from handoff_lab.cli.entry import COMMANDS


def test_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"handoff_lab {hl.__version__}\nPython 3.")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    summary = (COMMANDS[name].__doc__ or "").splitlines()[0]
    assert summary in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["no-such-command"], ["run"], ["version", "--loud"]])
def test_misuse_ends_with_2_and_a_usage_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("usage: handoff-lab")


def test_an_error_of_ours_is_a_line_and_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(options: argparse.Namespace) -> NoReturn:
        raise hl.BackendError("the cluster is closed; make a new one")

    monkeypatch.setattr(version, "execute", fail)
    assert main(["version"]) == entry.FAILED == 2
    assert capsys.readouterr().err == "handoff-lab: the cluster is closed; make a new one\n"


def test_other_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(options: argparse.Namespace) -> NoReturn:
        raise ZeroDivisionError

    monkeypatch.setattr(version, "execute", fail)
    with pytest.raises(ZeroDivisionError):
        main(["version"])


def test_ctrl_c_is_a_line_and_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(options: argparse.Namespace) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(version, "execute", interrupt)
    assert main(["version"]) == 130
    assert capsys.readouterr().err == "handoff-lab: interrupted\n"


def test_the_command_line_loads_nothing_heavy() -> None:
    code = "import sys, handoff_lab.cli; print(*sorted({'IPython', 'matplotlib', 'numpy', 'zmq'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
