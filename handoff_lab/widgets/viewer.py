"""What a widget or a panel shows, and what it answers: the protocol with the browser, without a comm in it."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Hashable, Sequence
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any

from handoff_lab._errors import HandoffError
from handoff_lab.graph import DAG
from handoff_lab.widgets import actions, requests
from handoff_lab.widgets.actions import Notebook
from handoff_lab.widgets.broadcast import Broadcast, Outlet
from handoff_lab.widgets.feed import Feed
from handoff_lab.widgets.protocol import Message, State
from handoff_lab.widgets.structure import Structure

if TYPE_CHECKING:
    from handoff_lab.run import Run

_log = logging.getLogger(__name__)


class Viewer:
    """Shows a DAG or a run to one browser; may be used from any thread.

    Parameters
    ----------
    subject : DAG or Run, optional
        What to show first.
    publish : callable
        Takes ``"structure"`` or ``"state"``, and the whole of it or None.
    send : callable
        Takes patches and replies.
    notebook : Notebook, optional
        Whose cells the functions are of.
    settled : callable, optional
        Called when what is shown changes no more: the run is over, or the DAG was not run.
    """

    def __init__(
        self,
        subject: DAG | Run | None = None,
        *,
        publish: Callable[[str, Any], object],
        send: Callable[[Message], object],
        notebook: Notebook | None = None,
        settled: Callable[[], object] | None = None,
    ) -> None:
        self.key = secrets.token_hex(8)
        self.notebook = notebook
        # The lock is held while something is published or sent, so that all of it comes in order.
        self._outlet = Outlet(RLock(), _harmless(publish), _harmless(send), self._cannot, settled or _nothing)
        self._turn = Lock()  # of those that change what is shown
        self._shown: Broadcast | None = None
        self._stale: frozenset[Hashable] = frozenset()
        self._feed: Feed | None = None
        self._closed = False
        requests.register(self)
        if subject is not None:
            self.show(subject)

    # -- what is shown ---------------------------------------------------------------

    @property
    def run(self) -> Run | None:
        """The run that is shown."""
        shown = self._shown
        return None if shown is None else shown.run

    @property
    def dag(self) -> DAG | None:
        """The graph that is shown."""
        shown = self._shown
        return None if shown is None else shown.dag

    @property
    def structure(self) -> Structure | None:
        """How it is drawn; None too as long as it was not."""
        shown = self._shown
        return None if shown is None else shown.structure

    @property
    def ids(self) -> tuple[Hashable, ...]:
        """The functions that are shown, by their numbers."""
        shown = self._shown
        return () if shown is None else shown.ids

    def show(self, subject: DAG | Run | None) -> None:
        """Show something else, or nothing."""
        with self._turn:
            self._end_feed()
            if self._closed:
                return
            self._stale = self._find_stale()
            shown = None if subject is None else Broadcast(subject, self._outlet, self._stale)
            with self._outlet.lock:
                self._shown = shown
                self.publish()
            if shown is not None and shown.goes_on:
                assert shown.run is not None
                self._feed = Feed(shown.run.news, shown, after=shown.patience_s)
                self._feed.start()
                return
        self._outlet.settled()

    def refresh(self) -> None:
        """Cells were run: show which results are out of date now, and a DAG as it is now."""
        shown = self._shown
        if shown is not None and not shown.is_run:
            self.show(shown.dag)
        elif shown is not None:
            stale = self._find_stale()
            with self._turn:  # what is shown may be another run by now
                self._stale = stale
                if self._shown is not None:
                    self._shown.mark_stale(stale)

    def fold(self, groups: Sequence[int]) -> None:
        """Draw these groups as one shape each, and no others."""
        with self._turn:
            if self._shown is not None:
                self._shown.fold(groups)
                self.publish()

    def publish(self) -> None:
        """Publish structure and state anew."""
        with self._outlet.lock:
            if self._shown is not None:
                self._shown.publish()
                return
            self._outlet.publish("structure", None)
            self._outlet.publish("state", None)

    def snapshot(self) -> State | None:
        """The whole state as far as it was told, for a page that comes later."""
        with self._outlet.lock:
            return None if self._shown is None else self._shown.snapshot()

    def everything(self) -> dict[str, Any]:
        """Structure and state, for a file."""
        shown = self._shown
        if shown is not None:
            shown.draw()
        with self._outlet.lock:
            return {"structure": self.structure, "state": self.snapshot()}

    def join(self, timeout: float | None = None) -> None:
        """Wait until a run that is over was told to its end."""
        feed = self._feed
        if feed is not None:
            feed.join(timeout)

    def let_go(self) -> None:
        """Go on to show a run that is over, but don't keep its results for it."""
        with self._turn:
            run, feed = self.run, self._feed
            if run is None or run.status == "running":
                return
            if feed is not None:
                feed.finish()
                self._feed = None
            if self._shown is not None:
                self._shown.let_go()

    def close(self) -> None:
        """Tell and answer nothing more, and let go of what is shown. Closing twice does no harm."""
        requests.withdraw(self.key)
        with self._turn:
            self._closed = True
            self._end_feed()
            with self._outlet.lock:
                self._shown = None

    # -- what is asked -----------------------------------------------------------------

    def receive(self, message: dict[str, Any]) -> None:
        """Take a request; the reply is sent when it is done, an error if it can't be."""
        if self._closed:
            return
        reply: Message = {"type": "reply", "id": message.get("id", -1)}
        try:
            request = _request_in(message)
            self._require_shown(message.get("run"))
            reply["value"] = actions.perform(self, request)
        except Exception as error:  # whatever it is, someone waits for the answer
            _log.debug("request %r failed", message, exc_info=True)
            reply["error"] = str(error) or type(error).__name__
        with self._outlet.lock:
            if not self._closed:
                self._outlet.send(reply)

    def _require_shown(self, id: object) -> None:
        run = self.run
        if id is not None and run is not None and run.id != id:
            raise HandoffError(f"run {run.id} is shown by now, not {id}; look again, and ask again")

    def _cannot(self, run: Run) -> dict[str, str]:
        return actions.cannot(run, self.notebook, self._stale)

    def _find_stale(self) -> frozenset[Hashable]:
        return frozenset() if self.notebook is None else frozenset(self.notebook.stale())

    def _end_feed(self) -> None:
        """Never with the outlet's lock held: the feed may wait for it to send its last."""
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.close()


def _request_in(message: dict[str, Any]) -> dict[str, Any]:
    request = message.get("request")
    if message.get("type") != "request" or not isinstance(request, dict):
        raise ValueError(f"this is no request: {message!r}")
    return request


def _harmless(call: Callable[..., object]) -> Callable[..., object]:
    """What can't be told, as the page or the kernel is gone, must not hurt what runs."""

    def told(*args: object) -> None:
        try:
            call(*args)
        except Exception:
            _log.debug("a view could not be told", exc_info=True)

    return told


def _nothing() -> None:
    pass
