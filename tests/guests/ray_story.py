"""What befalls a node on a host of Ray, told as JSON; run in a network namespace, because Ray listens everywhere."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import psutil
import ray

import handoff_lab as hl
from handoff_lab.resources import Resources
from tests.others import gone, soon


def tell(cluster: hl.Cluster) -> dict[str, Any]:
    (node,) = cluster.add_nodes_from("ray")
    dag = hl.DAG().add(hl.Function("where", os.getpid))
    story: dict[str, Any] = {
        "name": node.name,
        "capabilities": dict(Resources({**node.capabilities, "memory": 0})),
        "memory": node.capabilities["memory"],
        "again": cluster.add_nodes_from("ray"),
        "status": cluster.execute(dag).status,
    }
    waits = ray.remote(num_cpus=1)(lambda: "free").remote()
    story["waits"] = not ray.wait([waits], timeout=0.2)[0]
    cluster.remove_node(node.name)
    story["given back"] = ray.get(waits, timeout=60)

    (node,) = cluster.add_nodes_from("ray", {"cpu": 1})
    psutil.Process(node.pid).parent().kill()
    soon(lambda: not cluster.nodes)
    soon(gone([node.pid]))
    (node,) = cluster.add_nodes_from("ray", {"cpu": 1})
    ray.shutdown()
    soon(lambda: not cluster.nodes)
    soon(gone([node.pid]))
    return {**story, "ended": True}


def main(folder: Path) -> None:
    options: dict[str, Any] = {"_node_ip_address": "127.0.0.1", "_temp_dir": str(folder), "include_dashboard": False}
    ray.init(num_cpus=2, resources={"fpga": 3}, object_store_memory=80 * 2**20, log_to_driver=False, **options)
    with hl.Cluster({}) as cluster:
        sys.stdout.write(json.dumps(tell(cluster)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
