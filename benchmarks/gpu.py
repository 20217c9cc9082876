"""Functions on real GPUs: what each sees, two that share one, what is measured meanwhile, and what starting costs.

``python benchmarks/gpu.py`` on a machine with an NVIDIA GPU, its driver and ``handoff_lab[gpu]``. Ends with 1 if
something is not as ``docs/gpus.md`` says.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from cuda import NO_DEVICE, Cuda, CudaError

from handoff_lab import DAG, Cluster, Function, Run
from handoff_lab.resources.devices import Device
from handoff_lab.resources.gpus import find_gpus

N = 1 << 16
ROUNDS = 1000
LONG_S = 3.0  # of functions that are to be seen by NVML, which looks once a second
WARM = 50  # functions one after the other


def compute(seconds: float = 0.0, device: int = 0) -> Mapping[str, Any]:
    """Count on a GPU, again and again for so long; what was seen."""
    cuda, started = Cuda(), time.time()
    while True:
        right = cuda.count(N, ROUNDS, device) == [float(ROUNDS)] * N
        if not right or time.time() - started >= seconds:
            break
    return {
        "gpus": cuda.uuids(), "visible": os.environ.get("CUDA_VISIBLE_DEVICES"), "right": right, "pid": os.getpid(),
        "started": started, "ended": time.time(),
    }  # fmt: skip


def blind() -> bool:
    """Whether CUDA finds no GPU."""
    try:
        return Cuda().uuids() == []
    except CudaError as error:
        return error.code == NO_DEVICE


def main() -> int:
    gpus = find_gpus()
    if not gpus:
        print("NVML finds no GPU here")
        return 0
    results = []
    node = {"cpu": 4, "gpu": len(gpus), "gpu_memory": sum(gpu.memory for gpu in gpus)}
    with tempfile.TemporaryDirectory(prefix="bench-") as logs, Cluster({"a": node}, log_directory=logs) as cluster:
        for check in (_one, _two_share, _all, _none, _in_kernel, _wants_too_much, _starts):
            ok, told = check(cluster, gpus)
            results.append(ok)
            print(f"{'ok ' if ok else 'BAD'} {check.__doc__} {told}", flush=True)
    return 0 if all(results) else 1


def _run(cluster: Cluster, *functions: tuple[Callable[..., Any], Mapping[str, Any]]) -> Run:
    dag = DAG("gpu").add(*[Function(f"f{i}", code, **options) for i, (code, options) in enumerate(functions)])
    return cluster.execute(dag, max_retries=0)


def _one(cluster: Cluster, gpus: tuple[Device, ...]) -> tuple[bool, str]:
    """A function with a GPU computes right and sees that one."""
    seen = _run(cluster, (compute, {"cost": {"gpu": 1}})).results["f0"]
    return seen["right"] and len(seen["gpus"]) == 1, f"CUDA_VISIBLE_DEVICES={seen['visible']}, {seen['gpus']}"


def _two_share(cluster: Cluster, gpus: tuple[Device, ...]) -> tuple[bool, str]:
    """Two with half a GPU each run on one, at the same time, and NVML tells them apart."""
    half = (compute, {"cost": {"gpu": 0.5}, "extra_args": [LONG_S]})
    run = _run(cluster, half, half)
    one, other = run.results["f0"], run.results["f1"]
    together = min(one["ended"], other["ended"]) - max(one["started"], other["started"])
    uses = {(use.function, use.percent, use.memory) for gpu in run.record.gpus for use in gpu.functions}
    busiest = max((gpu.percent or 0.0 for gpu in run.record.gpus), default=0.0)
    ok = one["right"] and other["right"] and one["gpus"] == other["gpus"] and one["pid"] != other["pid"]
    told = f"{together:.1f} s together on {one['gpus']}; NVML: up to {busiest:.0f} % busy, {sorted(uses, key=str)}"
    return ok and together > LONG_S / 2 and busiest > 0, told


def _all(cluster: Cluster, gpus: tuple[Device, ...]) -> tuple[bool, str]:
    """A function with all GPUs computes on each."""
    run = _run(cluster, (_on_each, {"cost": {"gpu": len(gpus)}}))
    seen = run.results["f0"]
    return len(seen) == len(gpus) and all(one["right"] for one in seen), f"{len(seen)} GPUs"


def _on_each() -> list[Mapping[str, Any]]:
    return [compute(device=device) for device in range(len(Cuda().uuids()))]


def _none(cluster: Cluster, gpus: tuple[Device, ...]) -> tuple[bool, str]:
    """A function that claims none sees none."""
    found = _run(cluster, (blind, {})).results["f0"]
    return found, "none" if found else "some"


def _in_kernel(cluster: Cluster, gpus: tuple[Device, ...]) -> tuple[bool, str]:
    """A function in the kernel sees all."""
    seen = _run(cluster, (compute, {"cost": {"gpu": 1}, "runs_in": "kernel"})).results["f0"]
    return seen["right"] and len(seen["gpus"]) == len(gpus), f"{len(seen['gpus'])} GPUs"


def _wants_too_much(cluster: Cluster, gpus: tuple[Device, ...]) -> tuple[bool, str]:
    """More memory than a GPU has is refused before anything runs."""
    try:
        _run(cluster, (compute, {"cost": {"gpu": 1, "gpu_memory": 2 * max(gpu.memory for gpu in gpus)}}))
    except Exception as error:
        return type(error).__name__ == "AllocationError", str(error)
    return False, "it ran"


def _starts(cluster: Cluster, gpus: tuple[Device, ...]) -> tuple[bool, str]:
    """A slot with a CUDA context is used again."""
    dag = DAG("starts")
    for number in range(WARM):
        args = [number - 1] if number else []
        dag.add(Function(number, lambda *before: compute(), args, cost={"gpu": 1}))
    run = cluster.execute(dag)
    took = [run.durations[number] for number in range(WARM)]
    pids = {run.results[number]["pid"] for number in range(WARM)}
    return len(pids) == 1, f"the first took {took[0] * 1e3:.0f} ms, the others {median(took[1:]) * 1e3:.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
