"""Secret keys are where they must be, and nowhere else: every key that any process of a cluster makes is looked for."""

from __future__ import annotations

import base64
import contextlib
import gc
import html
import io
import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import nbformat
import pytest
import zmq
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from zmq.utils import z85

import handoff_lab as hl
from handoff_lab.node.lifeline import descendants
from handoff_lab.transport.invitation import read_invitation
from handoff_lab.transport.keys import JoinFile, KeyPair
from tests.others import soon

pytestmark = pytest.mark.real

# Every Python that starts with this on its path tells the secret keys that it makes, to a file.
SPY = """
import pathlib, zmq
make = zmq.curve_keypair

def curve_keypair():
    public, secret = make()
    with open(pathlib.Path(__file__).with_name("secrets"), "ab") as file:
        file.write(secret + b"\\n")
    return public, secret

zmq.curve_keypair = curve_keypair
"""
SECRET_FILES = {"join.json"}  # and connection files of kernels


class Spy:
    """Knows every secret key, and looks for them."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "secrets"

    @property
    def secrets(self) -> list[str]:
        return self._file.read_text("ascii").split()

    def found_in(self, text: str | bytes) -> bool:
        data = text if isinstance(text, bytes) else text.encode(errors="replace")
        return any(form in data for secret in self.secrets for form in forms(secret))


def forms(secret: str) -> set[bytes]:
    """What a key may look like where it was not meant to be."""
    raw = z85.decode(secret)
    texts = {secret, html.escape(secret), json.dumps(secret)[1:-1], quote(secret), raw.hex(), repr(raw)[2:-1]}
    return {raw, base64.b64encode(raw)[:42], *(text.encode() for text in texts)}


@pytest.fixture
def spy(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Spy:
    """Watches this process, and every one that it starts."""
    folder = tmp_path_factory.mktemp("spy")
    (folder / "sitecustomize.py").write_text(SPY)
    (folder / "secrets").touch(0o600)
    monkeypatch.setattr(zmq, "curve_keypair", zmq.curve_keypair)  # put back afterwards
    exec(compile(SPY, folder / "sitecustomize.py", "exec"), {"__file__": str(folder / "sitecustomize.py")})
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    return Spy(folder)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where everything is written that is written."""
    for name in ("state", "run"):
        (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def told() -> Iterator[list[str]]:
    """All events of telemetry."""
    seen: list[str] = []
    hl.telemetry.attach("told", ("handoff",), lambda *event: seen.append(repr(event)))
    yield seen
    hl.telemetry.detach("told")


def fails(values: list[int]) -> None:
    sys.stderr.write("about to fail\n")
    logging.getLogger("theirs").warning("it will fail")
    raise ValueError(f"no: {values}, {os.environ}, {sys.argv}")


def failing() -> hl.DAG:
    return hl.DAG("failing").add(
        hl.Function("values", lambda: [1, 2, 3], node="alpha"),
        hl.Function("fails", fails, args=["values"], node="gamma"),
    )


def verbose(error: BaseException) -> str:
    """A traceback with every frame's variables, as IPython shows them if it is asked to."""
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def shown_objects() -> Iterator[str]:
    """How each of our own objects in this process shows itself."""
    for found in gc.get_objects():
        if str(type(found).__module__).startswith("handoff_lab."):
            try:
                yield f"{found!r} {found}"
            except Exception as error:  # one that was not finished
                yield repr(error)


def refused_join(invitation: str) -> str:
    """What an agent writes whose invitation was used already."""
    words = [sys.executable, "-m", "handoff_lab.node", "--invite", "-", "--name", "late"]
    done = subprocess.run(words, input=invitation, capture_output=True, text=True, timeout=180, check=False)
    assert "was used already" in done.stderr
    return done.stdout + done.stderr


def test_keys_are_in_no_list_of_processes_log_repr_event_traceback_or_report(
    spy: Spy, folders: Path, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    texts: dict[str, str] = {}
    with hl.Cluster({"alpha": {"cpu": 1}}, name="watched", log_directory=folders / "logs") as cluster:
        invitation = cluster.invite()
        with invited(invitation, cluster):
            run = cluster.execute(failing(), max_retries=1, raise_on_error=False)
            error = run.errors["fails"]
            joined = JoinFile.read(cluster.join_file)
            assert {joined.keys.secret, read_invitation(invitation).keys.secret} < set(spy.secrets)
            assert len(spy.secrets) >= 6  # control, join file, values, invitation; alpha, gamma

            for pid in {os.getpid(), *descendants(os.getpid())}:
                for name in ("cmdline", "environ"):
                    with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it ended meanwhile
                        assert not spy.found_in(Path(f"/proc/{pid}/{name}").read_bytes()), (pid, name)
            for shown in shown_objects():
                assert not spy.found_in(shown), shown
            texts |= {
                "refusal": refused_join(invitation),
                "error": f"{error!r} {error} {verbose(error)}",
                "logs of functions": repr(dict(run.logs)),
                "events": repr(list(run.events)),
                "telemetry": "\n".join(told),
                "run": repr(run._repr_mimebundle_()),
                "cluster": repr(cluster._repr_mimebundle_()),
                "report": hl.visualization.report(run, folders / "report.html").read_text(),
                **tracebacks(cluster, joined),
            }
            place = cluster.join_file.parent
            written = {path for path in (*place.rglob("*"), *folders.rglob("*")) if path.is_file()}
            for path in written:
                if path.name in SECRET_FILES or path.match("kernel*.json"):
                    assert path.stat().st_mode & 0o077 == 0
                else:
                    assert not spy.found_in(path.read_bytes()), path
    assert {path.name for path in written} >= {"join.json", "agent-0.log", "report.html", f"{run.id}.jsonl"}
    assert "about to fail" in texts["logs of functions"]
    texts["log of this process"] = caplog.text
    for what, text in texts.items():
        assert text, what
        assert not spy.found_in(text), what


@contextmanager
def invited(invitation: str, cluster: hl.Cluster) -> Iterator[None]:
    """Another node, gamma, that joined by invitation."""
    words = [sys.executable, "-m", "handoff_lab.node", "--invite", "-", "--name", "gamma", "--cpu", "1"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as gamma:
        try:
            assert gamma.stdin is not None
            gamma.stdin.write(f"{invitation}\n")
            gamma.stdin.flush()
            soon(lambda: "gamma" in cluster.nodes or gamma.poll() is not None)
            assert gamma.poll() is None
            yield
        finally:
            gamma.terminate()


def tracebacks(cluster: hl.Cluster, joined: JoinFile) -> dict[str, str]:
    """Of what is refused, by what it says."""
    damaged = cluster.join_file.with_name("kernel-of-nobody.json")  # among the files that may hold keys
    damaged.touch(0o600)
    damaged.write_text(cluster.join_file.read_text().replace("tcp://", "udp://"))
    found = {}
    for refused in (
        lambda: cluster.add_node(name="alpha"),
        lambda: cluster.revoke("nobody"),
        lambda: joined.write(cluster.join_file),
        lambda: JoinFile.read(damaged),
    ):
        with pytest.raises((hl.HandoffError, FileExistsError)) as caught:
            refused()
        found[str(caught.value)] = verbose(caught.value)
    damaged.unlink()
    return found


def test_the_spy_sees_keys_in_every_form(spy: Spy) -> None:
    secret = KeyPair.generate().secret
    for form in forms(secret):
        assert spy.found_in(b"<" + form + b">")
    assert not spy.found_in(repr(KeyPair.generate()))


NOTEBOOK = """
%xmode Verbose
import handoff_lab as hl
cluster = hl.Cluster({"alpha": {"cpu": 1}})
cluster
---
@hl.function
def fails():
    raise ValueError("no")
dag = hl.DAG("d").add(hl.Function("fails", fails))
run = cluster.submit(dag, max_retries=0)
run
---
run.wait()
---
%load_ext handoff_lab
cluster.runs, cluster.join_file, cluster.nodes, vars(cluster)
---
cluster.add_node(name="alpha")
---
cluster.close()
"""


def test_keys_are_in_no_saved_notebook(spy: Spy, folders: Path) -> None:
    cells = [new_code_cell(source.strip()) for source in NOTEBOOK.split("---")]
    notebook = new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python"}})
    NotebookClient(notebook, timeout=120, allow_errors=True).execute()
    saved = io.StringIO()
    nbformat.write(notebook, saved)
    assert len(spy.secrets) >= 4  # control, join file, values; alpha
    assert "ValueError" in saved.getvalue()
    assert "there is a node" in saved.getvalue()
    assert not spy.found_in(saved.getvalue())
