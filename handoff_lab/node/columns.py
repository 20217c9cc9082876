"""Events of a node that have much in common, as one: what ended together, and small values that were copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

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

_FINISHED = attrgetter(*(field.name for field in fields(Finished)))


def in_columns(events: Sequence[BackendEvent]) -> Iterator[BackendEvent]:
    """The events, in order, with functions of one run that ended one after the other as one.

    The starts of these are left out. What was copied comes first: nobody waits to hear of it.
    """
    copied: dict[str, list[Transferred]] = {}
    ended: set[AttemptId] = set()
    begun = Started in map(type, events)
    for event in events:
        if type(event) is Finished:
            ended.add(event.id)
        elif type(event) is FinishedMany:
            if begun:
                ended.update(event.ids())
        elif type(event) is Transferred and event.nbytes <= INLINE_LIMIT:
            copied.setdefault(event.key.run, []).append(event)
    for group in copied.values():
        yield _copied(group)
    starts: dict[AttemptId, Started] = {}
    together: list[Finished | FinishedMany] = []
    for event in events:
        if isinstance(event, Finished | FinishedMany) and (not together or _run_of(together[0]) == _run_of(event)):
            together.append(event)
        elif type(event) is Started and event.id in ended:
            starts[event.id] = event
        elif type(event) is not Transferred or event.nbytes > INLINE_LIMIT:
            yield from _joined(together, starts)
            together = []
            if isinstance(event, Finished | FinishedMany):
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


def _joined(together: Sequence[Finished | FinishedMany], starts: Mapping[AttemptId, Started]) -> Iterator[BackendEvent]:
    if len(together) == 1:
        (event,) = together
        if isinstance(event, Finished) and event.id in starts:
            yield starts[event.id]
        yield event
    elif together:
        columns: tuple[list[Any], ...] = ([], [], [], [], [], [], [], [], [])
        for event in together:
            if isinstance(event, FinishedMany):
                for column, more in zip(columns, event.columns(), strict=True):
                    column.extend(more)
            else:
                _, *rest = _FINISHED(event)
                for column, value in zip(columns, (*event.id[1:], *rest), strict=True):
                    column.append(value)
        yield FinishedMany(_run_of(together[0]), *columns)


def _run_of(event: Finished | FinishedMany) -> str:
    return event.run if isinstance(event, FinishedMany) else event.id.run
