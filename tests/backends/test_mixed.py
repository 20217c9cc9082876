"""What is the mixed backend's own: values that cross between this process and the kernels."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from handoff_lab import BackendError
from handoff_lab.backends.mixed import MixedBackend
from handoff_lab.messages import FailureKind, ResultLost, Source
from handoff_lab.store.payload import Frames
from handoff_lab.testing.bench import Bench

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    bench = Bench(MixedBackend({"local": {"cpu": 1}, "away": {"cpu": 1}}, name="test"), ("local", "away"))
    yield bench
    bench.close()


@pytest.mark.parametrize("early", [True, False])
def test_what_cannot_be_pickled_fails_those_who_need_it_elsewhere(bench: Bench, early: bool) -> None:
    lock = bench.attempt(threading.Lock, "local")
    if not early:
        bench.backend.submit([lock])
        bench.end(lock.id)
    users = [bench.submit(lambda lock: 1, node, [Source(lock.id, "local")]) for node in ("away", "local")]
    bench.backend.submit([lock])
    failure = bench.failure(users[0])
    assert (failure.kind, failure.retryable) == (FailureKind.INPUT, False)
    assert "what node 'local' made cannot be pickled" in failure.message
    assert bench.value(users[1], "local") == 1


def test_a_value_is_fetched_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    kernels = bench.backend._kernels  # type: ignore[attr-defined]
    get = kernels.get

    def counted(key: Any, node: str, reply: Any) -> None:
        asked.append(key)
        get(key, node, reply)

    monkeypatch.setattr(kernels, "get", counted)
    made = bench.submit(lambda: bytes(100_000), "away")
    users = [bench.submit(len, "local", [Source(made, "away")]) for _ in range(3)]
    assert [bench.value(user, "local") for user in users] == [100_000] * 3
    assert asked == [made]


def test_a_value_that_comes_when_its_run_is_forgotten_is_not_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies: list[Any] = []
    backend: Any = bench.backend
    made = bench.attempt(lambda: 1, "away")
    made.id = made.id._replace(run="forgotten")
    bench.backend.submit([made])
    bench.end(made.id)
    with monkeypatch.context() as patch:
        patch.setattr(backend._kernels, "get", lambda key, node, reply: replies.append(reply))
        user = bench.submit(len, "local", [Source(made.id, "away")])
    bench.backend.cancel(user, "interrupt")
    bench.end(user)
    bench.backend.forget("forgotten")
    replies[0](Frames.dump("late"))
    assert made.id not in backend._local


def test_a_result_that_is_gone_is_told_so_that_it_can_be_made_again(bench: Bench) -> None:
    made = bench.submit(lambda: bytes(100_000), "away")
    bench.end(made)
    bench.backend._kernels.free([made])  # type: ignore[attr-defined]
    bench.run(lambda: "meanwhile", "away")  # a node hears of it in its own time
    user = bench.submit(len, "local", [Source(made, "away")])
    assert bench.failure(user).kind is FailureKind.INPUT
    assert ResultLost(made, "away") in bench.events


def test_cells_need_a_kernel(bench: Bench) -> None:
    with pytest.raises(BackendError, match="'local' is this process and has no kernel"):
        bench.backend.run_cell("local", "1", print, print)  # type: ignore[attr-defined]
