"""The kernel backend with real nodes: attempts, values, code, cells."""

import sys
import threading
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

from handoff_lab import BackendError
from handoff_lab.messages import (
    HERE,
    AttemptId,
    Cancelled,
    Constant,
    Failed,
    Failure,
    FailureKind,
    Finished,
    NodeChanged,
    NodeLoad,
    Recipe,
    ResultLost,
    Source,
    Started,
    Transferred,
    Use,
)
from handoff_lab.store import Frames, Live
from handoff_lab.transport.wire import TO_NODE, unpack

pytestmark = pytest.mark.real


class Sent:
    """What the backend sends to nodes, while it is looked at."""

    def __init__(self, rig, monkeypatch: pytest.MonkeyPatch) -> None:
        self.messages: list[tuple[str, str, list]] = []
        send = rig.backend._hub.send

        def record(name: str, message: bytes) -> None:
            self.messages.append((name, *unpack(message, TO_NODE)))
            send(name, message)

        monkeypatch.setattr(rig.backend._hub, "send", record)

    def of(self, kind: str) -> list[tuple[str, list]]:
        return [(name, fields) for name, sent, fields in self.messages if sent == kind]


# -- attempts --------------------------------------------------------------------


def test_a_function_runs_in_a_process_of_its_node(two) -> None:
    agents = {info.pid for info in two.backend.nodes().values()}
    import os

    pid = two.run(lambda: os.getpid())
    assert pid not in {os.getpid(), *agents}


def test_a_small_result_comes_with_the_message(two) -> None:
    id = two.submit(lambda: "small")
    end = two.end(id)
    assert isinstance(end, Finished)
    assert Frames(end.inline).load() == "small"
    starts = [event for event in two.of(Started) if event.id == id]
    assert len(starts) == 1
    assert end.started <= end.ended


def test_a_large_result_stays_on_its_node_and_passes_to_another_directly(two) -> None:
    made = two.submit(lambda: np.arange(100_000), "alpha")
    used = two.submit(lambda array: int(array.sum()), "beta", [Source(made, "alpha")])
    assert two.value(used, "beta") == 4_999_950_000
    end = two.end(made)
    assert isinstance(end, Finished)
    assert end.inline is None
    assert end.nbytes > 800_000
    (moved,) = [event for event in two.of(Transferred) if event.key == made]
    assert (moved.source, moved.target, moved.nbytes) == ("alpha", "beta", end.nbytes)


def test_a_value_is_fetched_once_per_node(two) -> None:
    made = two.submit(lambda: bytes(50_000), "alpha")
    users = [two.submit(len, "beta", [Source(made, "alpha")]) for _ in range(5)]
    assert [two.value(user, "beta") for user in users] == [50_000] * 5
    assert len([event for event in two.of(Transferred) if event.key == made]) == 1


@pytest.mark.parametrize("maker", ["alpha", "beta"])
def test_an_attempt_waits_for_an_input_that_is_made_later(two, maker: str) -> None:
    first = two.attempt(lambda: 20, maker)
    second = two.submit(lambda x: x + 1, "beta", [Source(first.id, maker)])
    assert two.run(lambda: "meanwhile", "beta") == "meanwhile"
    assert second not in two.ends
    two.backend.submit([first])
    assert two.value(second, "beta") == 21


def test_the_failure_of_a_producer_fails_who_waits_for_it(two) -> None:
    first = two.submit(lambda: 1 / 0, "alpha")
    second = two.submit(lambda x: x, "beta", [Source(first, "alpha")])
    end = two.end(second)
    assert isinstance(end, Failed)
    assert end.failure.kind == FailureKind.INPUT
    assert "node 'alpha' does not have it any more" in end.failure.message
    assert ResultLost(first, "alpha") in two.events


def test_the_same_attempt_is_run_once(two) -> None:
    import time

    attempt = two.attempt(lambda: time.monotonic())
    two.backend.submit([attempt, attempt])
    two.backend.submit([attempt])
    two.end(attempt.id)
    two.backend.submit([attempt])
    two.run(lambda: None)
    assert len([event for event in two.of(Started) if event.id == attempt.id]) == 1


def test_an_attempt_that_failed_is_not_run_again_either(two) -> None:
    attempt = two.attempt(lambda: 1 / 0)
    two.backend.submit([attempt])
    two.end(attempt.id)
    two.backend.submit([attempt])  # a second terminal event would be noticed
    two.run(lambda: None)
    assert len([event for event in two.of(Started) if event.id == attempt.id]) == 1


def test_a_recipe_says_how_the_function_is_called(two) -> None:
    made = two.submit(lambda: 5)
    recipe = Recipe((Use(0), Constant(2)), (("plus", Constant(1)),))
    assert two.run(lambda x, k, plus: x * k + plus, inputs=[Source(made, "alpha")], recipe=recipe) == 11


def test_a_recipe_that_cannot_be_pickled_fails_its_attempt_alone(two) -> None:
    end = two.end(two.submit(lambda x: x, recipe=Recipe((Constant(threading.Lock()),))))
    assert isinstance(end, Failed)
    assert end.failure.kind == FailureKind.CODE
    assert two.run(lambda: 1) == 1


def test_many_attempts_at_once(two) -> None:
    attempts = [two.attempt(lambda: None, ("alpha", "beta")[number % 2]) for number in range(1500)]
    two.backend.submit(attempts)
    two.until(lambda: all(attempt.id in two.ends for attempt in attempts))
    assert all(isinstance(two.ends[attempt.id], Finished) for attempt in attempts)


def test_cancelling_what_waits_and_what_runs(two) -> None:
    import time

    running = two.submit(lambda: time.sleep(60))
    two.until(lambda: any(event.id == running for event in two.of(Started)))
    waiting = two.submit(lambda x: x, inputs=[Source(running, "alpha")])
    queued = two.submit(lambda: None)
    for id in (waiting, queued, running):
        two.backend.cancel(id, "interrupt")
        assert isinstance(two.end(id), Cancelled)
    assert two.run(lambda: 1) == 1


def test_cancelling_what_ended_or_never_was_does_nothing(two) -> None:
    id = two.submit(lambda: 1)
    two.end(id)
    two.backend.cancel(id, "kill")
    two.backend.cancel(AttemptId("none", 0, 1), "kill")
    assert two.value(id) == 1


def test_an_error_beyond_measure_is_cut_and_the_node_stays(two) -> None:
    def fail() -> None:
        raise ValueError("x" * 80_000_000)

    end = two.end(two.submit(fail))
    assert isinstance(end, Failed)
    assert len(end.failure.message) == 200_000
    assert two.run(lambda: 1) == 1


# -- code ------------------------------------------------------------------------


def test_closures_and_classes_of_a_notebook_travel(two) -> None:
    main = vars(sys.modules["__main__"])
    exec(
        "class Point:\n    def __init__(self, x): self.x = x\n    def __eq__(self, other): return self.x == other.x",
        main,
    )
    try:
        point_class = main["Point"]
        offset = 3
        made = two.submit(lambda: point_class(offset), "alpha")
        moved = two.submit(lambda point: point_class(point.x + 1), "beta", [Source(made, "alpha")])
        assert two.value(moved, "beta").x == 4
    finally:
        del main["Point"]


def test_code_crosses_once_per_node(two, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = Sent(two, monkeypatch)
    token = object
    code = lambda: token.__name__  # noqa: E731
    for node in ("alpha", "beta", "alpha"):
        assert two.run(code, node) == "object"
    assert [name for name, _ in sent.of("load")] == ["alpha", "beta"]


def test_attempts_travel_together(two, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = Sent(two, monkeypatch)
    attempts = [two.attempt(lambda: None, "alpha") for _ in range(1000)]
    two.backend.submit(attempts)
    two.until(lambda: all(attempt.id in two.ends for attempt in attempts))
    assert [len(rows) for _, (rows,) in sent.of("submit")] == [512, 488]


def test_code_that_cannot_be_imported_there_fails_with_its_reason(two) -> None:
    class Broken:
        def pickled(self) -> bytes:
            return cloudpickle.dumps(print).replace(b"print", b"prant")

    two.backend.load({"broken": Broken()})
    attempt = two.attempt(lambda: None)
    id = AttemptId("run", -1, 1)
    two.backend.submit([type(attempt)(id, "alpha", "broken", ("broken",))])
    end = two.end(id)
    assert isinstance(end, Failed)
    assert end.failure.kind == FailureKind.CODE


# -- values ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_given_value_reaches_a_node(two, size: int) -> None:
    key = AttemptId("given", size, 0)
    two.backend.put(key, Live(bytes(size)))
    assert two.run(len, "beta", [Source(key, HERE)]) == size
    moved = [event for event in two.of(Transferred) if event.key == key]
    assert [(event.source, event.target) for event in moved] == ([(HERE, "beta")] if size > 16384 else [])


def test_a_freed_value_is_nowhere(two) -> None:
    made = two.submit(lambda: bytes(50_000), "alpha")
    assert len(two.run(lambda x: x, "beta", [Source(made, "alpha")])) == 50_000
    two.backend.free([made])
    for node in ("alpha", "beta", HERE):
        assert isinstance(two.get(made, node), Failure)


def test_a_value_of_a_node_that_never_was(two) -> None:
    got = two.get(AttemptId("none", 0, 1), "gamma")
    assert isinstance(got, Failure)
    assert "gamma" in got.message


# -- nodes -----------------------------------------------------------------------


def test_a_name_is_given_once(two) -> None:
    for name in ("alpha", "", " x"):
        with pytest.raises(BackendError):
            two.backend.add_node(name, {"cpu": 1}, {})


def test_more_capabilities_are_more_slots(two) -> None:
    two.backend.set_capabilities("beta", {"cpu": 2, "fpga": 1})
    two.until(lambda: two.of(NodeChanged))
    assert two.of(NodeChanged)[-1] == NodeChanged("beta", {"cpu": 2.0, "fpga": 1.0}, 2)
    assert two.backend.nodes()["beta"].slots == 2
    two.backend.set_capabilities("beta", {"cpu": 1})
    two.until(lambda: two.backend.nodes()["beta"].slots == 1)


def test_nodes_tell_what_they_use(two) -> None:
    seen = len(two.of(NodeLoad))
    two.until(lambda: {load.name for load in two.of(NodeLoad)[seen:]} == {"alpha", "beta"})
    assert all(load.memory > 10**6 for load in two.of(NodeLoad))


# -- the kernel ------------------------------------------------------------------


def test_cells_and_functions_share_the_kernels_namespace(two) -> None:
    messages, replies = [], []
    two.backend.run_cell("alpha", "x = 20\nprint('here')\nx + 1", messages.append, replies.append)
    two.until(lambda: replies)
    assert replies[0]["status"] == "ok"
    assert "".join(message["content"].get("text", "") for message in messages) == "here\n"

    def add() -> int:
        from IPython import get_ipython

        return get_ipython().user_ns["x"] + 22

    assert two.run(add, "alpha", runs_in="kernel") == 42


def test_a_cell_can_be_interrupted(two) -> None:
    messages, replies = [], []
    source = "print('go', flush=True)\nimport time\ntime.sleep(60)"
    two.backend.run_cell("beta", source, messages.append, replies.append)
    two.until(lambda: messages)
    two.backend.interrupt_cell("beta")
    two.until(lambda: replies)
    assert replies[0]["ename"] == "KeyboardInterrupt"


def test_an_output_beyond_measure_is_left_out_and_the_node_stays(two) -> None:
    messages, replies = [], []
    two.backend.run_cell("alpha", "'x' * 40_000_000", messages.append, replies.append)
    two.until(lambda: replies)
    assert "an output of 40 MB was left out" in messages[-1]["content"]["text"]
    assert two.run(lambda: 1) == 1


def test_a_reply_beyond_measure_is_cut_and_the_node_stays(two) -> None:
    messages, replies = [], []
    source = "class E(Exception):\n def _render_traceback_(self): return ['x' * 70_000_000]\nraise E('y')"
    two.backend.run_cell("beta", source, messages.append, replies.append)
    two.until(lambda: replies)
    assert (replies[0]["status"], replies[0]["ename"], replies[0]["evalue"]) == ("error", "E", "y")
    assert replies[0]["traceback"] == ["x" * 200_000]
    assert two.run(lambda: 1, "beta") == 1
    assert not two.lost


def test_the_name_of_an_exception_beyond_measure_is_cut_and_the_node_stays(two) -> None:
    def fail() -> None:
        raise type("x" * 80_000_000, (Exception,), {})

    end = two.end(two.submit(fail))
    assert isinstance(end, Failed)
    assert len(end.failure.type_name) == 200_000
    assert two.run(lambda: 1) == 1


def test_closing_ends_the_cells_that_run(make_rig) -> None:
    rig = make_rig(alpha={"cpu": 1})
    messages, replies = [], []
    rig.backend.run_cell("alpha", "print('go', flush=True)\nwhile True: pass", messages.append, replies.append)
    rig.until(lambda: messages)
    rig.backend.close()
    assert "the cluster was closed" in replies[0]["evalue"]
    rig.backend.run_cell("alpha", "1", messages.append, replies.append)
    assert replies[1]["status"] == "error"


def test_a_kernel_works_where_temporary_files_have_long_paths(
    make_rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 80)
    long.mkdir()
    for name in ("TMPDIR", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(long))
    monkeypatch.setattr("tempfile.tempdir", str(long))
    rig = make_rig(alpha={"cpu": 1})
    assert rig.run(lambda: 1, runs_in="kernel") == 1


def test_a_kernel_that_does_not_come_up_says_why(make_rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif '--HistoryManager.enabled=False' in sys.orig_argv: sys.exit('this kernel is broken')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    rig = make_rig(alpha={"cpu": 1})
    end = rig.end(rig.submit(lambda: 1, runs_in="kernel"))
    assert isinstance(end, Failed)
    assert end.failure.message.endswith("before it was ready: SystemExit: this kernel is broken")
    replies = []
    rig.backend.run_cell("alpha", "1", print, replies.append)
    rig.until(lambda: replies)
    assert replies[0]["evalue"].endswith("before it was ready: SystemExit: this kernel is broken")


def test_a_cell_for_a_node_that_is_not_there(two) -> None:
    replies = []
    two.backend.run_cell("gamma", "1", print, replies.append)
    assert replies[0]["status"] == "error"
