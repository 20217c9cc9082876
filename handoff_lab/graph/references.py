"""How one function names another: as the source of an argument, or as its neighbour on a node."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields
from typing import Any, Literal

from handoff_lab._errors import InvalidFunctionError
from handoff_lab._names import shown
from handoff_lab.graph import checks

Inclusion = Literal["variadic", "as_list"]
Serializer = Callable[[Any, str, str], Any]


@dataclass(frozen=True, slots=True)
class Argument:
    """The result of another function as an argument, and how it crosses from node to node.

    Parameters
    ----------
    id
        The function whose result it is.
    serialize, deserialize
        Called as ``(value, source_node, target_node)``, the first on the
        producer's node, the second on the consumer's.
    argument_inclusion
        With ``"as_list"`` the value is gathered: the gathered values of a
        function, in order, form one list in the place of the first of them.
    nbytes
        Bytes that cross this edge, when they differ from the producer's ``output_size``.

    Raises
    ------
    InvalidFunctionError
        For an option that makes no sense.
    """

    id: Hashable
    serialize: Serializer | None = None
    deserialize: Serializer | None = None
    argument_inclusion: Inclusion = "variadic"
    nbytes: float | None = None

    def __repr__(self) -> str:
        given = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default]
        return f"Argument({', '.join([repr(self.id), *given[1:]])})"

    def __post_init__(self) -> None:
        checks.hashable(self.id, "id", self.id)
        checks.optional_callable(self.id, "serialize", self.serialize)
        checks.optional_callable(self.id, "deserialize", self.deserialize)
        checks.choice(self.id, "argument_inclusion", self.argument_inclusion, checks.INCLUSIONS)
        checks.optional_amount(self.id, "nbytes", self.nbytes)


@dataclass(frozen=True, slots=True)
class Collocated:
    """Value of ``Function.node``: the node on which the function ``id`` runs."""

    id: Hashable

    def __repr__(self) -> str:
        return f"collocated({self.id!r})"


def collocated(id: Hashable) -> Collocated:
    """Place a function on the node of another.

    Chains resolve, and the costs of all who end at the same function are placed together.

    Examples
    --------
    >>> collocated("load")
    collocated('load')
    """
    checks.hashable(id, "collocated", id)
    return Collocated(id)


def checked_node(function: Hashable, node: object) -> str | Collocated | None:
    """Check what a function says about its node."""
    if isinstance(node, Collocated) and node.id == function:
        raise InvalidFunctionError(function, "it is collocated with itself; name another function")
    if node is None or isinstance(node, Collocated) or (isinstance(node, str) and node):
        return node
    raise InvalidFunctionError(function, f"node is {shown(node)}; it is a node's name, hl.collocated(id) or None")
