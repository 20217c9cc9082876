"""GPUs from one end to the other: real nodes on a machine whose NVML is a fake, see ``tests/fakes``."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import handoff_lab as hl
from handoff_lab.telemetry import RunRecord
from handoff_lab.telemetry.encoding import Encoder, parse_line
from handoff_lab.telemetry.gpus import GpuUseRecord
from handoff_lab.widgets.cluster_widget import ClusterWidget

pytestmark = pytest.mark.real
FAKES = Path(__file__).parent / "fakes"
GPUS = [
    {"uuid": f"GPU-{i}", "memory": memory, "used": 5 * 10**8, "percent": 40 + i}
    for i, memory in enumerate([16 * 10**9] * 3 + [80 * 10**9])
]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Four GPUs, of which an administrator gives three, in an order of its own."""
    place = tmp_path_factory.mktemp("nvml")
    (place / "gpus.json").write_text(json.dumps(GPUS))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAKES))
        patch.delitem(sys.modules, "pynvml", raising=False)
        patch.setenv("FAKE_NVML", str(place))
        patch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-0,1")
        yield place
        sys.modules.pop("pynvml", None)


@pytest.fixture(scope="module")
def cluster(machine: Path) -> Iterator[hl.Cluster]:
    """A node with two of them, one with the third, one without."""
    nodes = {
        "two": {"cpu": 2, "gpu": 2, "gpu_memory": "96GB"},
        "one": {"cpu": 1, "gpu": 1, "gpu_memory": "16GB"},
        "none": {"cpu": 1},
    }
    with hl.Cluster(nodes) as cluster:
        yield cluster


def sight() -> Any:
    import os

    return os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("CUDA_DEVICE_ORDER")


def seen_by(cluster: hl.Cluster, *functions: dict[str, Any]) -> list[Any]:
    dag = hl.DAG("sight").add(*[hl.Function(i, sight, **options) for i, options in enumerate(functions)])
    run = cluster.execute(dag)
    return [run.results[i][0] for i in range(len(functions))]


def test_nodes_share_the_machine_and_functions_their_node(cluster: hl.Cluster) -> None:
    seen = seen_by(
        cluster,
        {"node": "two", "cost": {"gpu": 1}},
        {"node": "two", "cost": {"gpu": 2}},
        {"node": "one", "cost": {"gpu": 0.5}},
        {"node": "two"},
        {"node": "two", "cost": {"gpu": 1}, "runs_in": "kernel"},
        {"node": "none"},
    )
    assert seen[0] in ("3", "GPU-0")
    assert seen[1:] == ["3,GPU-0", "1", "", "3,GPU-0", "3,GPU-0,1"]


def test_memory_is_of_one_gpu_each(cluster: hl.Cluster) -> None:
    assert seen_by(cluster, {"cost": {"gpu": 0.5, "gpu_memory": "40GB"}}) == ["3"], "the others have 16"
    with pytest.raises(hl.AllocationError, match="gpu_memory"):
        seen_by(cluster, {"cost": {"gpu": 1, "gpu_memory": "50GB"}})
    with pytest.raises(hl.FunctionFailedError, match="sees no GPUs that hold gpu 2, gpu_memory 40000 MB"):
        seen_by(cluster, {"cost": {"gpu": 2, "gpu_memory": "40GB"}})


def test_what_is_used_is_seen_everywhere(cluster: hl.Cluster, machine: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    end = os.open(gate, os.O_RDWR)

    def work(place: str, gate: str) -> None:
        import os

        index = os.environ["CUDA_VISIBLE_DEVICES"].replace("GPU-", "")
        mine = Path(place) / str(os.getpid())
        mine.write_text(index, encoding="utf-8")
        with open(gate, "rb", buffering=0) as wait:
            wait.read(1)
        mine.unlink()

    dag = hl.DAG("work").add(
        hl.Function("work", work, extra_args=[str(machine), str(gate)], node="one", cost={"gpu": 1})
    )
    told = threading.Event()

    def hear(event: Any, measurements: Any, metadata: Any, config: Any) -> None:
        if any(gpu["functions"] and gpu["memory"] == 15 * 10**8 for gpu in metadata.get("gpus", ())):
            told.set()

    hl.telemetry.attach(
        "gpus",
        ("handoff", "resource", "utilization"),
        hear,
    )
    try:
        run = cluster.submit(dag)
        assert told.wait(60)
        node = cluster.nodes["one"]
        widget = ClusterWidget(cluster)
        shown = widget._rows["one"].bars.value
        widget.close()
    finally:
        hl.telemetry.detach("gpus")
        os.write(end, b"x")
    run.wait(60)
    os.close(end)
    assert [(gpu.gpu, gpu.percent, gpu.memory, gpu.total) for gpu in node.gpus] == [("1", 41.0, 15 * 10**8, 16 * 10**9)]
    assert node.load is not None
    assert (node.load["gpu"], node.load["gpu_memory"]) == (0.41, 1500)
    assert "GPU 1: 41 % busy, 1.5 GB of 16 GB, 1 function" in shown
    encoder = Encoder()
    written = [parse_line(encoder.line(event)) for event in run.record.events]
    for record in (run.record, RunRecord.from_events(written)):
        uses = {use for gpu in record.gpus for use in gpu.functions}
        assert uses == {GpuUseRecord("work", 1, 50.0, 10**9)}
    used = hl.visualization.resource_utilization(run)["nodes"]["one"]
    assert used["gpu"]["used"][-1][1] == 0.41
    assert max(memory for _, memory in used["gpu_memory"]["used"]) == 1500


def test_gpus_are_given_back_with_their_node(cluster: hl.Cluster) -> None:
    cluster.remove_node("one", drain=False)
    cluster.add_node({"cpu": 1, "gpu": 1}, "another")
    assert seen_by(cluster, {"node": "another", "cost": {"gpu": 1}}) == ["1"]
    cluster.add_node({"cpu": 1, "gpu": 1}, "too-many")
    assert seen_by(cluster, {"node": "too-many", "cost": {"gpu": 1}}) == ["3"], "there is none left: it sees all"
