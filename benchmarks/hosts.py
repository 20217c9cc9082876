"""1 GB from one host to another, as two network namespaces, beside a bare pair of pyzmq sockets with CURVE.

The pair sends messages of 1 MB, because it is far slower with one of 1 GB. It either puts them together into an array,
as handoff_lab does, or (``wire``) drops them as they come. Each engine sends the same array in turn, each time from and
to fresh processes; small values are read from ours all the while, one after the other, to see how long they wait behind
the large one. Needs root and ``ip``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from handoff_lab.messages import AttemptId
from handoff_lab.store import Frames
from handoff_lab.store.memory import MemoryStore
from handoff_lab.store.segments import SegmentMaker
from handoff_lab.testing.hosts import Host
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.peers import Member, Peers
from handoff_lab.transport.zap import Admission

ADDRESSES = ("10.213.7.1", "10.213.7.2")
PORT = 5599
PIECE = 2**20  # bytes of a message of the bare pair
LARGE, WARM = AttemptId("large", 0, 1), AttemptId("warm", 0, 1)
PAUSE_S = 0.005  # between two small values
TIMEOUT_S = 600.0


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two network namespaces with a wire between them."""
    with Host() as one, Host() as other:
        wire = f"link add hlb0 netns {one.pid} type veth peer name hlb1 netns {other.pid}"
        subprocess.run(["ip", *wire.split()], check=True)
        for host, link, address in zip((one, other), ("hlb0", "hlb1"), ADDRESSES, strict=True):
            host.ip(f"addr add {address}/24 dev {link}")
            host.ip(f"link set {link} up")
        yield one, other


def measure(engine: str, nbytes: int, hosts: tuple[Host, Host]) -> dict[str, Any]:
    """One sample."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--engine", engine, "--bytes", str(nbytes), "--folder", folder, "--host"]
        sender = subprocess.Popen(hosts[0].command([*command, "0"]))
        try:
            reader = hosts[1].command([*command, "1"])
            found = subprocess.run(reader, check=True, stdout=subprocess.PIPE, timeout=TIMEOUT_S)
        finally:
            sender.kill()
            sender.wait()
    return json.loads(found.stdout)


def exchange(folder: Path, host: int, mine: Any) -> Any:
    """Tell the other what it has to know, and hear the same of it."""
    partial = folder / f"{host}.tmp"
    partial.write_text(json.dumps(mine))
    partial.rename(folder / str(host))
    other = folder / str(1 - host)
    while not other.exists():
        time.sleep(0.01)
    return json.loads(other.read_text())


# -- the bare pair ---------------------------------------------------------------


def wire(host: int, folder: Path, nbytes: int) -> dict[str, Any]:
    return pair(host, folder, nbytes, lambda at, piece: None)


def bare(host: int, folder: Path, nbytes: int) -> dict[str, Any]:
    array = memoryview(np.empty(nbytes, np.uint8))

    def put(at: int, piece: memoryview) -> None:
        array[at : at + len(piece)] = piece

    return pair(host, folder, nbytes, put)


def pair(host: int, folder: Path, nbytes: int, take: Callable[[int, memoryview], None]) -> dict[str, Any]:
    context = zmq.Context()
    socket = context.socket(zmq.PAIR)
    keys = KeyPair.generate()
    socket.curve_publickey, socket.curve_secretkey = keys.public.encode(), keys.secret.encode()
    if host == 0:
        socket.curve_server = True
        socket.bind(f"tcp://{ADDRESSES[0]}:{PORT}")
        exchange(folder, host, keys.public)
        data = memoryview(np.ones(nbytes // 8)).cast("B")
        socket.recv()
        for at in range(0, nbytes, PIECE):
            socket.send(data[at : at + PIECE], copy=False)
        time.sleep(3600)
    socket.curve_serverkey = exchange(folder, host, keys.public).encode()
    socket.connect(f"tcp://{ADDRESSES[0]}:{PORT}")
    started, cpu, got = time.monotonic(), time.process_time(), 0
    socket.send(b"go")
    while got < nbytes:
        piece = socket.recv(copy=False).buffer
        take(got, piece)
        got += len(piece)
    return {"seconds": time.monotonic() - started, "cpu": time.process_time() - cpu, "waits": []}


# -- ours ------------------------------------------------------------------------


def ours(host: int, folder: Path, nbytes: int) -> dict[str, Any]:
    loop, keys, store = Loop(), KeyPair.generate(), MemoryStore()
    peers = Peers(loop, keys, Admission(loop), store, ADDRESSES[host])
    peers.open_mailbox(folder / f"mailbox-{host}")
    if host == 0:
        maker = SegmentMaker()
        store.put(LARGE, Frames(maker.share(Frames.dump(np.ones(nbytes // 8)).buffers)))
        store.put(WARM, Frames.dump(0))
        for number in range(100_000):
            store.put(AttemptId("small", number, 1), Frames.dump(number))
    peers.add(Member(*exchange(folder, host, [str(host), keys.public, peers.endpoint])))
    if host == 0:
        loop.run()
    return _Reader(loop, peers).measure(nbytes)


class _Reader:
    def __init__(self, loop: Loop, peers: Peers) -> None:
        self._loop = loop
        self._read: Callable[..., None] = peers.read
        self._waits: list[float] = []
        self._number = 0

    def measure(self, nbytes: int) -> dict[str, Any]:
        self._wait_for(WARM)
        started, cpu = time.monotonic(), time.process_time()
        self._loop.call_later(PAUSE_S, self._ask)
        value = self._wait_for(LARGE)
        found = {"seconds": time.monotonic() - started, "cpu": time.process_time() - cpu, "waits": self._waits}
        assert value.load().sum() == nbytes // 8
        return found

    def _wait_for(self, key: AttemptId) -> Any:
        got: list[Any] = []
        self._read("0", key, got.append)
        while not got:
            self._loop.run_once()
        return got[0]

    def _ask(self) -> None:
        asked = time.monotonic()

        def arrived(value: object) -> None:
            self._waits.append(time.monotonic() - asked)
            self._loop.call_later(PAUSE_S, self._ask)

        self._read("0", AttemptId("small", self._number, 1), arrived)
        self._number += 1


ENGINES = {"wire": wire, "bare": bare, "handoff_lab": ours}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=10**9)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--host", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        print(json.dumps(ENGINES[options.engine](options.host, options.folder, options.bytes)))
        return
    with two_hosts() as hosts:
        rounds = [{engine: measure(engine, options.bytes, hosts) for engine in ENGINES} for _ in range(options.repeat)]
    speeds = {e: statistics.median(options.bytes / found[e]["seconds"] / 1e9 for found in rounds) for e in ENGINES}
    waits = sorted(wait for found in rounds for wait in found["handoff_lab"]["waits"])
    for engine, speed in speeds.items():
        cpu = statistics.median(found[engine]["cpu"] for found in rounds)
        print(f"{engine:12} {speed:.3f} GB/s, {speed / speeds['bare']:.0%} of the bare pair; reader's cpu {cpu:.2f} s")
    print(f"small values waited {statistics.median(waits) * 1000:.1f} ms (median), {waits[-1] * 1000:.1f} ms at most")


if __name__ == "__main__":
    main()
