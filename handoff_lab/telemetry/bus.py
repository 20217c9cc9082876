"""Who wants to hear of which events. Handlers never hurt what they listen to."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

from handoff_lab.telemetry.encoding import described
from handoff_lab.telemetry.events import Event, EventName

Handler: TypeAlias = Callable[[EventName, dict[str, float], dict[str, Any], Any], object]

_log = logging.getLogger(__name__)
_span_ids = itertools.count(1)
_current_span: ContextVar[int | None] = ContextVar("handoff_span", default=None)


@dataclass(frozen=True, slots=True, eq=False)
class _Attached:
    id: Hashable
    prefix: EventName
    handler: Handler
    config: Any


class Bus:
    """Hands events to those who attached to them; safe to use from several threads.

    The module's own ``attach``, ``detach``, ``span`` and ``dispatch`` are those of one bus, the process's.
    """

    def __init__(
        self, *, wall_clock: Callable[[], float] = time.time, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._wall_clock = wall_clock
        self._clock = clock
        self._lock = threading.Lock()
        self._attached: dict[Hashable, _Attached] = {}
        self._routes: dict[EventName, tuple[_Attached, ...]] = {}

    def attach(self, handler_id: Hashable, event: Sequence[str], handler: Handler, config: Any = None) -> None:
        """Call ``handler(event, measurements, metadata, config)`` for every event whose name begins with ``event``.

        Events arrive in order, in a thread of their cluster's; a slow handler delays the next event, never a run.
        ``measurements`` always has ``"time"``, in wall-clock seconds. A handler that raises is detached with a
        ``RuntimeWarning``.

        Parameters
        ----------
        handler_id
            A name of your own, to detach it by.
        event
            Such as ``("handoff", "run", "start")``; ``("handoff",)`` for everything.
        config
            Handed to the handler as it is.

        Raises
        ------
        ValueError
            When the id is taken.

        Examples
        --------
        >>> bus = Bus(wall_clock=lambda: 7.0)
        >>> bus.attach("mine", ("handoff", "run"), lambda event, numbers, facts, config: print(event[-1], numbers))
        >>> bus.dispatch(Event(("handoff", "run", "start"), 7.0, {"functions": 3}))
        start {'time': 7.0, 'functions': 3}
        >>> bus.detach("mine")
        True
        """
        if isinstance(event, str):
            raise TypeError(f"an event is a tuple of names, such as ('handoff', 'run'); write ({event!r},)")
        if not callable(handler):
            raise TypeError(f"handler {handler_id!r} is not callable: {handler!r}")
        new = _Attached(handler_id, tuple(event), handler, config)
        with self._lock:
            if handler_id in self._attached:
                raise ValueError(f"handler id {handler_id!r} is taken; detach it first or choose another id")
            self._attached[handler_id] = new
            self._routes = {}

    def detach(self, handler_id: Hashable) -> bool:
        """Stop calling a handler; whether there was one of this id."""
        with self._lock:
            self._routes = {}
            return self._attached.pop(handler_id, None) is not None

    def listens(self, names: Iterable[EventName]) -> bool:
        """Whether anyone attached to events of these names."""
        return bool(self._attached) and any(self._route(name) for name in names)

    def dispatch(self, event: Event) -> None:
        """Hand ``event`` to everyone who attached to it."""
        if not self._attached:
            return
        for attached in self._route(event.name):
            self._call(attached, event)

    @contextlib.contextmanager
    def span(self, event: Sequence[str], metadata: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Dispatch ``(*event, "start")`` now, and ``"stop"`` or ``"exception"`` when the block ends.

        The metadata of all of them has ``span``, a number of its own, and ``parent``, the span around this one or
        None. What is put into the yielded dict is added to the metadata of the last.

        Examples
        --------
        >>> bus = Bus(clock=lambda: 0.0)
        >>> bus.attach("mine", ("app",), lambda event, numbers, facts, config: print(event, facts.get("rows")))
        >>> with bus.span(("app", "load")) as result:
        ...     result["rows"] = 12
        ('app', 'load', 'start') None
        ('app', 'load', 'stop') 12
        """
        own = {**(metadata or {}), "span": next(_span_ids), "parent": _current_span.get()}
        added: dict[str, Any] = {}
        name = tuple(event)
        self._emit((*name, "start"), {}, own)
        token = _current_span.set(own["span"])
        begin = self._clock()
        try:
            yield added
        except BaseException as error:
            story = {"type": type(error).__name__, "error": str(error), "traceback": traceback.format_exc()}
            self._emit((*name, "exception"), {"duration": self._clock() - begin}, {**own, **added, **story})
            raise
        else:
            self._emit((*name, "stop"), {"duration": self._clock() - begin}, {**own, **added})
        finally:
            _current_span.reset(token)

    def _emit(self, name: EventName, measurements: dict[str, float], metadata: dict[str, Any]) -> None:
        self.dispatch(Event(name, self._wall_clock(), measurements, metadata))

    def _route(self, name: EventName) -> tuple[_Attached, ...]:
        found = self._routes.get(name)
        if found is None:
            with self._lock:
                found = tuple(a for a in self._attached.values() if name[: len(a.prefix)] == a.prefix)
                self._routes[name] = found
        return found

    def _call(self, attached: _Attached, event: Event) -> None:
        # Copies: what one handler does to them must not reach the next, nor the run.
        measurements = {"time": event.time, **event.measurements}
        try:
            attached.handler(event.name, measurements, dict(event.metadata), attached.config)
        except KeyboardInterrupt:  # the user's own, in a span
            raise
        except BaseException as error:  # whatever it is, it ends here
            self._drop(attached, event, error)

    def _drop(self, attached: _Attached, event: Event, error: BaseException) -> None:
        with self._lock:
            if self._attached.get(attached.id) is attached:
                del self._attached[attached.id]
                self._routes = {}
        told = (
            f"telemetry handler {described(attached.id)} raised {described(error)} "
            f"at {'.'.join(event.name)} and was detached"
        )
        _log.warning(told, exc_info=error)
        with contextlib.suppress(RuntimeWarning):  # where warnings are errors, this one must not be
            warnings.warn(told, RuntimeWarning, stacklevel=4)


_bus = Bus()
attach = _bus.attach
detach = _bus.detach
listens = _bus.listens
dispatch = _bus.dispatch
span = _bus.span
