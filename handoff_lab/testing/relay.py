"""``python -m handoff_lab.testing.relay``: what lies between hosts that are network namespaces.

Each host's only link is a TUN device, whose packets this process passes on, late, out of order or not at all: the
kernels of many machines have no netem. It takes JSON lines from its standard input, and ends when that does.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import random
import select
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

MTU = 1500
_DESTINATION = slice(16, 20)  # in the header of an IPv4 packet


@dataclass(frozen=True, slots=True)
class Line:
    """What becomes of packets that go one way between two hosts.

    ``loss`` is the share that gets lost, 1 for a line that is cut; ``jitter_s`` comes on top of the delay, by chance.
    """

    loss: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0


GOOD = Line()


class Relay:
    """Passes packets on between the TUN devices of hosts, given by their addresses."""

    def __init__(self, devices: Mapping[str, int], seed: int) -> None:
        self._devices = devices
        self._names = {socket.inet_aton(address): address for address in devices}
        self._random = random.Random(seed)
        self._lines: dict[tuple[str, str], Line] = {}
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
        if self._random.random() < line.loss:
            return
        device = self._devices[target]
        if line.delay_s or line.jitter_s:
            due = time.monotonic() + line.delay_s + self._random.uniform(0, line.jitter_s)
            heapq.heappush(self._late, (due, next(self._order), device, packet))
        else:
            os.write(device, packet)

    def _deliver_late(self) -> None:
        while self._late and self._late[0][0] <= time.monotonic():
            _, _, device, packet = heapq.heappop(self._late)
            os.write(device, packet)

    def _patience_ms(self) -> float | None:
        return max(0.0, self._late[0][0] - time.monotonic()) * 1000 if self._late else None


if __name__ == "__main__":
    seed, *pairs = sys.argv[1:]
    devices = {address: int(device) for address, _, device in (pair.partition("=") for pair in pairs)}
    Relay(devices, int(seed)).run(sys.stdin.fileno())
