"""News come soon, never too often, and no thread is left behind; time is the test's own."""

import threading
from itertools import pairwise

import pytest

from handoff_lab.widgets.feed import METERS_S, STATE_S, STATUS_S, Feed


class FakeRun:
    def __init__(self):
        self.listeners, self.ends = [], []

    def subscribe(self, callback):
        self.listeners.append(callback)
        return lambda: self.listeners.remove(callback)

    def when_over(self, callback):
        self.ends.append(callback)
        return lambda: self.ends.remove(callback)

    def tell(self):
        for listener in self.listeners:
            listener(None)

    def finish(self):
        for end in list(self.ends):
            end()


class World:
    """A clock that goes on when someone waits; at its time each thing of a plan happens."""

    def __init__(self, plan, cost=0.0):
        self.now = 0.0
        self.run = FakeRun()
        self.told, self.refreshed, self.ended = [], [], []
        self.cost = cost
        self._plan = sorted(plan, key=lambda entry: entry[0])
        self.waits = 0

    def clock(self):
        return self.now

    def wait(self, event, timeout):
        self.waits += 1
        assert self.waits < 10_000, "it spins"
        until = float("inf") if timeout is None else self.now + timeout
        while not event.is_set() and self._plan and self._plan[0][0] <= until:
            self.now, happens = self._plan.pop(0)
            happens(self.run)
        if not event.is_set():
            assert until < float("inf"), "nothing is left that could wake it"
            self.now = until

    def tell(self, *, meters):
        self.told.append((round(self.now, 3), meters))
        self.now += self.cost
        return True

    def refresh(self):
        self.refreshed.append(round(self.now, 3))

    def settle(self):
        self.ended.append(round(self.now, 3))

    def follow(self, **options):
        audience = Audience(self)
        Feed(self.run, audience, clock=self.clock, wait=self.wait, **options).follow()
        return self


class Audience:
    def __init__(self, world):
        self.tell, self.refresh, self.ended = world.tell, world.refresh, world.settle


def news(*moments):
    return [(moment, FakeRun.tell) for moment in moments]


def end(moment):
    return [(moment, FakeRun.finish)]


def test_news_after_a_quiet_time_is_told_at_once():
    world = World(news(3.0) + end(3.5)).follow()
    assert world.told == [(0.0, True), (3.0, True), (3.5, True)]


def test_many_news_are_told_ten_times_a_second_and_amounts_once():
    world = World(news(*(i / 1000 for i in range(1, 2950))) + end(3.0)).follow()
    moments = [moment for moment, _ in world.told]
    gaps = [b - a for a, b in pairwise(moments[:-1])]
    assert min(gaps) >= STATUS_S - 1e-6
    assert 28 <= len(moments) <= 32
    meters = [moment for moment, meters in world.told[:-1] if meters]
    assert min(b - a for a, b in pairwise(meters)) >= METERS_S - 1e-6


def test_amounts_that_waited_are_told_when_nothing_else_comes():
    world = World(news(0.05) + end(20.0)).follow()
    assert world.told == [(0.0, True), (0.1, False), (1.0, True), (20.0, True)]


def test_the_state_is_published_at_a_low_rate_and_at_the_end():
    world = World(news(*(i / 10 for i in range(1, 120))) + end(12.0)).follow()
    assert world.refreshed == [STATE_S, 2 * STATE_S, 12.0]


def test_a_quiet_run_publishes_nothing_again():
    world = World(end(60.0)).follow()
    assert world.refreshed == [STATE_S, 60.0]
    assert world.waits < 5


def test_what_is_dear_is_told_less_often():
    world = World(news(*(i / 10 for i in range(1, 400))) + end(40.0), cost=0.1).follow()
    assert len(world.told) <= 40 / (0.1 * 10) + 3
    assert sum(meters for _, meters in world.told) <= 40 / (0.1 * 20) + 2


def test_at_the_end_all_is_told_and_nobody_listens_any_more():
    world = World(news(1.0) + end(1.01)).follow()
    assert world.told[-1] == (1.01, True)
    assert world.refreshed == [1.01]
    assert world.ended == [1.01]
    assert world.run.listeners == world.run.ends == []


@pytest.mark.parametrize(("over", "told"), [(3.0, [(0.4, True), (3.0, True)]), (0.2, [(0.2, True)])])
def test_the_first_news_can_wait_but_not_beyond_the_end(over, told):
    world = World(news(0.1, 0.15) + end(over)).follow(after=0.4)
    assert world.told == told
    assert world.refreshed == world.ended == [over]
    assert world.waits < 5


def test_close_ends_the_thread_of_a_run_that_goes_on():
    run = FakeRun()
    told = threading.Event()

    class Audience:
        ended = refresh = staticmethod(lambda: pytest.fail("it is not over"))

        def tell(self, *, meters):
            told.set()
            return False

    feed = Feed(run, Audience())
    feed.start()
    assert told.wait(60)
    feed.close()
    assert not feed._thread.is_alive()
    assert run.listeners == run.ends == []


def test_an_audience_that_fails_ends_the_feed_alone(caplog):
    run = FakeRun()

    class Audience:
        def tell(self, *, meters):
            raise RuntimeError("broken")

    feed = Feed(run, Audience())
    feed.start()
    feed.join(60)
    assert not feed._thread.is_alive()
    assert run.listeners == []
    assert "shows no more changes" in caplog.text
