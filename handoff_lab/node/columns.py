"""Events of a node that have much in common, as one: what ended together, and small values that were copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from handoff_lab.messages import (
    AttemptId,
    BackendEvent,
    Finished,
    FinishedMany,
    Started,
    Transferred,
    TransferredMany,
)
from handoff_lab.transport.wire import INLINE_LIMIT


def in_columns(events: Sequence[BackendEvent]) -> Iterator[BackendEvent]:
    """The events, in order, with functions of one run that ended one after the other as one.

    The starts of these are left out. What was copied comes first: nobody waits to hear of it.
    """
    copied: dict[str, list[Transferred]] = {}
    ended: set[AttemptId] = set()
    for event in events:
        if type(event) is Finished:
            ended.add(event.id)
        elif type(event) is Transferred and event.nbytes <= INLINE_LIMIT:
            copied.setdefault(event.key.run, []).append(event)
    for group in copied.values():
        yield _copied(group)
    starts: dict[AttemptId, Started] = {}
    together: list[Finished] = []
    for event in events:
        if type(event) is Finished and (not together or together[0].id.run == event.id.run):
            together.append(event)
        elif type(event) is Started and event.id in ended:
            starts[event.id] = event
        elif type(event) is not Transferred or event.nbytes > INLINE_LIMIT:
            yield from _joined(together, starts)
            together = []
            if type(event) is Finished:
                together.append(event)
            else:
                yield event
    yield from _joined(together, starts)


def _copied(events: Sequence[Transferred]) -> BackendEvent:
    if len(events) == 1:
        return events[0]
    return TransferredMany(
        events[0].key.run,
        events[0].target,
        [event.key.function for event in events],
        [event.key.number for event in events],
        [event.source for event in events],
        [event.nbytes for event in events],
        [event.started for event in events],
        [event.ended for event in events],
    )


def _joined(together: Sequence[Finished], starts: Mapping[AttemptId, Started]) -> Iterator[BackendEvent]:
    if len(together) == 1:
        (event,) = together
        if event.id in starts:
            yield starts[event.id]
        yield event
    elif together:
        yield FinishedMany(
            together[0].id.run,
            [event.id.function for event in together],
            [event.id.number for event in together],
            [event.started for event in together],
            [event.ended for event in together],
            [event.nbytes for event in together],
            [event.inline for event in together],
            [event.slot for event in together],
            [event.peak_memory for event in together],
            [event.log for event in together],
        )
