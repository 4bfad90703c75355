"""The permits that a process has taken ahead, and what it tells of them."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from apixo_async._limits.leased import SOONEST, Asked, LeasedWindow
from apixo_async._limits.shared import SharedLimits
from apixo_async._limits.window import PermitOutcome
from apixo_async._types import Limits

#: By how much the clock of the store is ahead of that of the process.
AHEAD = 5_000.0
NOW = 100.0


@pytest.fixture
def window() -> LeasedWindow:
    names = map(str, itertools.count())
    return LeasedWindow(
        Limits(requests_per_minute=600), random.Random(1), names.__next__, lease=8.0
    )


@pytest.fixture
def shared() -> SharedLimits:
    return SharedLimits.fresh(NOW + AHEAD)


def asked(at: float, *, took: float = 0.0, clock: float = AHEAD) -> Asked:
    return Asked(at + took / 2 + clock, at, at + took, at)


def exchanged(
    window: LeasedWindow, shared: SharedLimits, at: float = NOW, waiting: int = 10
) -> None:
    window.exchange(shared, asked(at), waiting=waiting)
    window.kept()


def test_nothing_before_the_first_exchange(window: LeasedWindow) -> None:
    """A process has no permit of its own, and its first exchange is due at once."""
    assert window.ready_at(NOW) == math.inf
    assert window.worth_waking_at(NOW, 5) == math.inf
    assert window.reserve(NOW) == 0
    assert window.exchange_at(0) < NOW
    assert window.rate == 0.0


def test_what_was_granted_is_used(window: LeasedWindow, shared: SharedLimits) -> None:
    """As many as wait, at once."""
    exchanged(window, shared)
    assert window.reserve(NOW) == 10
    for _ in range(10):
        assert window.ready_at(NOW) == NOW
        window.take(NOW)
    assert window.ready_at(NOW) == math.inf
    assert window.in_flight == window.used(NOW) == 10


def test_nothing_is_used_after_the_lease(window: LeasedWindow, shared: SharedLimits) -> None:
    """It ends a lease after the shared value was asked for, by the process's own clock."""
    window.exchange(shared, asked(NOW, took=3.0), waiting=10)
    window.kept()
    assert window.ready_at(NOW + 7.9) == NOW + 7.9
    assert window.ready_at(NOW + 8.0) == math.inf
    assert window.reserve(NOW + 8.0) == 0


def test_permits_wait_until_they_are_free(window: LeasedWindow, shared: SharedLimits) -> None:
    """From when the value came, as the store was asked at some time before that."""
    shared.stamp(NOW + AHEAD + 0.3, 598)
    shared.stamp(NOW + AHEAD + 0.4, 2)
    exchanged(window, shared, waiting=700)
    assert window.reserve(NOW) == 0
    first = window.ready_at(NOW)
    assert NOW + 0.3 <= first <= NOW + 0.5
    assert window.worth_waking_at(NOW, 1) == first
    assert window.worth_waking_at(first, 1) == first


def test_an_answer_is_reported_with_its_age(window: LeasedWindow, shared: SharedLimits) -> None:
    """And a request without one counts for longer."""
    exchanged(window, shared, waiting=3)
    for _ in range(3):
        window.take(NOW)
    window.report(PermitOutcome.ANSWERED, NOW + 1)
    window.report(PermitOutcome.THROTTLED, NOW + 1)
    window.report(PermitOutcome.UNANSWERED, NOW + 1)
    exchanged(window, shared, NOW + 50, waiting=0)
    assert shared.occupied == 3
    shared.forget(NOW + AHEAD + 61.2)
    assert shared.occupied == 1
    shared.forget(NOW + AHEAD + 66.2)
    assert shared.occupied == 0


def test_a_permit_that_was_not_used_is_one_again(
    window: LeasedWindow, shared: SharedLimits
) -> None:
    """For the next that waits."""
    exchanged(window, shared, waiting=1)
    window.take(NOW)
    window.report(PermitOutcome.UNUSED, NOW + 1)
    assert window.ready_at(NOW + 1) == NOW + 1
    assert window.in_flight == 0


def test_what_is_not_needed_is_given_back(window: LeasedWindow, shared: SharedLimits) -> None:
    """A process that has become idle keeps nothing."""
    exchanged(window, shared, waiting=50)
    assert shared.members["0"].held == 50
    exchanged(window, shared, NOW + 1, waiting=0)
    assert shared.members["0"].held == 0
    assert window.reserve(NOW + 1) == 0


def test_a_busy_process_has_a_reserve(window: LeasedWindow, shared: SharedLimits) -> None:
    """As many as its recent use needs until the exchange after the next."""
    exchanged(window, shared, waiting=50)
    for _ in range(50):
        window.take(NOW)
    exchanged(window, shared, NOW + 0.1, waiting=0)
    assert len(shared.members) == 1
    assert 10 <= window.reserve(NOW + 1) <= 20


def test_another_process_was_first(window: LeasedWindow, shared: SharedLimits) -> None:
    """Nothing was granted, and what was to be reported is reported next."""
    exchanged(window, shared, waiting=1)
    window.take(NOW)
    window.report(PermitOutcome.ANSWERED, NOW)
    window.exchange(SharedLimits.load(shared.dump()), asked(NOW + 1), waiting=5)
    assert window.reserve(NOW + 1) == 0
    exchanged(window, shared, NOW + 20, waiting=5)
    assert window.reserve(NOW + 20) == 5
    assert shared.occupied == 6


@pytest.mark.parametrize("kept", [True, False])
def test_an_exchange_whose_answer_was_lost(
    window: LeasedWindow, shared: SharedLimits, kept: bool
) -> None:
    """The next one finds out whether it was kept, and nothing is counted twice or not at all."""
    exchanged(window, shared, waiting=2)
    window.take(NOW)
    window.report(PermitOutcome.ANSWERED, NOW)
    window.take(NOW)
    lost = SharedLimits.load(shared.dump())
    window.exchange(lost, asked(NOW + 1), waiting=5)
    exchanged(window, lost if kept else shared, NOW + 2, waiting=5)
    after = lost if kept else shared
    assert window.in_flight == 1
    assert after.occupied == 1 + 1 + window.reserve(NOW + 3)
    assert window.reserve(NOW + 3) >= 5


def test_one_that_was_taken_for_dead(window: LeasedWindow, shared: SharedLimits) -> None:
    """It has nothing any more, and comes again by another name."""
    exchanged(window, shared, waiting=20)
    window.take(NOW)
    del shared.members["0"]
    exchanged(window, shared, NOW + 30, waiting=20)
    assert window.member == "1"
    assert window.ready_at(NOW + 30) == math.inf
    exchanged(window, shared, NOW + 31, waiting=20)
    assert [*shared.members] == ["1"]
    assert window.reserve(NOW + 31) >= 20


@pytest.mark.parametrize("seconds", [-300.0, -5.0, -0.5, 0.5, 5.0, 300.0])
def test_the_clock_of_the_store_is_set(
    window: LeasedWindow, shared: SharedLimits, seconds: float
) -> None:
    """It is seen by the clock of the process, and the shared value is as good as lost."""
    for second in range(3):
        exchanged(window, shared, NOW + second)
    window.exchange(shared, asked(NOW + 3, clock=AHEAD + seconds), waiting=10)
    window.kept()
    assert window.member == "1"
    assert shared.occupied == 600


def test_slow_exchanges_are_no_clock_that_was_set(
    window: LeasedWindow, shared: SharedLimits
) -> None:
    """Nor is one that goes a little faster than the other."""
    for second, took in enumerate((0.001, 1.5, 0.01, 1.0, 0.001, 0.002)):
        at = NOW + 10 * second
        window.exchange(shared, asked(at, took=took, clock=AHEAD + second / 200), waiting=1)
        window.kept()
    assert window.member == "0"


def test_when_an_exchange_is_due(window: LeasedWindow, shared: SharedLimits) -> None:
    """At once where somebody waits and nothing is in reserve; often while it is busy."""
    exchanged(window, shared, waiting=0)
    assert window.exchange_at(0) == NOW + 2.0
    assert window.exchange_at(1) == NOW + SOONEST
    assert window.exchange_at(0, 1) == NOW + SOONEST
    window.exchange(shared, asked(NOW), waiting=0, wants_tasks=1)
    window.kept()
    assert NOW + 0.1 < window.exchange_at(0, 2) < NOW + 0.4
    exchanged(window, shared, NOW + 1, waiting=5)
    for _ in range(5):
        window.take(NOW + 1)
    assert NOW + 1.1 < window.exchange_at(0) < NOW + 1.4


def test_the_last_exchange(window: LeasedWindow, shared: SharedLimits) -> None:
    """Everything in reserve is given back."""
    exchanged(window, shared, waiting=20)
    window.take(NOW)
    window.leave(shared, asked(NOW + 1))
    assert shared.members == {}
    shared.forget(NOW + AHEAD + 2)
    assert shared.occupied == 1


def test_after_a_429(window: LeasedWindow, shared: SharedLimits) -> None:
    """Nothing that is in reserve is used, and permits come evenly."""
    exchanged(window, shared, waiting=20)
    window.drain(NOW)
    assert window.reserve(NOW) == 0
    exchanged(window, shared, NOW + 0.5, waiting=20)
    assert window.reserve(NOW + 0.5) == 1


def test_another_event_loop(window: LeasedWindow, shared: SharedLimits) -> None:
    """It joins anew, by another name; with the same clock what it has sent counts."""
    exchanged(window, shared, waiting=2)
    window.take(NOW)
    window.rebind(NOW + 1)
    assert window.in_flight == 0
    assert window.reserve(NOW + 1) == 0
    window.rebind(1.0)
    assert window.member == "2"
    assert window.ready_at(1.0) == math.inf


def test_a_lower_limit_of_its_own(window: LeasedWindow, shared: SharedLimits) -> None:
    """What 429s have shown to be granted bounds its own use, whatever it has taken."""
    exchanged(window, shared, waiting=20)
    window.resize(5)
    for _ in range(5):
        assert window.ready_at(NOW) == NOW
        window.take(NOW)
    assert window.ready_at(NOW) == math.inf
    for _ in range(5):
        window.report(PermitOutcome.ANSWERED, NOW + 1)
    assert window.ready_at(NOW + 1) == pytest.approx(NOW + 61.02)
    assert window.rate == pytest.approx(5 / 60)


def test_of_two_exchanges_the_one_that_was_kept_counts(
    window: LeasedWindow, shared: SharedLimits
) -> None:
    """The first is kept late, after the second was asked for: it is known by its number."""
    before = shared.dump()
    window.exchange(shared, asked(NOW), waiting=5)
    kept_late = shared.dump()
    window.exchange(SharedLimits.load(before), asked(NOW + 3), waiting=40)
    window.exchange(SharedLimits.load(kept_late), asked(NOW + 4), waiting=40)
    assert window.reserve(NOW + 4) == 0  # The second was granted nothing.
