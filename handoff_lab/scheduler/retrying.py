"""Whether a function whose attempt failed is tried again, and when."""

from __future__ import annotations

from dataclasses import replace

from handoff_lab.messages import Failure, FailureKind
from handoff_lab.scheduler.state import Progress

_POISON = 3  # deaths of slots or nodes under one function
_SHORTAGE_S = 0.5  # before the first retry of what found no place for its result, or its inputs: others may make some


def count_death(run: Progress, i: int, failure: Failure) -> Failure:
    """The failure as it is to be told, now that a slot or a node died under ``i``: after a few it is final."""
    deaths = run.deaths[i] = run.deaths.get(i, 0) + 1
    if deaths < _POISON:
        return failure
    story = f"{failure.message}; {deaths} slots or nodes died under it, so it is not tried again"
    return replace(failure, message=story, retryable=False)


def may_retry(run: Progress, i: int, failure: Failure, revoked: bool) -> bool:
    """Whether ``i`` is to be tried again; where that is a retry that is counted, it counts from now on."""
    if not failure.retryable:
        return False
    if failure.kind is FailureKind.NODE:
        return True
    if failure.kind is FailureKind.INPUT and (revoked or run.missing[i]):
        return True  # the input was lost with its node
    function = run.program.functions[i]
    if failure.kind is FailureKind.TIMEOUT and not function.retries_timeout:
        return False
    used = run.retried.get(i, 0)
    if used >= (run.options.max_retries if function.max_retries is None else function.max_retries):
        return False
    run.retried[i] = used + 1
    return True


def delay_of(run: Progress, i: int, failure: Failure) -> float:
    """Seconds until ``i`` is tried again after ``failure``."""
    if failure.kind is FailureKind.NODE:
        return 0.0
    first = run.program.functions[i].retry_delay
    if failure.kind is FailureKind.RESULT or (failure.kind is FailureKind.INPUT and not run.missing[i]):
        first = max(first, _SHORTAGE_S)
    if not first:
        return 0.0
    seed = f"{run.id} {i} {run.number[i]}"
    return run.options.backoff.delay(first, run.retried.get(i, 1), seed)
