"""How nodes of one machine share its GPUs."""

from __future__ import annotations

import pytest

from handoff_lab import nodes
from handoff_lab.backends.kernels import gpus
from handoff_lab.backends.kernels.gpus import LocalGpus
from handoff_lab.nodes import name_nodes
from handoff_lab.resources import Resources
from handoff_lab.resources.devices import Device


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> LocalGpus:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    monkeypatch.setattr(gpus, "find_gpus", lambda: tuple(Device(id) for id in "012"))
    return LocalGpus()


def seen(local: LocalGpus, node: str, count: float) -> str | None:
    return local.environment(node, {"gpu": count}).get("CUDA_VISIBLE_DEVICES")


def test_each_has_its_own_and_parts_share_one(local: LocalGpus) -> None:
    assert [seen(local, "a", 0.5), seen(local, "b", 2), seen(local, "c", 0.5)] == ["0", "1,2", "0"]


def test_a_node_without_gpus_looks_for_none(local: LocalGpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "find_gpus", lambda: pytest.fail("nobody asked"))
    assert local.environment("a", {"cpu": 4}) == {}


def test_a_node_that_starts_again_has_its_own_again(local: LocalGpus) -> None:
    assert [seen(local, "a", 2), seen(local, "a", 2)] == ["0,1", "0,1"]
    local.give_back("a")
    local.give_back("a")
    assert seen(local, "b", 3) == "0,1,2"


def test_where_too_few_are_left_a_node_sees_all(local: LocalGpus, caplog: pytest.LogCaptureFixture) -> None:
    assert [seen(local, "a", 2), seen(local, "b", 2)] == ["0,1", None]
    assert "'b' offers 2 GPUs" in caplog.text


@pytest.mark.parametrize(("count", "gpu", "memory"), [(1, 3, 48), (2, 1, 16), (3, 1, 16), (6, 0.5, 8)])
def test_equal_nodes_get_equal_parts(count: int, gpu: float, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Resources({"cpu": 12, "gpu": 3, "gpu_memory": 48})
    monkeypatch.setattr(nodes, "probe_machine", lambda: machine)
    shares = set(name_nodes(count).values())
    assert shares == {Resources({"cpu": 12 // count, "gpu": gpu, "gpu_memory": memory})}


def test_gpus_that_cannot_be_told_apart_are_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gpus, "find_gpus", lambda: ())
    monkeypatch.setattr(gpus, "why_only_counted", lambda: "functions see all of them")
    local = LocalGpus()
    assert [local.environment(node, {"gpu": 1}) for node in "ab"] == [{}, {}]
    assert [record.getMessage() for record in caplog.records] == [
        "node 'a' offers 1 GPUs, and functions see all of them"
    ]
