"""The end of a socket: what was sent last arrives, and libzmq does not abort the process for a peer that dies then."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import zmq

from handoff_lab.transport.loop import Loop
from handoff_lab.transport.sockets import Heartbeat, Watch

pytestmark = pytest.mark.real


def talk_and_do_not_listen(port: int, line: Connection) -> None:
    """Send again and again, and read nothing: what is sent here is not delivered."""
    socket = zmq.Context().socket(zmq.DEALER)
    socket.rcvhwm = 1
    socket.setsockopt(zmq.RCVBUF, 4096)
    socket.connect(f"tcp://127.0.0.1:{port}")
    line.send(os.getpid())
    while True:
        socket.send(b"more")
        time.sleep(0.005)


def end_while_a_peer_dies() -> None:
    """What aborts the process with ``linger``."""
    here, there = multiprocessing.Pipe()
    loop = Loop()
    socket = loop.context.socket(zmq.ROUTER)
    socket.linger = socket.rcvhwm = socket.sndhwm = 0
    socket.setsockopt(zmq.SNDBUF, 4096)
    Heartbeat(every_s=0.02, timeout_s=30.0).apply(socket)
    watch = Watch(loop, socket, zmq.EVENT_DISCONNECTED, lambda event, value: None)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    peer = multiprocessing.get_context("fork").Process(target=talk_and_do_not_listen, args=(port, there), daemon=True)
    peer.start()
    identity, _ = socket.recv_multipart()
    for _ in range(100):
        socket.send_multipart([identity, bytes(100_000)])
    watch.farewell(1, 0.1)
    socket.close()
    os.kill(here.recv(), signal.SIGKILL)
    peer.join()
    loop.close()
    time.sleep(0.2)  # ten heartbeats
    os.write(1, b"alive")


def test_a_peer_that_dies_during_the_farewell_does_not_end_this_process() -> None:
    code = "from tests.transport.test_farewell import end_while_a_peer_dies as end; end()"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, b"alive"), done.stderr
