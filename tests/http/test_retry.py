"""Repeats stay inside one budget of elapsed time, and 429s spend nothing of it."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async._http.retry import Repeat, RetryPolicy, RetryQuota

LIVELY = settings(max_examples=200, deadline=None, database=None)


class Most(random.Random):
    """A source of chance that always gives the most."""

    def uniform(self, a: float, b: float) -> float:
        """Return the upper bound."""
        del a
        return b


def policy(
    budget: float, rng: random.Random | None = None, quota: RetryQuota | None = None
) -> RetryPolicy:
    """Return a policy whose pauses are at most 8 s, as those of a download."""
    rng = random.Random(1) if rng is None else rng
    return RetryPolicy(budget=budget, rng=rng, quota=quota, longest=8.0)


def pauses(waits: RetryPolicy, now: float) -> list[float]:
    """Repeat at once after each pause until the budget is spent; return the pauses."""
    found = []
    while (pause := waits.pause("unavailable", now)) is not None:
        found.append(pause)
        now += pause
    return found


def test_pauses_double_up_to_the_longest() -> None:
    """At most, pauses are 0.5 s, 1 s, 2 s, 4 s and then 8 s, to the end of the budget."""
    assert pauses(policy(40.0, Most()), 100.0) == [0.5, 1, 2, 4, 8, 8, 8, 8]


@LIVELY
@given(
    seed=st.integers(0, 2**32),
    budget=st.floats(0.1, 600.0),
    took=st.lists(st.floats(0.0, 30.0), max_size=40),
    asked=st.lists(st.floats(0.0, 20.0), max_size=40),
)
def test_no_repeat_begins_after_the_budget(
    seed: int, budget: float, took: list[float], asked: list[float]
) -> None:
    """However long attempts take and whatever the service asks for, repeats begin in time."""
    waits, now = policy(budget, random.Random(seed)), 50.0
    waits.refused(now)
    tops = itertools.chain([0.5, 1, 2, 4], itertools.repeat(8.0))
    for took_one, asked_one, top in zip(took, asked, tops, strict=False):
        now += took_one
        pause = waits.pause("unsent", now, asked_one)
        if pause is None:
            assert now + max(asked_one, top) > 50.0 + budget
            return
        assert asked_one <= pause <= max(asked_one, top)
        now += pause
        assert now <= 50.0 + budget


def test_the_service_may_ask_for_more_than_there_is() -> None:
    """Where `Retry-After` leads beyond the budget, there is no repeat."""
    waits = policy(30.0)
    assert waits.pause("unavailable", 0.0, 30.0) == 30.0
    assert waits.pause("unavailable", 0.0, 30.1) is None


@LIVELY
@given(seed=st.integers(0, 2**32))
def test_seeds_replay(seed: int) -> None:
    """The same seed pauses the same, and the global source of chance is left alone."""
    state = random.getstate()
    first, second = (pauses(policy(60.0, random.Random(seed)), 0.0) for _ in range(2))
    assert first == second
    assert len(set(first)) == len(first) > 7
    assert random.getstate() == state


def test_pauses_spread_evenly() -> None:
    """Pauses are drawn from all of zero to the top, so that a crowd disperses."""
    rng = random.Random(3)
    firsts = [policy(9.0, rng).pause("unavailable", 0.0) for _ in range(1_000)]
    tenths = [sum(0.05 * i <= (one or 0.0) < 0.05 * (i + 1) for one in firsts) for i in range(10)]
    assert sum(tenths) == 1_000
    assert min(tenths) > 60


# --- the quota of a client ---------------------------------------------------------------------


def retries(quota: RetryQuota, now: float) -> int:
    """Spend what the quota has."""
    return sum(1 for _ in iter(lambda: quota.spend(now), False))


@pytest.mark.parametrize(
    ("attempts", "allowed"), [(0, 10), (5, 10), (55, 15), (105, 20), (1_005, 100), (90_000, 100)]
)
def test_first_attempts_earn_retries(attempts: int, allowed: int) -> None:
    """A client has ten retries, earns one with ten first attempts, and saves up a hundred."""
    quota = RetryQuota(0.0)
    for _ in range(attempts):
        quota.earn(0.0)
    assert retries(quota, 0.0) == allowed
    assert retries(quota, 0.0) == 0


@pytest.mark.parametrize(
    ("rest", "allowed"), [(9.9, 0), (10.0, 1), (25.0, 2), (99.9, 9), (100.0, 10), (1e9, 10)]
)
def test_time_brings_back_the_reserve(rest: float, allowed: int) -> None:
    """Every ten seconds bring back one retry, up to ten."""
    quota = RetryQuota(1_000.0)
    assert retries(quota, 1_000.0) == 10
    assert retries(quota, 1_000.0 + rest) == allowed


def test_time_passes_for_attempts_as_well() -> None:
    """What time brings back comes in any number of parts, beside what attempts earn."""
    quota = RetryQuota(0.0)
    assert retries(quota, 0.0) == 10
    for now in range(1, 34):
        quota.earn(float(now))
    assert retries(quota, 33.0) == 6  # 3.3 for the time, and as many for the attempts.


def test_what_is_earned_comes_on_top_of_the_reserve() -> None:
    """Attempts after a long pause earn retries beyond the reserve that time has filled."""
    quota = RetryQuota(0.0)
    while quota.spend(0.0):
        pass
    for _ in range(12):
        quota.earn(200.0)
    assert sum(quota.spend(200.0) for _ in range(20)) == 11


def test_time_takes_nothing_away() -> None:
    """What was earned beyond the reserve outlasts any time, and a clock that goes back."""
    quota = RetryQuota(1_000.0)
    for _ in range(905):
        quota.earn(1_000.0)
    quota.earn(0.0)
    assert retries(quota, 1e9) == 100


def test_pauses_spend_the_quota() -> None:
    """A repeat costs one retry of the client, and one that is out of budget costs none."""
    quota, rng = RetryQuota(0.0), random.Random(1)
    assert policy(1.0, rng, quota).pause("unsent", 0.0, 2.0) is None
    for _ in range(10):
        assert policy(9.0, rng, quota).pause("unsent", 0.0) is not None
    assert policy(9.0, rng, quota).pause("unsent", 0.0) is None
    assert policy(9.0, rng).pause("unsent", 0.0) is not None


def test_429s_spend_no_quota() -> None:
    """Repeats after a 429 cost no retry, and those after other refusals do."""
    quota = RetryQuota(0.0)
    waits = RetryPolicy(budget=1e3, throttled=1e3, rng=Most(), quota=quota)
    for _ in range(50):
        assert waits.pause("throttled", 0.0, None) == 0.0
    pauses = [waits.pause("unavailable", 0.0, None) for _ in range(11)]
    assert [pause is None for pause in pauses] == [False] * 10 + [True]


# --- patience ----------------------------------------------------------------------------------


def patience(budget: float = 120.0, throttled: float = 300.0) -> RetryPolicy:
    """Return a patience whose pauses are the longest."""
    return RetryPolicy(budget=budget, throttled=throttled, rng=Most())


def test_a_refusal_for_good() -> None:
    """What must not be repeated is not, at any time."""
    assert patience().pause(None, 0.0, 5.0) is None


@pytest.mark.parametrize("repeat", ["unavailable", "unsent"])
def test_refusals_share_one_budget(repeat: Repeat) -> None:
    """The budget runs from the first refusal, whatever the refusals are for."""
    waits = patience(budget=10.0)
    assert waits.pause(repeat, 1_000.0, None) == 0.5
    assert waits.pause("unavailable", 1_001.0, None) == 1.0
    assert waits.pause("unsent", 1_008.0, None) == 2.0
    assert waits.pause("unsent", 1_008.5, None) is None


def test_the_service_is_heard() -> None:
    """A 503 with a `Retry-After` is repeated no sooner than that."""
    assert patience().pause("unavailable", 0.0, 45.0) == 45.0
    assert patience().pause("unavailable", 0.0, 121.0) is None


def test_429s_are_waited_out_elsewhere() -> None:
    """A 429 is repeated as soon as the limiter lets it go, until patience with 429s ends."""
    waits = patience(throttled=300.0)
    assert [waits.pause("throttled", now, 60.0) for now in (100.0, 200.0, 399.9)] == [0.0] * 3
    assert waits.pause("throttled", 400.0, None) is None


def test_patience_with_429s_is_for_429s_in_a_row() -> None:
    """Another refusal in between ends the row; the next 429 begins one."""
    waits = patience(throttled=300.0)
    waits.pause("throttled", 0.0, None)
    assert waits.pause("unavailable", 299.0, None) == 0.5
    assert waits.pause("throttled", 300.0, None) == 0.0
    assert waits.pause("throttled", 599.9, None) == 0.0
    assert waits.pause("throttled", 600.0, None) is None


def test_429s_spend_nothing_of_the_budget() -> None:
    """The time under 429 is left out, wherever in the budget it falls."""
    waits = patience(budget=10.0)
    assert waits.pause("unavailable", 0.0, None) == 0.5
    assert waits.pause("throttled", 1.0, None) == 0.0
    assert waits.pause("throttled", 250.0, None) == 0.0
    # 9 s of the budget are left at 260, as they were at 1.
    assert waits.pause("unavailable", 260.0, None) == 1.0
    assert waits.pause("unavailable", 260.0, 9.0) == 9.0
    assert waits.pause("unavailable", 260.0, 9.1) is None


def test_others_may_probe_meanwhile() -> None:
    """A submit waits for another one's probe to the end of the budget, 429s left out."""
    waits = patience(budget=10.0)
    assert waits.refused(100.0) == 110.0
    assert waits.refused(105.0) == 110.0
    waits.pause("throttled", 105.0, None)
    assert waits.refused(205.0) == 210.0
    assert waits.pause("unavailable", 205.0, 5.0) == 5.0
    assert waits.pause("unavailable", 205.0, 5.1) is None


def test_pauses_of_a_submit_grow_further() -> None:
    """At most, a submit is repeated every 16 s."""
    waits = patience(budget=1e3)
    grown = [waits.pause("unsent", 0.0, None) for _ in range(8)]
    assert grown == [0.5, 1, 2, 4, 8, 16, 16, 16]


def test_429s_before_the_first_refusal_spend_nothing() -> None:
    """The budget begins with the first refusal that is no 429."""
    waits = patience(budget=10.0)
    waits.pause("throttled", 0.0, None)
    assert waits.pause("unsent", 290.0, 10.0) == 10.0
