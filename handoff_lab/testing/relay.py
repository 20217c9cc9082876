"""``python -m handoff_lab.testing.relay``: what lies between hosts that are network namespaces.

Each host's only link is a TUN device, whose packets this process passes on, late, out of order or not at all: the
kernels of many machines have no netem. It takes JSON lines from its standard input, and ends when that does.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import os
import random
import select
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

MTU = 1500
PATIENCE_S = 0.25  # that a packet waits for a narrow line, before it is dropped
_PROTOCOL = 9  # in the header of an IPv4 packet
_DESTINATION = slice(16, 20)


@dataclass(frozen=True, slots=True)
class Line:
    """What becomes of packets that go one way between two hosts.

    ``loss`` is the share that gets lost, 1 for a line that is cut; ``jitter_s`` comes on top of the delay, by chance;
    ``bandwidth`` is in bytes per second. Where it is not ``open``, no TCP connection can be begun this way, as to hosts
    behind a router that translates addresses.
    """

    loss: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    bandwidth: float = math.inf
    open: bool = True


GOOD = Line()


class Relay:
    """Passes packets on between the TUN devices of hosts, given by their addresses."""

    def __init__(self, devices: Mapping[str, int], seed: int) -> None:
        self._devices = devices
        self._names = {socket.inet_aton(address): address for address in devices}
        self._random = random.Random(seed)
        self._lines: dict[tuple[str, str], Line] = {}
        self._free: dict[tuple[str, str], float] = {}  # when a narrow line has passed on all that came
        self._late: list[tuple[float, int, int, bytes]] = []  # due, order, device, packet
        self._order = itertools.count()

    def run(self, commands: int) -> None:
        """Pass packets on until ``commands``, a descriptor, is at its end."""
        poller = select.poll()
        sources = {device: address for address, device in self._devices.items()}
        for descriptor in (commands, *sources):
            poller.register(descriptor, select.POLLIN)
        while True:
            for descriptor, _ in poller.poll(self._patience_ms()):
                if descriptor != commands:
                    self._pass_on(sources[descriptor], os.read(descriptor, MTU))
                elif not self._obey(commands):
                    return
            self._deliver_late()

    def _obey(self, commands: int) -> bool:
        lines = os.read(commands, 65536).splitlines()
        for line in lines:
            source, target, *fields = json.loads(line)
            self._lines[source, target] = Line(*fields)
        if lines:
            sys.stdout.write("done\n")
            sys.stdout.flush()
        return bool(lines)

    def _pass_on(self, source: str, packet: bytes) -> None:
        target = self._names.get(packet[_DESTINATION])
        if target is None or packet[0] >> 4 != 4:
            return
        line = self._lines.get((source, target), GOOD)
        if self._random.random() < line.loss or not (line.open or _goes_on(packet)):
            return
        if line.delay_s or line.jitter_s or line.bandwidth < math.inf:
            self._pass_on_late(source, target, line, packet)
        else:
            os.write(self._devices[target], packet)

    def _pass_on_late(self, source: str, target: str, line: Line, packet: bytes) -> None:
        now = time.monotonic()
        begun = max(now, self._free.get((source, target), 0.0))
        if begun > now + PATIENCE_S:
            return
        self._free[source, target] = due = begun + len(packet) / line.bandwidth
        due += line.delay_s + self._random.uniform(0, line.jitter_s)
        heapq.heappush(self._late, (due, next(self._order), self._devices[target], packet))

    def _deliver_late(self) -> None:
        while self._late and self._late[0][0] <= time.monotonic():
            _, _, device, packet = heapq.heappop(self._late)
            os.write(device, packet)

    def _patience_ms(self) -> float | None:
        return max(0.0, self._late[0][0] - time.monotonic()) * 1000 if self._late else None


def _goes_on(packet: bytes) -> bool:
    """Whether it does not begin a connection: that has SYN set, and not ACK."""
    flags = packet[(packet[0] & 0x0F) * 4 + 13] if packet[_PROTOCOL] == socket.IPPROTO_TCP else 0
    return flags & 0x12 != 0x02


if __name__ == "__main__":
    seed, *pairs = sys.argv[1:]
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)  # a busy machine is no bad line
    devices = {address: int(device) for address, _, device in (pair.partition("=") for pair in pairs)}
    Relay(devices, int(seed)).run(sys.stdin.fileno())
