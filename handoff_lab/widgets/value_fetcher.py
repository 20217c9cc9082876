"""Values of a run, to be looked at: small ones only, and only if they come soon."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from handoff_lab._errors import HandoffError, ResultUnavailableError
from handoff_lab._items import Joined
from handoff_lab._units import format_bytes
from handoff_lab.telemetry.record import HAS_RESULT
from handoff_lab.widgets.preview import Preview, preview

if TYPE_CHECKING:
    from collections.abc import Hashable

    from handoff_lab.graph import Function
    from handoff_lab.run import Run
    from handoff_lab.telemetry import FunctionRecord

RESULT_LIMIT = 10 * 10**6  # bytes of a value that is fetched
PATIENCE_S = 2.0  # for all values together
_AT_LEAST_S = 0.05


class ValueFetcher:
    """Gets values of one run, for one click: all of them within ``PATIENCE_S``. Without a run there are none."""

    def __init__(self, run: Run | None) -> None:
        self.run = run
        self._end = time.monotonic() + PATIENCE_S

    @property
    def _left_s(self) -> float:
        return max(_AT_LEAST_S, self._end - time.monotonic())

    def value(self, id: Hashable) -> Any:
        """The value of a function or an input.

        Raises
        ------
        HandoffError
            It is not there, too large, late, or cannot be loaded in this process.
        """
        if self.run is None:
            raise ResultUnavailableError(id, "it is given when the graph is run")
        try:
            return self.run.results.peek(id, self._left_s, RESULT_LIMIT)
        except HandoffError:
            raise
        except Exception as error:
            raise ResultUnavailableError(id, f"it could not be loaded here: {type(error).__name__}: {error}") from error

    def look(self, function: Function, record: FunctionRecord | None) -> tuple[Preview | None, str | None, bool]:
        """A look at the result of a function, or why there is none to be had, and whether another may show more."""
        if self.run is None:
            return None, None, False
        if function.type == "input":
            return *self._preview(function.id, None), True
        if isinstance(function.code, Joined) and function.id in self.run.results:
            return None, f"{function.code.length:,} items, in the results of its chunks; {_hint(function.id)}", False
        if record is None or record.status not in HAS_RESULT:
            return None, None, False
        nbytes = self.run.results.nbytes(function.id)
        if nbytes is not None and nbytes <= RESULT_LIMIT:
            return *self._preview(function.id, nbytes or None), True
        size = "of unknown size" if nbytes is None else format_bytes(nbytes)
        where = f" on node {record.node}" if record.node else ""
        return None, f"{size}{where}, which is too much to be shown here; {_hint(function.id)}", False

    def _preview(self, id: Hashable, nbytes: int | None) -> tuple[Preview | None, str | None]:
        """Look at a value in a thread, for its methods may take any time."""
        answers: list[Preview | Exception] = []

        def look() -> None:
            try:
                answers.append(preview(self.value(id), nbytes))
            except Exception as error:
                answers.append(error)

        thread = threading.Thread(target=look, name=f"preview of {id!r}", daemon=True)
        thread.start()
        thread.join(self._left_s)
        answer = answers[0] if answers else TimeoutError(f"it takes more than {PATIENCE_S:g} s to look at; {_hint(id)}")
        return (None, str(answer)) if isinstance(answer, Exception) else (answer, None)


def _hint(id: Hashable) -> str:
    return f"run.results[{id!r}] fetches it"
