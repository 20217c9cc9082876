"""What a detached coordinator writes down beside the logs of its runs, so that another can go on in its place."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import pickle
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import msgpack  # type: ignore[import-untyped]

from handoff_lab.backends.kernels.site import Expected, Site
from handoff_lab.detached.place import Place
from handoff_lab.detached.protocol import failure_rows, read_end, read_failures
from handoff_lab.messages import Ended
from handoff_lab.scheduler.state import FinalFailure
from handoff_lab.transport.keys import KeyPair
from handoff_lab.transport.rows import optional, read_count
from handoff_lab.transport.wire import WireError, dump, load

log = logging.getLogger(__name__)

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
    def alone_since(self) -> float | None:
        """When the last client went, by the machine's monotonic clock; None: one was there."""
        data = self._place.read("alone")
        return float(data) if data else None

    @alone_since.setter
    def alone_since(self, moment: float | None) -> None:
        self._note("alone", b"" if moment is None else repr(moment).encode())

    @property
    def site(self) -> Site | None:
        """Where the coordinator before this one listened."""
        data = self._place.read("site")
        if data is None:
            return None
        facts = json.loads(data)
        server, joiner = (KeyPair(*facts[name]) for name in ("server", "joiner"))
        expected = tuple(Expected(*each) for each in facts["expected"])
        return Site(facts["lease_s"], server, joiner, facts["port"], Path(facts["directory"]), expected)

    @site.setter
    def site(self, site: Site) -> None:
        facts = {
            "lease_s": site.lease_s,
            "port": site.port,
            "directory": str(site.directory),
            "expected": site.expected,
        }
        keys = {name: [pair.public, pair.secret] for name, pair in (("server", site.server), ("joiner", site.joiner))}
        self._note("site", json.dumps({**facts, **keys}).encode())

    @property
    def nodes(self) -> dict[str, Whereabouts]:
        """Nodes that were there once, and where; None for one that was lost."""
        found: dict[str, Whereabouts] = json.loads(self._place.read("nodes") or b"{}")
        return found

    @nodes.setter
    def nodes(self, nodes: Mapping[str, Whereabouts]) -> None:
        self._note("nodes", json.dumps(nodes).encode())

    def _note(self, name: str, data: bytes) -> None:
        """Write what the next coordinator is to know; on a disk that is full this one goes on without."""
        try:
            self._place.write(name, data)
        except OSError as error:
            log.warning("what comes after a kill may go wrong: %r could not be written: %s", name, error)

    @property
    def tracker(self) -> Any:
        """The user's resource tracker, or None: a policy that the client handed over."""
        data = self._place.read("tracker")
        return None if data is None else pickle.loads(data)

    # -- runs --------------------------------------------------------------------

    def enter(self, run: str, order: Order) -> None:
        """Write down a run that begins."""
        self._place.write(_file(run, "order"), dump(order.frames))

    def order(self, run: str) -> Order:
        """A run as it was handed over."""
        return Order(*load(self._place.read(_file(run, "order")) or b""))

    def fail(self, run: str, failures: Iterable[tuple[int, FinalFailure]], *, anew: bool) -> None:
        """Write down what failed for good: in place of what was written so far if ``anew``, else after it."""
        put = self._place.write if anew else self._place.append
        put(_file(run, "failures"), b"".join(map(dump, failure_rows(failures))))

    def failures(self, run: str) -> dict[int, FinalFailure]:
        """What failed for good."""
        return read_failures(self._rows(run, "failures"))

    def cancel(self, run: str, function: int | None) -> None:
        """Write down that a function of a run, or all of it, is to be cancelled."""
        self._place.append(_file(run, "cancelled"), dump(function))

    def cancelled(self, run: str) -> list[int | None]:
        """What was to be cancelled."""
        return list(map(optional(read_count), self._rows(run, "cancelled")))

    def finish(self, end: Ended) -> None:
        """Write down the end of a run."""
        self._place.write(_file(end.run, "end"), dump(end))

    def end(self, run: str) -> Ended | None:
        """The end of a run, if it is over."""
        data = self._place.read(_file(run, "end"))
        return None if data is None else read_end(load(data))

    def _rows(self, run: str, name: str) -> Iterator[Any]:
        """What was written one after the other; the last may have been cut off by a kill."""
        try:
            yield from msgpack.Unpacker(io.BytesIO(self._place.read(_file(run, name)) or b""))
        except (ValueError, msgpack.UnpackException, RecursionError) as error:
            raise WireError(f"no msgpack: {type(error).__name__}") from None

    def keep_log(self, run: str, path: Path) -> None:
        """See that the log of a run stays when older logs are cleared away."""
        with contextlib.suppress(OSError):  # it is on another file system
            (self._place.path / _file(run, "log")).hardlink_to(path)

    def log(self, run: str, path: Path) -> Path | None:
        """The log of a run that was at ``path``, where it is again; None if there is none any more, or never was."""
        kept = self._place.path / _file(run, "log")
        if not path.exists():
            if not kept.exists():
                return None
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
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
