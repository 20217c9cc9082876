"""The hosts of a Ray cluster: a guest is a task that claims all the resources of a host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from handoff_lab._errors import BackendError
from handoff_lab.guests.host import stay
from handoff_lab.guests.places import Place, missing
from handoff_lab.node.options import NodeOptions
from handoff_lab.resources import Resources

_ITS_OWN = "object_store_memory"  # which no task can claim


class RayHosts:
    """Those of the Ray cluster that this process is connected to."""

    def __init__(self) -> None:
        try:
            import ray
        except ModuleNotFoundError:
            raise missing("ray", "ray") from None
        if not ray.is_initialized():
            raise BackendError("this process is not connected to Ray; call ray.init(address=...) first")

    def places(self) -> Sequence[Place]:
        """One for each host that has a cpu."""
        import ray

        known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        hosts = [host for host in known if host["Alive"] and host["Resources"].get("CPU")]
        return [Place(f"ray-{host['NodeName']}", f"ray {host['NodeID']}", host) for host in hosts]

    def capabilities(self, places: Sequence[Place], timeout_s: float) -> Mapping[str, Resources]:
        """What Ray was told that the hosts have."""
        return {place.name: capabilities_of(place.handle["Resources"]) for place in places}

    def lend(self, place: Place, options: NodeOptions) -> HostStay:
        """Claim a host for a task."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        has = claimable(place.handle["Resources"])
        task = ray.remote(stay).options(
            name=f"handoff node {place.name}",
            num_cpus=has.pop("CPU"),
            num_gpus=has.pop("GPU", 0),
            memory=has.pop("memory", 0),
            resources=has,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(place.handle["NodeID"], soft=False),
        )
        return HostStay(task.remote(options))


class HostStay:
    """A task on a host."""

    def __init__(self, task: Any) -> None:
        self._task = task

    def ended(self) -> str | None:
        """How the task ended."""
        import ray

        if not ray.wait([self._task], timeout=0)[0]:
            return None
        try:
            return str(ray.get(self._task))
        except ray.exceptions.RayError as error:
            return f"{type(error).__name__}: {error}"

    def cancel(self) -> None:
        """End the task, whether it runs or not."""
        import ray

        ray.cancel(self._task, force=True)


def claimable(resources: Mapping[str, float]) -> dict[str, float]:
    """What a task can claim of a host, without the names by which Ray knows hosts and kinds of devices.

    >>> claimable({"CPU": 2.0, "memory": 1e9, "node:10.0.0.1": 1.0, "object_store_memory": 1e9})
    {'CPU': 2.0, 'memory': 1000000000.0}
    """
    return {name: amount for name, amount in resources.items() if ":" not in name and name != _ITS_OWN}


def capabilities_of(resources: Mapping[str, float]) -> Resources:
    """A node's capabilities from Ray's resources of a host.

    >>> capabilities_of({"CPU": 2.0, "memory": 1e9, "GPU": 1.0, "fpga": 2.0})
    Resources({'cpu': 2, 'gpu': 1, 'fpga': 2, 'memory': 1000})
    """
    has = claimable(resources)
    known = {"CPU": "cpu", "GPU": "gpu"}
    named = {known.get(name, name): amount for name, amount in has.items() if name != "memory"}
    return Resources({**named, **({"memory": has["memory"] / 10**6} if "memory" in has else {})})
