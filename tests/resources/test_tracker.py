"""The ledger of claims."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from handoff_lab._errors import ResourceError
from handoff_lab.resources import Resources, ResourceTracker, SimpleResourceTracker


@pytest.fixture
def tracker() -> SimpleResourceTracker:
    tracker = SimpleResourceTracker()
    tracker.register("alpha", {"cpu": 4, "memory": 2000})
    return tracker


def test_it_is_a_resource_tracker(tracker: SimpleResourceTracker) -> None:
    assert isinstance(tracker, ResourceTracker)


def test_availability_of_each_resource(tracker: SimpleResourceTracker) -> None:
    assert tracker.available("alpha", {"cpu": 4})
    assert tracker.available("alpha", {"cpu": 1, "memory": 500})
    assert not tracker.available("alpha", {"cpu": 5})
    assert not tracker.available("alpha", {"memory": 2500})
    assert not tracker.available("alpha", {"gpu": 1})


def test_requests_and_partial_releases(tracker: SimpleResourceTracker) -> None:
    assert tracker.request("alpha", {"cpu": 2})
    assert tracker.available("alpha", {"cpu": 2})
    assert not tracker.available("alpha", {"cpu": 3})
    assert tracker.request("alpha", {"memory": 1500})
    assert not tracker.available("alpha", {"memory": 600})

    tracker.release("alpha", {"cpu": 1})
    assert tracker.available("alpha", {"cpu": 3})
    tracker.release("alpha", {"cpu": 1, "memory": 1500})
    assert tracker.used("alpha") == {}


def test_a_request_claims_all_or_nothing(tracker: SimpleResourceTracker) -> None:
    assert not tracker.request("alpha", {"cpu": 1, "gpu": 1})
    assert tracker.used("alpha") == {}


def test_giving_back_more_than_is_claimed_is_refused_and_changes_nothing(tracker: SimpleResourceTracker) -> None:
    tracker.request("alpha", {"cpu": 1})
    with pytest.raises(ResourceError, match="more than is claimed on 'alpha'"):
        tracker.release("alpha", {"cpu": 2})
    assert tracker.used("alpha") == {"cpu": 1}


def test_capabilities_below_the_claims_start_nothing_and_end_nothing(tracker: SimpleResourceTracker) -> None:
    tracker.request("alpha", {"cpu": 3})
    tracker.update("alpha", {"cpu": 2, "memory": 2000})
    assert tracker.used("alpha") == {"cpu": 3}
    assert not tracker.request("alpha", {"cpu": 1})
    assert tracker.request("alpha", {"memory": 2000})

    tracker.release("alpha", {"cpu": 3})
    assert tracker.request("alpha", {"cpu": 2})
    tracker.update("alpha", {"cpu": 4})
    assert tracker.request("alpha", {"cpu": 2})


def test_registering_again_keeps_the_claims(tracker: SimpleResourceTracker) -> None:
    tracker.request("alpha", {"cpu": 3})
    tracker.register("alpha", {"cpu": 8})
    assert tracker.used("alpha") == {"cpu": 3}
    assert tracker.capabilities("alpha") == {"cpu": 8}


def test_a_forgotten_node_comes_back_empty(tracker: SimpleResourceTracker) -> None:
    tracker.request("alpha", {"cpu": 3})
    tracker.unregister("alpha")
    tracker.register("alpha", {"cpu": 4})
    assert tracker.used("alpha") == {}


@pytest.mark.parametrize(
    "ask",
    [
        lambda t: t.available("beta", {}),
        lambda t: t.request("beta", {"cpu": 1}),
        lambda t: t.release("beta", {}),
        lambda t: t.update("beta", {"cpu": 1}),
        lambda t: t.unregister("beta"),
        lambda t: t.used("beta"),
        lambda t: t.capabilities("beta"),
    ],
)
def test_an_unknown_node_is_named(
    tracker: SimpleResourceTracker, ask: Callable[[SimpleResourceTracker], object]
) -> None:
    with pytest.raises(ResourceError, match=r"'beta' is not registered \(registered: 'alpha'\)"):
        ask(tracker)


def test_threads_never_claim_the_same_cpu() -> None:
    tracker = SimpleResourceTracker()
    tracker.register("alpha", {"cpu": 3})
    running, seen, lock = 0, [], threading.Lock()

    def work(_: int) -> None:
        nonlocal running
        while not tracker.request("alpha", {"cpu": 1}):
            pass
        with lock:
            running += 1
            seen.append(running)
        with lock:
            running -= 1
        tracker.release("alpha", {"cpu": 1})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(400)))
    assert max(seen) <= 3
    assert tracker.used("alpha") == {}


class Ledger(RuleBasedStateMachine):
    """Whatever is asked in whatever order, the ledger agrees with a list of claims."""

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.tracker = SimpleResourceTracker()
        self.tracker.register("n", {"cpu": 2, "gpu": 1})
        self.held: list[Resources] = []

    @rule(target=claims, cpu=st.sampled_from([0, 0.1, 1 / 3, 1, 2]), gpu=st.sampled_from([0, 0.5, 1]))
    def request(self, cpu: float, gpu: float) -> Resources | None:
        cost = Resources({"cpu": cpu, "gpu": gpu})
        could = self.tracker.available("n", cost)
        assert self.tracker.request("n", cost) == could
        if could:
            self.held.append(cost)
        return cost if could else None

    @rule(claim=consumes(claims))
    def release(self, claim: Resources | None) -> None:
        if claim is not None:
            self.tracker.release("n", claim)
            self.held.remove(claim)

    @invariant()
    def claims_add_up_and_fit(self) -> None:
        used = self.tracker.used("n")
        assert used == sum(self.held, Resources())
        assert used.fits_in(self.tracker.capabilities("n"))


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
