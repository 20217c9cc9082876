"""Control messages between a coordinator and its nodes: what they are, their limits, and their strict reading.

A message is one frame: a msgpack list ``[kind, field, ...]`` whose kind, number of fields and types of fields must be
those of ``TO_NODE`` or ``FROM_NODE``. Messages of one connection arrive in order. Whatever else arrives raises one
``WireError``. Code, recipes, values and exceptions cross as opaque bytes: nothing is unpickled here.

A joining node speaks twice. With the join file's key it says ``hello`` and gets ``welcome`` or ``refused``; then it
connects again with its own key, which the welcome admitted, and says ``ready``, or ``numbered`` if it wants what goes
missing sent again. By that key it is known from then on. Until it is answered it may say all this more than once.
``hello`` and ``refused`` must stay readable for every later protocol, or a mismatch could not be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgpack  # type: ignore[import-untyped]

PROTOCOL = 4
FROM_NODE_LIMIT = 64 * 2**20  # bytes of one message; libzmq ends a connection that sends more
BATCH = 512  # attempts or events in one message; functions in one event of columns
BATCH_BYTES = 2**20  # a batch with more than this is sent as it is
TEXT_LIMIT = 200_000  # characters of an error's message or traceback
INLINE_LIMIT = 16 * 1024  # bytes of a value that travels within messages

Schema: TypeAlias = Mapping[str, tuple[type, ...]]

TO_NODE: Schema = {
    "welcome": (),
    "refused": (str, str, str, str),  # reason; when it is a version: what, the coordinator's, the node's
    "peers": (list,),  # members that hold values: [name, public key, endpoint] each
    "gone": (str,),  # a member that is no more
    "load": (dict,),  # code: key -> pickle
    "submit": (list,),  # attempts: see ``rows``
    "unload": (list,),  # keys of code that no run needs any more
    "cancel": (list, str),  # ids of attempts, "interrupt", "kill" or "recall"
    "forget": (str,),  # a run that is over: all its values go
    "free": (str, list, list),  # keys of values of one run: functions, numbers
    "capabilities": (dict, int),  # and the number of slots
    "cell": (int, str),  # number, source: to be run in the kernel
    "interrupt_cell": (int,),
    "lease": (int,),  # milliseconds for which a node without its coordinator waits for another
    "keep": (list,),  # ids of what a node that came back was told to keep; everything else of "held" goes
    "stop": (),
}
FROM_NODE: Schema = {
    "hello": (int, dict),  # protocol, and what ``node.report`` says
    "ready": (),
    "numbered": (),  # ready, and what is said from now on, in both directions, is a ``stream``'s
    "events": (list,),  # see ``rows``
    "cell_output": (int, bytes),  # number of the cell, one Jupyter message as JSON
    "cell_done": (int, bytes),  # number of the cell, its reply's content as JSON
    "held": (list, list, int),  # from a node that came back: its results, what runs there, whether that is all
    "leaving": (str,),  # a node that ends by itself: why
}


class WireError(ValueError):
    """A message that is not as it should be."""


def pack(kind: str, *fields: Any) -> bytes:
    """A message of this kind; a dataclass among the fields becomes the list of its fields."""
    return dump((kind, *fields))


def dump(value: Any) -> bytes:
    """A value as msgpack; a dataclass becomes the list of its fields."""
    packed: bytes = msgpack.packb(value, default=_plain)
    return packed


def unpack(data: bytes | memoryview, schema: Schema) -> tuple[str, list[Any]]:
    """Kind and fields of a message, of the kinds and types that ``schema`` allows.

    Raises
    ------
    WireError
        For anything else.
    """
    message = load(data)
    if not isinstance(message, list) or not message or not isinstance(message[0], str):
        raise WireError("no message of a known form")
    kind, *fields = message
    types = schema.get(kind)
    if types is None:
        raise WireError(f"unknown message {kind[:20]!r}")
    if len(types) != len(fields) or not all(map(_is_a, fields, types)):
        raise WireError(f"malformed message {kind!r}")
    return kind, fields


def load(data: bytes | memoryview) -> Any:
    """What ``dump`` wrote, in lists and other plain values.

    Raises
    ------
    WireError
        It is no msgpack.
    """
    try:
        return msgpack.unpackb(data, strict_map_key=True)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise WireError(f"no msgpack: {type(error).__name__}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return [getattr(value, name) for name in value.__slots__]


def _is_a(value: object, expected: type) -> bool:
    return isinstance(value, expected) and type(value) is not bool
