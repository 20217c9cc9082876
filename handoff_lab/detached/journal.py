"""What a detached coordinator writes down beside the logs of its runs, so that another can go on in its place."""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import msgpack  # type: ignore[import-untyped]

from handoff_lab.backends.kernels.site import Site
from handoff_lab.detached.place import Place
from handoff_lab.detached.protocol import end_row, failure_rows, read_end, read_failures
from handoff_lab.messages import Ended
from handoff_lab.scheduler.state import FinalFailure
from handoff_lab.transport.keys import KeyPair

Whereabouts: TypeAlias = tuple[str, int] | None  # host and process


@dataclass(frozen=True, slots=True)
class Order:
    """A run as its client handed it over."""

    outline: bytes  # see ``outline``
    options: bytes  # pickled ``RunOptions``
    parts: bytes  # code and values: see ``protocol``
    face: bytes  # for clients only

    @property
    def frames(self) -> list[bytes]:
        """What crosses."""
        return [self.outline, self.options, self.parts, self.face]


class Journal:
    """The coordinator's part of a place. Each file is written at once or not at all."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def begin(self) -> int:
        """Another coordinator begins; how many there were before it."""
        count = int(self._place.read("generation") or 0)
        self._place.write("generation", str(count + 1).encode())
        return count

    @property
    def site(self) -> Site | None:
        """Where the coordinator before this one listened."""
        data = self._place.read("site")
        if data is None:
            return None
        facts = json.loads(data)
        server, joiner = (KeyPair(*facts[name]) for name in ("server", "joiner"))
        return Site(facts["lease_s"], server, joiner, facts["port"], Path(facts["directory"]))

    @site.setter
    def site(self, site: Site) -> None:
        facts = {"lease_s": site.lease_s, "port": site.port, "directory": str(site.directory)}
        keys = {name: [pair.public, pair.secret] for name, pair in (("server", site.server), ("joiner", site.joiner))}
        self._place.write("site", json.dumps({**facts, **keys}).encode())

    @property
    def nodes(self) -> dict[str, Whereabouts]:
        """Nodes that were there once, and where; None for one that was lost."""
        found: dict[str, Whereabouts] = json.loads(self._place.read("nodes") or b"{}")
        return found

    @nodes.setter
    def nodes(self, nodes: Mapping[str, Whereabouts]) -> None:
        self._place.write("nodes", json.dumps(nodes).encode())

    @property
    def tracker(self) -> Any:
        """The user's resource tracker, or None: a policy that the client handed over."""
        data = self._place.read("tracker")
        return None if data is None else pickle.loads(data)

    # -- runs --------------------------------------------------------------------

    def enter(self, run: str, order: Order) -> None:
        """Write down a run that begins."""
        self._place.write(_file(run, "order"), msgpack.packb(order.frames))

    def order(self, run: str) -> Order:
        """A run as it was handed over."""
        return Order(*msgpack.unpackb(self._place.read(_file(run, "order")) or b""))

    def fail(self, run: str, failures: Iterable[tuple[int, FinalFailure]]) -> None:
        """Write down what failed for good so far."""
        self._place.write(_file(run, "failures"), msgpack.packb(failure_rows(failures)))

    def failures(self, run: str) -> dict[int, FinalFailure]:
        """What failed for good."""
        data = self._place.read(_file(run, "failures"))
        return {} if data is None else read_failures(msgpack.unpackb(data))

    def finish(self, end: Ended) -> None:
        """Write down the end of a run."""
        self._place.write(_file(end.run, "end"), msgpack.packb(end_row(end)))

    def end(self, run: str) -> Ended | None:
        """The end of a run, if it is over."""
        data = self._place.read(_file(run, "end"))
        return None if data is None else read_end(msgpack.unpackb(data))

    def keep_log(self, run: str, path: Path) -> None:
        """See that the log of a run stays when older logs are cleared away."""
        with contextlib.suppress(OSError):  # it is on another file system
            (self._place.path / _file(run, "log")).hardlink_to(path)

    def log(self, run: str, path: Path) -> Path:
        """The log of a run that was at ``path``, where it is again."""
        kept = self._place.path / _file(run, "log")
        if not path.exists() and kept.exists():
            path.hardlink_to(kept)
        return path

    def drop(self, run: str) -> None:
        """Forget a run."""
        shutil.rmtree(self._place.path / f"run-{run}", ignore_errors=True)

    def runs(self) -> Iterator[str]:
        """The runs that were begun, oldest first."""
        orders = self._place.path.glob("run-*/order")
        for path in sorted(orders, key=lambda path: path.stat().st_mtime_ns):
            yield path.parent.name.removeprefix("run-")


def _file(run: str, name: str) -> str:
    return f"run-{run}/{name}"
