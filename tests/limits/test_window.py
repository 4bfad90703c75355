"""The limit holds on the server's clock whatever the latency does, and little of it is wasted."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apixo_async._limits.window import MARGIN, SLACK, PermitOutcome, SlidingWindow

from ..support.simulation.sharing import most_within

LIVELY = settings(max_examples=300, deadline=None, database=None)
#: For how long a stamp counts.
KEPT = 60.0 + SLACK


@dataclass(frozen=True)
class Request:
    """One request that is to be sent.

    Attributes:
        gap: Seconds from the former one's wish to this one's.
        latency: Seconds from its permit to its end.
        where: The part of the time in which it may arrive at the server that it takes.
        fate: How it ends.
    """

    gap: float
    latency: float
    where: float
    fate: Literal["answered", "unanswered", "unused"]


@dataclass
class Run:
    """What happened when requests were sent as early as the log let them go."""

    taken: list[float] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)

    def fullest(self, window: float, *, drift: float = 0.0) -> int:
        """Return the most arrivals in any closed window of the server's clock."""
        return most_within(window, (at * (1 + drift) for at in self.arrived))


def run(log: SlidingWindow, requests: list[Request], *, rebind_after: int | None = None) -> Run:
    """Send the requests one after the other, each as early as the log lets it go."""
    done, now, wished = Run(), 1_000.0, 1_000.0
    ends: list[tuple[float, int, PermitOutcome]] = []
    for index, request in enumerate(requests):
        wished = max(wished + request.gap, now)
        while True:
            now = max(now, wished)
            while ends and ends[0][0] <= now:
                at, _, outcome = heapq.heappop(ends)
                log.report(outcome, at)
            ready = log.ready_at(now)
            if ready <= now:
                break
            wished = min(ready, ends[0][0] if ends else math.inf)
            assert now < wished < math.inf, "nothing would ever let this request go"
        log.take(now)
        done.taken.append(now)
        end_at = now + request.latency
        if index == rebind_after:
            log.rebind(now)
            assert log.in_flight == 0
            done.arrived.append(now + request.where * MARGIN)
            # With its loop a request has lost who would send the rest of it.
            done.arrived = [min(at, now + MARGIN) for at in done.arrived]
            ends.clear()
        elif request.fate == "unused":
            log.report(PermitOutcome.UNUSED, now)
        elif request.fate == "answered":
            done.arrived.append(now + request.where * request.latency)
            heapq.heappush(ends, (end_at, index, PermitOutcome.ANSWERED))
        else:
            done.arrived.append(now + request.where * (request.latency + MARGIN))
            heapq.heappush(ends, (end_at, index, PermitOutcome.UNANSWERED))
    return done


requests = st.builds(
    Request,
    gap=st.just(0.0) | st.floats(0.0, 20.0),
    latency=st.just(0.0) | st.floats(0.0, 1.0) | st.floats(0.0, 40.0),
    where=st.sampled_from([0.0, 1.0]) | st.floats(0.0, 1.0),
    fate=st.sampled_from(["answered", "answered", "unanswered", "unused"]),
)
#: One that the server counts at its end, then one that it counts at once.
LATE, EARLY = Request(0.0, 30.0, 1.0, "answered"), Request(0.0, 30.0, 0.0, "answered")
LOST = Request(0.0, 5.0, 1.0, "unanswered")


@LIVELY
@given(
    limit=st.integers(1, 25),
    wanted=st.lists(requests, max_size=60),
    drift=st.floats(-3e-4, 3e-4),
)
@example(limit=1, wanted=[LATE, EARLY], drift=-3e-4)
@example(limit=2, wanted=[LOST, LATE, EARLY, EARLY], drift=0.0)
def test_no_window_of_the_server_holds_more(
    limit: int, wanted: list[Request], drift: float
) -> None:
    """Wherever between permit and end a request arrives, 60 s never hold more than the limit."""
    done = run(SlidingWindow(limit), wanted)
    assert done.fullest(60.0, drift=drift) <= limit


@LIVELY
@given(
    limit=st.integers(1, 6),
    wanted=st.lists(requests, min_size=4, max_size=40),
    rebind_after=st.integers(0, 39),
)
def test_another_loop_does_not_forget(limit: int, wanted: list[Request], rebind_after: int) -> None:
    """What was in flight when the loop changed may still arrive, and is counted."""
    log = SlidingWindow(limit)
    done = run(log, wanted, rebind_after=min(rebind_after, len(wanted) - 1))
    assert max(done.fullest(60.0), log.used(done.taken[-1])) <= limit


def burst(log: SlidingWindow, now: float) -> int:
    """Take as many permits as go at one instant."""
    for count in itertools.count():
        if log.ready_at(now) > now:
            return count
        log.take(now)
    raise AssertionError


@pytest.mark.parametrize(
    ("limit", "at_once"), [(1, 1), (9, 1), (10, 1), (25, 2), (60, 6), (1_000, 100), (10_000, 1_000)]
)
def test_a_burst_then_evenly(limit: int, at_once: int) -> None:
    """A tenth of the limit goes at once, at least one; the rest of the minute comes evenly."""
    log = SlidingWindow(limit)
    assert burst(log, 5.0) == at_once
    done = run(log, [Request(0.0, 0.1, 1.0, "answered")] * (limit - at_once))
    # By then the bucket has filled up again.
    pace = done.taken[at_once:]
    steps = [later - earlier for earlier, later in itertools.pairwise(pace)]
    assert steps == pytest.approx([60 / limit] * len(steps))


@LIVELY
@given(limit=st.integers(1, 200), wanted=st.lists(requests, min_size=2, max_size=60))
def test_never_faster_than_burst_and_pace(limit: int, wanted: list[Request]) -> None:
    """Any stretch of time sees at most the burst and what the pace adds to it."""
    sent = [one for one in wanted if one.fate != "unused"]
    taken = run(SlidingWindow(limit), sent).taken
    for first, last in itertools.combinations(range(len(taken)), 2):
        span = taken[last] - taken[first]
        assert last - first + 1 <= max(1.0, limit / 10) + span * limit / 60 + 1e-6


def exponential(rng: random.Random) -> float:
    """Draw a latency with a long tail."""
    return rng.expovariate(2.0)


def spiky(rng: random.Random) -> float:
    """Draw a latency that is mostly nothing and sometimes long."""
    return 5.0 if rng.random() < 0.1 else 0.0


def steady(rng: random.Random) -> float:
    """Draw always the same latency."""
    del rng
    return 0.5


@pytest.mark.parametrize(
    ("limit", "minutes", "latency"),
    [
        *[(limit, 240, steady) for limit in (1, 3, 10)],
        *[(60, 60, latency) for latency in (steady, exponential, spiky)],
        *[(600, 20, latency) for latency in (steady, exponential, spiky)],
        (10_000, 5, exponential),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_little_of_the_limit_is_wasted(
    limit: int, minutes: int, latency: Callable[[random.Random], float]
) -> None:
    """At a mean latency of half a second, greedy demand gets 99 % of the limit."""
    rng, log = random.Random(7), SlidingWindow(limit)
    now, end, sent = 0.0, 60.0 * minutes, 0
    ends: list[float] = []
    while now < end:
        if log.ready_at(now) <= now:
            log.take(now)
            sent += 1
            heapq.heappush(ends, now + latency(rng))
            continue
        now = min(log.ready_at(now), ends[0] if ends else math.inf)
        while ends and ends[0] <= now:
            log.report(PermitOutcome.ANSWERED, heapq.heappop(ends))
    assert sent >= 0.99 * limit * minutes


@pytest.mark.parametrize("start", [0.0, 1.0, 1e6 + 1 / 3, 1e9 + 0.1])
@pytest.mark.parametrize("limit", [7, 10_000])
def test_the_time_it_names_is_a_time_at_which_it_lets_go(start: float, limit: int) -> None:
    """A timer set for that time finds a permit, at most one tick of the clock later."""
    log, now = SlidingWindow(limit), start
    for _ in range(2_000):
        ready = log.ready_at(now)
        if ready > now:
            now = ready
            ready = log.ready_at(now)
            now, ready = ready, log.ready_at(ready)
        assert ready <= now
        log.take(now)
        log.report(PermitOutcome.ANSWERED, now)


def test_unused_permits_are_not_lost() -> None:
    """A permit with which nothing was sent leaves no trace, neither in the count nor the pace."""
    log = SlidingWindow(100)
    for _ in range(50):
        assert burst(log, 3.0) == 10
        for _ in range(10):
            log.report(PermitOutcome.UNUSED, 3.0)
        assert log.used(3.0) == log.in_flight == 0
    for _ in range(10):
        log.take(3.0)
        log.report(PermitOutcome.UNUSED, 3.0)
    assert burst(log, 3.0) == 10


def test_an_unused_permit_gives_back_one() -> None:
    """What comes back is one permit for each unused one, and never more than a burst."""
    log = SlidingWindow(100)
    assert burst(log, 3.0) == 10
    for _ in range(3):
        log.report(PermitOutcome.UNUSED, 3.0)
    assert burst(log, 3.0) == 3
    # By 60 the bucket is full again, and what comes back overflows.
    assert log.ready_at(60.0) == 60.0
    log.report(PermitOutcome.UNUSED, 60.0)
    assert burst(log, 60.0) == 10


def test_all_in_flight() -> None:
    """While every permit is in flight, only the end of one of them can tell."""
    log = SlidingWindow(2)
    log.take(0.0)
    log.take(30.0)
    assert (log.ready_at(1e6), log.used(1e6)) == (math.inf, 2)
    log.report(PermitOutcome.ANSWERED, 1e6)
    assert log.ready_at(1e6) == 1e6 + KEPT


def test_stamps_of_both_kinds() -> None:
    """An answer counts from when it came, a request without one from five seconds after its end."""
    assert (MARGIN, SLACK) == (5.0, 0.02)
    log = SlidingWindow(2)
    log.take(0.0)
    log.take(30.0)
    log.report(PermitOutcome.UNANSWERED, 31.0)
    log.report(PermitOutcome.ANSWERED, 32.0)
    assert log.ready_at(40.0) == 32.0 + KEPT
    assert [log.used(32.0 + KEPT - 0.01), log.used(32.0 + KEPT)] == [2, 1]
    assert [log.used(31.0 + MARGIN + KEPT - 0.01), log.used(31.0 + MARGIN + KEPT)] == [1, 0]


def test_the_burst_can_be_spent() -> None:
    """After `drain` one permit goes, and the others evenly."""
    log = SlidingWindow(600)
    log.drain(10.0)
    assert burst(log, 10.0) == 1
    assert log.ready_at(10.0) == pytest.approx(10.1)


def test_draining_gives_nothing() -> None:
    """Where there is less than one permit, `drain` adds none."""
    log = SlidingWindow(600)
    assert burst(log, 10.0) == 60
    log.drain(10.0)
    assert log.ready_at(10.0) == pytest.approx(10.1)


def test_a_loop_whose_clock_begins_anew() -> None:
    """Stamps of a clock that went backwards mean nothing; what is in flight still counts."""
    log = SlidingWindow(3)
    log.take(1_000.0)
    log.report(PermitOutcome.ANSWERED, 1_000.0)
    log.take(1_020.0)
    log.report(PermitOutcome.UNANSWERED, 1_020.0)
    log.take(1_040.0)
    log.rebind(0.0)
    assert (log.used(0.0), log.in_flight) == (1, 0)
    assert log.ready_at(30.0) == 30.0
    assert log.used(MARGIN + KEPT) == 0


def test_a_window_of_another_length() -> None:
    """The window is a minute unless it is said otherwise."""
    log = SlidingWindow(1, window=1.0)
    log.take(0.0)
    log.report(PermitOutcome.ANSWERED, 0.0)
    assert log.ready_at(0.5) == 1.0 + SLACK


def test_what_the_service_granted() -> None:
    """Answers of one window are what the service grants; 429s count against the limit only."""
    log = SlidingWindow(100)
    outcomes = PermitOutcome
    for outcome in (
        outcomes.ANSWERED,
        outcomes.ANSWERED,
        outcomes.UNANSWERED,
        outcomes.THROTTLED,
    ):
        log.take(10.0)
        log.report(outcome, 10.0)
    assert (log.used(10.0), log.granted(10.0)) == (4, 2)
    assert (log.used(10.0 + KEPT), log.granted(10.0 + KEPT)) == (1, 0)


def test_grants_of_an_earlier_window() -> None:
    """What was granted is counted anew at each asking."""
    log = SlidingWindow(100)
    log.take(10.0)
    log.report(PermitOutcome.ANSWERED, 10.0)
    assert [log.granted(at) for at in (10.0 + KEPT - 0.01, 10.0 + KEPT)] == [1, 0]


@pytest.mark.parametrize(
    "outcome", [one for one in PermitOutcome if one is not PermitOutcome.UNUSED]
)
def test_whether_a_stamp_is_left(outcome: PermitOutcome) -> None:
    """A stamp of any kind makes room one day; a request in flight, or none, does not."""
    log = SlidingWindow(100)
    assert log.is_stamped is False
    log.take(10.0)
    assert log.is_stamped is False
    log.report(outcome, 10.0)
    assert log.is_stamped is True
    assert log.used(10.0 + MARGIN + KEPT) == 0
    assert log.is_stamped is False


def test_another_limit() -> None:
    """What was sent counts against a new limit, and the pace is the new one's."""
    log = SlidingWindow(600)
    assert burst(log, 10.0) == 60
    log.resize(60)
    assert log.ready_at(10.0) == math.inf
    for _ in range(60):
        log.report(PermitOutcome.ANSWERED, 10.0)
    assert log.ready_at(10.0) == 10.0 + KEPT
    log.resize(1_200)
    assert log.ready_at(10.0) == pytest.approx(10.0 + 1 / 20)


def test_a_lower_limit_shrinks_the_burst() -> None:
    """A burst that was saved up is no larger than the new limit's."""
    log = SlidingWindow(600)
    assert log.reserve(5.0) == 60
    log.resize(100)
    assert (log.reserve(5.0), burst(log, 5.0), log.reserve(5.0)) == (10, 10, 0)


@pytest.mark.parametrize(
    ("limit", "waiting", "later"),
    [
        (10_000, 1, 0.006),
        (10_000, 3, 0.018),
        (10_000, 500, 0.05),
        (600, 500, 0.1),  # Where a tick is no more than a permit, each has its own time.
    ],
)
def test_a_crowd_is_served_by_the_handful(limit: int, waiting: int, later: float) -> None:
    """It is worth to wait a tick where more go together then."""
    log = SlidingWindow(limit)
    assert burst(log, 10.0) == limit // 10
    assert log.worth_waking_at(10.0, waiting) == pytest.approx(10.0 + later)


def test_a_crowd_before_a_full_minute() -> None:
    """Where the minute is full, a crowd is served a tick after the first stamp is old."""
    log = SlidingWindow(10_000)
    for now in range(100):
        for _ in range(burst(log, float(now))):
            log.report(PermitOutcome.ANSWERED, float(now))
    first = log.worth_waking_at(62.0, 1)
    assert log.worth_waking_at(62.0, 50) >= first
    full = SlidingWindow(2_400)
    full.take(0.0)
    for _ in range(2_399):
        full.take(1.0)
    full.report(PermitOutcome.ANSWERED, 1.0)
    assert full.worth_waking_at(2.0, 9) == pytest.approx(1.0 + KEPT + 0.05)


def test_what_is_in_reserve_grows_with_time() -> None:
    """By the pace, and never beyond what the limit leaves."""
    log = SlidingWindow(10)
    assert log.reserve(0.0) == 1.0
    log.take(0.0)
    assert log.reserve(3.0) == pytest.approx(0.5)
    for number in range(1, 10):
        log.take(6.0 * number)
    assert log.reserve(59.0) == 0.0


def test_several_are_served_at_once() -> None:
    """The wait is for as many as come within a tick, less what has come already."""
    log = SlidingWindow(6_000)
    for _ in range(600):
        log.take(0.0)
    assert log.worth_waking_at(0.02, 10) == pytest.approx(0.05)
