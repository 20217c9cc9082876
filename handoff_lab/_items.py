"""What is called for a chunk of a map, and for the map itself: light, as every node loads it."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from functools import update_wrapper
from inspect import Parameter, Signature
from itertools import chain
from traceback import walk_tb
from typing import Any


class Items:
    """Calls a function for some items of a map, one after the other.

    It takes what the function takes after its item, then the items and the number of the first.

    Parameters
    ----------
    code
        The function.
    of
        The map, for messages.

    Examples
    --------
    >>> Items(pow, "'cubes'")(3, range(4), 0)
    [0, 1, 8, 27]
    """

    __wrapped__: Callable[..., Any]
    __signature__ = Signature([Parameter("given", Parameter.VAR_POSITIONAL), Parameter("named", Parameter.VAR_KEYWORD)])

    def __init__(self, code: Callable[..., Any], of: str) -> None:
        update_wrapper(self, code, ("__module__", "__name__", "__qualname__"), ())
        self._of = of

    def __repr__(self) -> str:
        return f"<{self.__wrapped__!r} for each item>"

    def __call__(self, *given: Any, **named: Any) -> list[Any]:
        code = self.__wrapped__
        *values, items, first = given
        results: list[Any] = []
        item = None
        try:
            for item in items:
                results.append(code(item, *values, **named))
        except BaseException as error:
            error.add_note(f"item {first + len(results)} of {self._of}: {reprlib.repr(item)}")
            raise
        return results

    def call_of(self, error: BaseException, given: Sequence[Any]) -> tuple[Callable[..., Any], Sequence[Any]]:
        """The call that ``error`` came from: of the function with an item, or of this itself."""
        for frame, _ in walk_tb(error.__traceback__):
            if frame.f_code is Items.__call__.__code__ and "item" in (known := frame.f_locals):
                return self.__wrapped__, (known["item"], *known["values"])
        return self, given

    def calling(self, code: Any) -> Items:
        """The same for another form of the function."""
        other = Items(self.__wrapped__, self._of)
        other.__wrapped__ = code
        return other


class Joined:
    """Makes one list of the results of all chunks of a map."""

    def __init__(self, length: int, chunksize: int) -> None:
        self.length = length
        self.chunksize = chunksize

    def __repr__(self) -> str:
        return f"<joins {self.length} results from chunks of {self.chunksize}>"

    def __call__(self, *chunks: Sequence[Any]) -> list[Any]:
        return list(chain.from_iterable(chunks))
