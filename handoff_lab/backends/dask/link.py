"""The connection to Dask: a client of our own, whose loop runs in another thread, spoken to from the coordinator's."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from handoff_lab._errors import BackendError
from handoff_lab.transport.loop import Loop

Answer: TypeAlias = Callable[[Any], None]  # takes a result, or the exception

CONNECT_S = 10.0
FAREWELL_S = 2.0

log = logging.getLogger(__name__)


def import_distributed() -> Any:
    """The module ``distributed``."""
    try:
        import distributed
    except ImportError as error:
        raise BackendError('backend="dask" needs Dask: pip install "handoff_lab[dask]"') from error
    return distributed


class Link:
    """A client of the scheduler that ``given`` names.

    A client of our own, because a client has one handler for each topic and is closed by whoever made it.

    Parameters
    ----------
    given
        An address, a ``Client``, or a Dask cluster of whatever kind.
    loop
        The coordinator's; everything that Dask says is handed over there.
    """

    def __init__(self, given: Any, loop: Loop) -> None:
        distributed = import_distributed()
        address, security = _address_of(given)
        known = security or distributed.Security()  # what Dask's configuration says
        if address.startswith("tls://") and known.get_connection_args("client")["ssl_context"] is None:
            raise BackendError(f"{address} asks for TLS: give client=, a Client made with security=, not address=")
        self.address = address
        self.loop = loop
        self._told: list[tuple[Answer, Any]] = []
        self._lock = threading.Lock()
        self._listeners: dict[str, Answer] = {}  # by topic
        try:
            self.client = distributed.Client(
                address, security=security, name="handoff_lab", set_as_default=False, timeout=CONNECT_S
            )
        except (OSError, TimeoutError, ValueError, RuntimeError) as error:
            raise BackendError(
                f"no Dask scheduler answers at {address}: {error}; is it running, and can it be reached from here?"
            ) from error
        self._stream = self.client.scheduler_comm

    def close(self, farewell: Callable[[], Awaitable[Any]] | None = None) -> None:
        """Let go of everything that is held through it, after a last question."""
        try:
            if farewell is not None and self.is_up:
                self.wait(farewell, FAREWELL_S)
            for topic in self._listeners:
                self.client.unsubscribe_topic(topic)
        except Exception as error:  # the scheduler may be gone, or a worker stand still
            log.info("not all of Dask heard that its client goes: %r", error)
        try:
            self.client.close(timeout=FAREWELL_S)
        except Exception as error:
            log.info("the Dask client did not close well: %r", error)

    @property
    def is_up(self) -> bool:
        """Whether the scheduler hears us."""
        return bool(self.client.status == "running")

    @property
    def trouble(self) -> str:
        """Why there is no scheduler; empty while there is one."""
        if self.is_up:
            return ""
        story = f"the Dask scheduler at {self.address} does not answer"
        if self.client.status == "connecting":
            return f"{story}, and is waited for"
        return f"{story}, and is not waited for any more: open another Cluster when it is there"

    def listen(self, topic: str, listener: Answer) -> None:
        """Hand over what is said under a topic."""
        self._listeners[topic] = listener
        self.client.subscribe_topic(topic, lambda event: self.tell(listener, event[1]))

    @property
    def stream(self) -> Any:
        """The connection of the moment; None while there is none."""
        return self.client.scheduler_comm

    def was_cut(self, stream: Any) -> bool:
        """Whether this is not the connection of the moment, or not `renew`-ed yet."""
        return stream is not self._stream or stream is not self.client.scheduler_comm

    def renew(self) -> bool:
        """Whether the connection is another than before. Then Dask has dropped all that we had there; we listen on."""
        stream = self.client.scheduler_comm
        if stream is None or stream is self._stream:
            return False
        self._stream = stream
        for topic, listener in self._listeners.items():
            self.listen(topic, listener)
        return True

    def tell(self, listener: Answer, what: Any) -> None:
        """Hand something over to the coordinator's thread, in order; from any thread."""
        with self._lock:
            self._told.append((listener, what))
            first = len(self._told) == 1
        if first:
            self.loop.call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        with self._lock:
            told, self._told = self._told, []
        for listener, what in told:
            try:
                listener(what)
            except Exception:
                log.exception("what Dask said could not be taken in; this is a bug of handoff_lab")

    def ask(self, question: Callable[[], Awaitable[Any]], then: Answer | None = None) -> None:
        """Have a coroutine run on the client's loop, and its result, or exception, handed over."""

        async def answer() -> None:
            try:
                result = await question()
            except (Exception, asyncio.CancelledError) as error:  # what waits for a key that is cancelled is cancelled
                result = error
            if then is not None:
                self.tell(then, result)
            elif isinstance(result, BaseException) and self.is_up:
                log.info("Dask did not do what it was asked to: %r", result)

        self.client.loop.add_callback(answer)

    def wait(self, question: Callable[[], Awaitable[Any]], patience_s: float) -> Any:
        """What a coroutine returns, waited for here.

        Raises
        ------
        BackendError
            There is no answer in time.
        """

        async def answer() -> Any:
            return await asyncio.wait_for(question(), patience_s)

        try:
            return asyncio.run_coroutine_threadsafe(answer(), self.client.loop.asyncio_loop).result()
        except TimeoutError:
            raise BackendError(
                f"the Dask cluster at {self.address} does not answer within {patience_s:g} s; does its scheduler or a "
                "worker stand still?"
            ) from None

    def calling(self, function: Callable[..., Any], *args: Any, workers: Sequence[str]) -> Callable[[], Awaitable[Any]]:
        """To be asked: results, or exceptions, by address, of a function called on the loop of these workers."""
        return partial(self.client.run, function, *args, workers=list(workers), on_error="return", asynchronous=True)

    def submit(self, function: Callable[..., Any], *args: Any, key: str, worker: str, on_end: Answer) -> Any:
        """The future of a Dask task on one worker; ``on_end`` gets it when it has ended, however."""
        future = self.client.submit(function, *args, key=key, workers=[worker], retries=0, pure=False)
        future.add_done_callback(partial(self.tell, on_end))
        return future


def _address_of(given: Any) -> tuple[str, Any]:
    """Address of the scheduler, and what is needed to be let in."""
    if isinstance(given, str):
        return given, None
    address = getattr(given, "scheduler_address", None)  # a cluster has that, whose get_client() may be its user's own
    if not isinstance(address, str):
        address = getattr(getattr(given, "scheduler", None), "address", None)
    if not isinstance(address, str):
        raise BackendError(f"client is {given!r}; give a connected dask.distributed Client, or a Dask cluster")
    return address, getattr(given, "security", None)
