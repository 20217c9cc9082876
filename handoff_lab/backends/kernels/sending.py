"""What nodes are told to do: attempts in few messages, each piece of code once to each node, and what is to end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import cloudpickle  # type: ignore[import-untyped]

from handoff_lab.backends.base import Code
from handoff_lab.backends.kernels.hub import Hub
from handoff_lab.backends.kernels.reports import Reports
from handoff_lab.messages import Attempt, AttemptId, Failed, Failure, FailureKind, HowToEnd, Source
from handoff_lab.store.memory import MemoryStore
from handoff_lab.store.payload import Frames, join
from handoff_lab.transport.loop import Loop
from handoff_lab.transport.rows import Row, attempt_row
from handoff_lab.transport.wire import BATCH, BATCH_BYTES, INLINE_LIMIT, pack

KEYS = 4096  # in one message


class Sending:
    """Hands attempts to nodes.

    Parameters
    ----------
    fail
        Takes an attempt that could not be sent.
    reports, store
        Who expects the answers, and where the values of this process are: small ones go along.
    """

    def __init__(
        self,
        loop: Loop,
        hub: Hub,
        fail: Callable[[Failed], None],
        reports: Reports,
        store: MemoryStore[Frames],
    ) -> None:
        self._loop = loop
        self._hub = hub
        self._fail = fail
        self._reports = reports
        self._store = store
        self._codes: dict[str, Code] = {}
        self._sent: dict[str, set[str]] = {}  # keys of code, by node
        self._ending: dict[tuple[str, HowToEnd], list[AttemptId]] = {}  # attempts, by node and how

    # -- code ----------------------------------------------------------------------

    def load(self, codes: Mapping[str, Code]) -> None:
        """Remember code; it crosses with the first attempts that need it."""
        self._codes.update(codes)

    def unload(self, keys: Iterable[str]) -> None:
        """Forget code here and on the nodes."""
        forgotten = {key for key in keys if self._codes.pop(key, None) is not None}
        for name, sent in self._sent.items():
            if known := forgotten & sent:
                sent.difference_update(known)
                self._hub.send(name, pack("unload", sorted(known)))

    def meet_node(self, name: str) -> None:
        """A node is there, and has no code yet."""
        self._sent[name] = set()

    def forget_node(self, name: str) -> None:
        """A node is gone with its code."""
        self._sent.pop(name, None)

    def _send_code(self, name: str, attempt: Attempt) -> None:
        """Send the code that this attempt needs and its node does not have."""
        sent = self._sent[name]
        keys = attempt.codes
        if attempt.setup or attempt.retry_on:
            keys = (*keys, *attempt.setup, *((attempt.retry_on,) if attempt.retry_on else ()))
        if not sent.issuperset(keys):
            new = {key: self._codes[key].pickled() for key in keys if key not in sent}
            self._hub.send(name, pack("load", new))
            sent.update(new)

    # -- attempts ------------------------------------------------------------------

    def submit(self, attempts: Sequence[Attempt], nodes: Collection[str]) -> None:
        """Hand attempts to those of their nodes that are there, a batch for each."""
        by_node: defaultdict[str, list[Attempt]] = defaultdict(list)
        for attempt in attempts:
            # The NodeLost of a node that is no more ends these attempts too.
            if attempt.node in nodes and self._reports.expect(attempt.id, attempt.node):
                by_node[attempt.node].append(attempt)
        for name, batch in by_node.items():
            self._hand_over(name, batch)

    def _hand_over(self, name: str, attempts: list[Attempt]) -> None:
        rows: list[Row] = []
        nbytes = 0
        sent: tuple[str, ...] | None = None  # keys of code: attempts with the same call share these very ones
        for attempt in attempts:
            recipe, inputs = attempt.recipe, attempt.inputs
            try:
                if recipe is not None and not isinstance(recipe, bytes):
                    recipe = cloudpickle.dumps(recipe, protocol=5)
                if attempt.codes is not sent:
                    self._send_code(name, attempt)
                    sent = attempt.codes
                if inputs and self._may_lack(attempt):
                    inputs = tuple([self._with_value(source) for source in inputs])
                    nbytes += sum([len(part) for source in inputs for part in source.inline or ()])
                rows.append(attempt_row(attempt, inputs, recipe))
            except Exception as error:
                self._fail_later(attempt.id, error)
                continue
            if recipe:
                nbytes += len(recipe)
            if len(rows) == BATCH or nbytes > BATCH_BYTES:
                self._send_rows(name, rows)
                rows, nbytes = [], 0
        if rows:
            self._send_rows(name, rows)

    def _send_rows(self, name: str, rows: Sequence[Row]) -> None:
        try:
            message = pack("submit", rows)
        except Exception as error:  # text that is no Unicode, as an id made of a file's name may be; a huge number
            if len(rows) == 1:
                self._fail_later(rows[0][0], error)
                return
            for row in rows:
                self._send_rows(name, [row])
        else:
            self._hub.send(name, message)

    @staticmethod
    def _may_lack(attempt: Attempt) -> bool:
        """Whether an input is from another node, or from another run, since when the node may have begun anew."""
        node, run = attempt.node, attempt.id.run
        return any(source.node != node or source.key.run != run for source in attempt.inputs)

    def _with_value(self, source: Source) -> Source:
        """The source with its value, when that is small and here."""
        small = self._reports.small(source.key)
        if small is None and (value := self._store.get(source.key)) is not None and value.nbytes <= INLINE_LIMIT:
            small = join(value.buffers)
        return source if small is None else Source(source.key, source.node, small)

    def _fail_later(self, id: AttemptId, error: Exception) -> None:
        message = f"it could not be sent to its node: {type(error).__name__}: {error}"
        failure = Failure(FailureKind.CODE, message, type(error).__name__, retryable=False)
        self._reports.forget(id)
        self._loop.call_soon(lambda: self._fail(Failed(id, failure)))

    def cancel(self, id: AttemptId, how: HowToEnd) -> None:
        """End an attempt; those that are to end in one turn of the loop are told to in few messages."""
        node = self._reports.node_of(id)
        if node is not None:
            if not self._ending:
                self._loop.call_soon(self._send_cancels)
            self._ending.setdefault((node, how), []).append(id)

    def _send_cancels(self) -> None:
        ending, self._ending = self._ending, {}
        for (node, how), ids in ending.items():
            for start in range(0, len(ids), KEYS):
                self._hub.send(node, pack("cancel", ids[start : start + KEYS], how))
