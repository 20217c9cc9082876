"""What attempts write comes back with them, from Python and from below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from handoff_lab.node import output
from handoff_lab.node.output import LogFile, read_log

if TYPE_CHECKING:
    from conftest import Bench


def write_everywhere() -> None:
    import ctypes
    import logging
    import os
    import subprocess
    import sys
    import warnings

    print("print")  # noqa: T201
    sys.stderr.write("stderr\n")
    os.write(1, b"descriptor\n")
    subprocess.run(["echo", "child"], check=True)
    logging.getLogger("some").warning("logging")
    warnings.warn("warning", stacklevel=1)
    ctypes.CDLL(None).puts(b"from C")


PLAIN = "import importlib, warnings; importlib.reload(warnings)"  # without what pytest did to them
EXPECTED = ["print", "stderr", "descriptor", "child", "logging", "warning"]


@pytest.mark.real
def test_all_that_is_written_comes_back_in_order_each_time(bench: Bench) -> None:
    for _ in range(2):  # a warning too is shown each time
        log = bench.end(bench.submit(write_everywhere, setup=[PLAIN])).log
        places = [log.find(word) for word in EXPECTED]
        assert -1 not in places
        assert places == sorted(places)
        assert "from C" in log


@pytest.mark.real
def test_each_attempt_gets_its_own_log(bench: Bench) -> None:
    def say(number: int) -> None:
        import os

        print("number", number, end="")  # noqa: T201
        if number % 3 == 0:
            os.system("echo '' and below")

    ids = [bench.submit(say, inputs=[number]) for number in range(100)]
    logs = [bench.end(id).log for id in ids]
    for number, log in enumerate(logs):
        assert log.count("number") == 1
        assert f"number {number}" in log
        assert ("below" in log) == (number % 3 == 0)


@pytest.mark.real
def test_a_running_attempt_is_heard(bench: Bench) -> None:
    import time

    def speak(seconds: float) -> None:
        import os
        import time

        print("one", flush=True)  # noqa: T201
        os.system("echo two")
        time.sleep(seconds)

    id = bench.submit(speak, inputs=[60])
    bench.wait_for(lambda: bench.told.texts.get(id, "").split() == ["one", "two"])
    assert id not in bench.told.ends
    bench.runner.cancel(id)
    assert bench.end(id).log.split() == ["one", "two"]
    assert time.monotonic() > 0


@pytest.mark.real
def test_streams_that_a_function_broke_are_whole_for_the_next(bench: Bench) -> None:
    def spoil() -> None:
        import sys

        sys.stdout.close()
        sys.stderr = None  # type: ignore[assignment]

    bench.end(bench.submit(spoil))
    assert bench.end(bench.submit(print, inputs=["fine"])).log == "fine\n"


def test_the_middle_of_a_long_log_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(output, "LOG_LIMIT", 100)
    file = LogFile()
    os.write(file.fd, b"a" * 500 + b"z" * 500)
    text = read_log(file.fd)
    assert text.startswith("a" * 50 + "\n")
    assert text.endswith("\n" + "z" * 50)
    assert "900 bytes left out" in text
    file.close()


def test_news_come_once_and_begin_anew_with_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    file = LogFile()
    os.write(file.fd, "grün".encode()[:3])
    assert file.news(1) == "gr"
    os.write(file.fd, "grün".encode()[3:])
    assert file.news(1) == "ün"  # a character that came in two parts
    assert file.news(1) == ""
    os.ftruncate(file.fd, 0)
    os.write(file.fd, b"next one")
    assert file.news(2) == "next one"
    monkeypatch.setattr(output, "FILE_LIMIT", 10)
    os.write(file.fd, b"!" * 10)
    assert file.news(2) == "!" * 10
    assert "begins anew" in file.read()
    assert "begins anew" in file.news(2)
    file.close()
