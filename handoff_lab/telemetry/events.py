"""What happens in a run, as events: a name, a time, numbers (measurements) and facts (metadata).

Every name begins with ``"handoff"``; function ids are the user's own. ``?`` marks what may be missing.

==================================== ================================== ===============================================
event                                measurements                       metadata
==================================== ================================== ===============================================
run start                            functions                          run, dag, allocations, capabilities, costs,
                                                                        strategy
run stop                             duration, done, failed, skipped,   run, dag, status
                                     cancelled, retries
execution function queued                                               run, function, node
execution function start             started                            run, function, node, attempt, slot
execution function stop              started, ended, duration, nbytes,  run, function, node, attempt, slot, log
                                     peak_memory?
execution function exception         started?, ended?, duration         run, function, node, attempt, slot, kind,
                                                                        error, type, traceback, log
execution function retry             delay                              run, function, node, attempt (the next), reason
execution function cached                                               run, function, node
execution function cancel            started?, ended?                   run, function, node, attempt
execution function skip                                                 run, function, because
execution function wait                                                 run, function, awaited
execution function move                                                 run, function, source, target, reason
execution function log                                                  run, function, node, attempt, text
resource allocation, release         an amount per resource             run, function, node, attempt, claimed,
                                                                        capabilities
resource utilization                 cpu_percent, memory (bytes),       node, claimed, capabilities, gpus?
                                     gpu_percent?, gpu_memory? (bytes)
node up, changed, down                                                  node, capabilities, reason?, lost?, draining?
transfer stop                        nbytes, duration, started, ended   run, function (producer), source, target
==================================== ================================== ===============================================

``utilization``: what the node's processes use; of its GPUs, what anybody does, a whole GPU being 100 %, and in ``gpus``
one mapping for each: ``gpu`` (its id), ``percent`` or None, ``memory``, ``total``, ``functions`` (mappings: ``run``,
``function``, ``attempt``, ``percent`` or None, ``memory`` or None).

``queued``: all inputs are there, the function waits for room on its node. ``wait``: there is no node that can hold it,
and it may wait for one. ``claimed`` is the total on the node after the event. ``started`` and ``ended`` are wall-clock
seconds of the node; durations are seconds. What befalls many brief functions is told at once (see ``batches``); those
who listen to events hear each, in the order of the node's clock: their times may lie a little before those of events
that were told earlier.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

EventName: TypeAlias = tuple[str, ...]

_FUNCTION: Final = ("handoff", "execution", "function")

RUN_START: Final = ("handoff", "run", "start")
RUN_STOP: Final = ("handoff", "run", "stop")
FUNCTION_QUEUED: Final = (*_FUNCTION, "queued")
FUNCTION_START: Final = (*_FUNCTION, "start")
FUNCTION_STOP: Final = (*_FUNCTION, "stop")
FUNCTION_EXCEPTION: Final = (*_FUNCTION, "exception")
FUNCTION_RETRY: Final = (*_FUNCTION, "retry")
FUNCTION_CACHED: Final = (*_FUNCTION, "cached")
FUNCTION_CANCEL: Final = (*_FUNCTION, "cancel")
FUNCTION_SKIP: Final = (*_FUNCTION, "skip")
FUNCTION_WAIT: Final = (*_FUNCTION, "wait")
FUNCTION_MOVE: Final = (*_FUNCTION, "move")
FUNCTION_LOG: Final = (*_FUNCTION, "log")
RESOURCE_ALLOCATION: Final = ("handoff", "resource", "allocation")
RESOURCE_RELEASE: Final = ("handoff", "resource", "release")
RESOURCE_UTILIZATION: Final = ("handoff", "resource", "utilization")
NODE_UP: Final = ("handoff", "node", "up")
NODE_CHANGED: Final = ("handoff", "node", "changed")
NODE_DOWN: Final = ("handoff", "node", "down")
TRANSFER_STOP: Final = ("handoff", "transfer", "stop")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Parameters
    ----------
    name
        Such as ``("handoff", "run", "start")``.
    time
        When, in wall-clock seconds.
    measurements, metadata
        See the catalogue at the head of ``handoff_lab.telemetry.events``.
    """

    name: EventName
    time: float
    measurements: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[EventName, ...]:
        """Its name, as batches of events tell theirs."""
        return (self.name,)

    @property
    def event_count(self) -> int:
        """One, as batches of events tell theirs."""
        return 1

    def events(self) -> tuple[Event]:
        """Itself, as batches of events tell theirs."""
        return (self,)
