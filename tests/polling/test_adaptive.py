"""Polls that follow what past tasks took."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from apixo_async._polling import adaptive
from apixo_async._polling.adaptive import MOST_KINDS, AdaptiveSchedule
from apixo_async._polling.inspection import IntervalBounds
from apixo_async._polling.schedule import Capacity, FixedSchedule, PollTimes

TIMES = PollTimes(20, 3)
PLENTY = Capacity(requests=166.7, submits=0.0, reserve=6.0, slots_wanted=False, latency=0.0)


def polled_adaptively() -> AdaptiveSchedule:
    """Return a schedule that has learned nothing."""
    fixed = FixedSchedule(lambda _: TIMES, random.Random(1))
    return AdaptiveSchedule(lambda _: TIMES, fixed, IntervalBounds(0.5, 120.0))


def teach(schedule: AdaptiveSchedule, durations: list[float], kind: str = "m") -> list[bool]:
    """Let tasks last for these seconds, one after the other; return what moved first polls."""
    moved: list[bool] = []
    for task, seconds in enumerate(durations):
        schedule.opened(kind, task)
        schedule.closed(kind, waited=False)
        moved.append(schedule.learn(kind, task, seconds))
    return moved


def drawn(count: int, mean: float = 30.0, sigma: float = 0.12, seed: int = 2) -> list[float]:
    """Draw durations."""
    rng = random.Random(seed)
    return [rng.lognormvariate(math.log(mean), sigma) for _ in range(count)]


def test_a_cold_start_goes_by_the_documented_times() -> None:
    """Nothing is known of a kind before eight tasks of it are over."""
    schedule = polled_adaptively()
    teach(schedule, drawn(7))
    assert schedule.first("m", 100.0) == 120.0
    assert schedule.again("m", 100.0, 110.0, PLENTY) == 120.0
    assert schedule.again("m", 100.0, 130.0, PLENTY) == 133.0
    assert teach(schedule, drawn(1)) == [True]
    assert schedule.first("m", 100.0) != 120.0


def test_a_crowd_that_is_unknown_goes_by_the_documented_times() -> None:
    """However many tasks wait for polls, it is the limit that spreads them, in turn."""
    schedule = polled_adaptively()
    for task in range(100_000):
        schedule.opened("m", task)
        schedule.running("m", task, 25.0, first=True)
    assert schedule.again("m", 100.0, 130.0, PLENTY) == 133.0


def test_durations_are_learned_at_once_and_later_in_steps() -> None:
    """Each of the first durations counts by itself; of the window's full 128, each sixteenth."""
    moved = teach(polled_adaptively(), drawn(400))
    assert moved[7:15] == [True] * 8
    assert sum(moved[128:]) == 17


def test_polls_gather_where_tasks_end() -> None:
    """Tasks of 30 s and 12 % are polled from about 25 s on, as often as at the documented times."""
    schedule, age, ages = polled_adaptively(), 0.0, []
    teach(schedule, drawn(300))
    while age < 60.0:
        age = schedule.again("m", 0.0, age, PLENTY) if age else schedule.first("m", 0.0)
        ages.append(age)
    assert 23 < ages[0] < 27
    late = drawn(2_000, seed=9)
    polls = [sum(age < lasted for age in ages) + 1 for lasted in late]
    scheduled = [1 + max(0, math.ceil((lasted - 20) / 3)) for lasted in late]
    assert sum(polls) <= 1.02 * sum(scheduled)
    delays = [next(age for age in ages if age >= lasted) - lasted for lasted in late]
    pairs = zip(scheduled, late, strict=True)
    by_schedule = [20 + 3 * (count - 1) - lasted for count, lasted in pairs]
    assert sum(delays) < 0.55 * sum(by_schedule)


def test_few_results_are_later_than_at_the_documented_times() -> None:
    """Of learned polls no more than one in 100 comes later than at the documented times."""
    late = 0
    for seed in range(8):
        schedule = polled_adaptively()
        teach(schedule, drawn(128, seed=seed))
        ages = [schedule.first("m", 0.0)]
        while ages[-1] < 100.0:
            ages.append(schedule.again("m", 0.0, ages[-1], PLENTY))
        lasted = drawn(1_000, seed=100 + seed)
        late += sum(next(age for age in ages if age >= one) - one > 2.97 for one in lasted)
    assert late <= 80


def test_a_task_that_hangs_costs_few_polls() -> None:
    """Far beyond every known duration, each pause is a tenth of the age."""
    schedule, ages = polled_adaptively(), [45.0]
    teach(schedule, drawn(128))
    while ages[-1] < 7_200.0:
        ages.append(schedule.again("m", 0.0, ages[-1], PLENTY))
    waits = [after - before for before, after in pairwise(ages) if before > 80.0]
    assert waits == pytest.approx([min(0.1 * age, 120.0) for age in ages if 80.0 < age < 7_200.0])


def test_scarce_requests_raise_the_price() -> None:
    """A thousand tasks that are too many for 20 requests a second are polled later."""
    schedule = polled_adaptively()
    teach(schedule, drawn(200))
    for task in range(1_000):
        schedule.opened("m", ("now", task))
    plentiful = schedule.again("m", 0.0, 28.0, PLENTY)
    scarce = Capacity(requests=20.0, submits=5.0, reserve=1.0, slots_wanted=False, latency=0.0)
    later = schedule.again("m", 0.0, 28.0 + 1.0, scarce) - 1.0
    assert later > plentiful + 1.0
    # A price stays for half a second, but what is left of the reserve counts at once.
    relaxed = Capacity(requests=20.0, submits=5.0, reserve=6.0, slots_wanted=False, latency=0.0)
    assert schedule.again("m", 0.0, 29.0, relaxed) - 1.0 < later


def test_slots_that_are_waited_for_lower_the_price() -> None:
    """With requests to spare, slots are freed sooner by more polls than documented."""
    schedule = polled_adaptively()
    teach(schedule, drawn(200, mean=12.0))
    for task in range(10):
        schedule.opened("m", ("now", task))
    at_rest = schedule.again("m", 0.0, 11.0, PLENTY)
    wanted = Capacity(requests=166.7, submits=1.0, reserve=6.0, slots_wanted=True, latency=0.0)
    hurried = schedule.again("m", 10.0, 21.0, wanted)
    assert hurried - 10.0 < at_rest
    # For a while nobody waits, as several slots became free at once.
    assert schedule.again("m", 20.0, 31.0 - 0.1, PLENTY) - 20.0 < at_rest - 0.5
    assert schedule.again("m", 21.0, 31.0 + 1.0, PLENTY) - 21.0 == pytest.approx(at_rest)


def test_polls_leave_earlier_by_the_latency() -> None:
    """A poll takes half an exchange to get there, and the submit's answer took half of one."""
    schedule = polled_adaptively()
    teach(schedule, drawn(200))
    due = schedule.again("m", 0.0, 1.0, PLENTY)
    slow = Capacity(requests=166.7, submits=0.0, reserve=6.0, slots_wanted=False, latency=0.3)
    assert schedule.again("m", 0.0, 1.0, slow) == pytest.approx(due - 0.3)


def test_kinds_are_learned_apart() -> None:
    """What one kind takes says nothing of another."""
    schedule = polled_adaptively()
    teach(schedule, drawn(50, mean=90.0), kind="slow")
    teach(schedule, drawn(50, mean=9.0), kind="quick")
    assert schedule.first("slow", 0.0) > 55
    assert schedule.first("quick", 0.0) < 15
    assert schedule.first("other", 0.0) == 20.0


def test_a_slower_service_is_followed() -> None:
    """After 100 tasks that took twice as long, a poll where nothing ends any more is rare."""
    schedule = polled_adaptively()
    teach(schedule, drawn(300))
    assert 23 < schedule.first("m", 0.0) < 27
    teach(schedule, drawn(112, mean=60.0))
    ages = [schedule.first("m", 0.0)]
    while ages[-1] < 45.0:
        ages.append(schedule.again("m", 0.0, ages[-1], PLENTY))
    assert len(ages) <= 6
    teach(schedule, drawn(32, mean=60.0))
    assert schedule.first("m", 0.0) > 40


def test_tasks_of_unknown_length_teach_nothing() -> None:
    """A task that was given up, or that nobody timed, changes nothing."""
    schedule = polled_adaptively()
    for task in range(20):
        schedule.opened("m", task)
        schedule.closed("m", waited=False)
        assert not schedule.learn("m", task, None)
    assert schedule.first("m", 0.0) == 20.0


def test_kinds_do_not_pile_up() -> None:
    """Of very many kinds the oldest ones without a task are forgotten."""
    schedule = polled_adaptively()
    schedule.opened("kept", 0)
    for number in range(2 * MOST_KINDS):
        teach(schedule, [1.0], kind=f"kind {number}")
    assert len(schedule._kinds) == MOST_KINDS
    assert "kept" in schedule._kinds
    for number in range(2 * MOST_KINDS):
        schedule.opened(f"busy {number}", number)
    assert len(schedule._kinds) > 2 * MOST_KINDS


def test_the_price_is_found_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding the price takes work: at most twice a second, however many polls there are."""
    found: list[float] = []

    def counting(*_: object, **__: object) -> float:
        found.append(1.0)
        return 1.0

    monkeypatch.setattr(adaptive, "clearing_price", counting)
    schedule = polled_adaptively()
    for n in range(1_000):
        schedule.again("m", 0.0, 100 + n / 100, PLENTY)
    assert len(found) == 20


def test_the_less_is_lost_the_longer_a_silence_lasts() -> None:
    """From the times of polls, where all callbacks are lost, to the end of nearly all tasks."""
    schedule = polled_adaptively()
    teach(schedule, drawn(300, sigma=0.35))
    first = schedule.first("m", 0.0)
    dues = [
        schedule.silent("m", 0.0, 0.0, 0.0, PLENTY._replace(lost=lost))
        for lost in (1.0, 0.3, 0.1, 0.01, 0.0001)
    ]
    assert dues[0] == first
    assert dues == sorted(dues)
    assert dues[2] > first + 5.0
    late = sorted(drawn(2_000, sigma=0.35, seed=9))
    assert dues[3] > late[1_400]
    assert late[1_900] < dues[4] < 1.2 * late[-1]


def test_a_silence_of_a_kind_that_is_unknown() -> None:
    """It goes by the documented times, whatever share is lost."""
    schedule = polled_adaptively()
    assert schedule.silent("m", 100.0, 0.0, 100.0, PLENTY._replace(lost=0.3)) == 150.0


def test_a_silence_ends_within_the_longest_documented_time() -> None:
    """However long tasks took; the ceiling of polls is none of the wait for a callback."""
    schedule = polled_adaptively()
    rare = PLENTY._replace(lost=0.001)
    teach(schedule, [900.0] * 20, kind="flux-kontext")
    assert schedule.silent("flux-kontext", 0.0, 0.0, 0.0, rare) == 120.0
    teach(schedule, [400.0] * 20, kind="sora-2")
    assert schedule.silent("sora-2", 0.0, 0.0, 0.0, rare) >= 400.0


def test_callbacks_have_a_clearing_price_of_their_own() -> None:
    """They take fewer requests than polls would, so that a silent task is polled earlier."""
    schedule = polled_adaptively()
    scarce = Capacity(requests=4.0, submits=2.0, reserve=1.0, slots_wanted=True, latency=0.0)
    called = scarce._replace(lost=0.05)
    for task in range(50):
        schedule.opened("m", ("now", task))
    dues: list[float] = []
    for now, capacity in ((0.0, scarce), (10.0, called)):
        schedule.again("m", 0.0, now, capacity)
        teach(schedule, drawn(128, sigma=0.35))
        dues.append(schedule.silent("m", now, 0.0, now + 1.0, called) - now)
    assert dues[1] < dues[0]


def test_the_word_of_another_process_that_is_late() -> None:
    """It is lost by the documented times at first, then a tenth beyond nearly all durations."""
    schedule = polled_adaptively()
    assert schedule.late("m", 100.0) == 150.0
    teach(schedule, [10.0] * 20)
    assert schedule.late("m", 100.0) == pytest.approx(111.0)
    teach(schedule, [0.01] * 20, kind="quick")
    assert schedule.late("quick", 100.0) == 100.5


@pytest.mark.parametrize("count", [8, 20, 128])
def test_an_outlier_makes_no_word_later(count: int) -> None:
    """One task of 20 minutes among those of 30 s, be they eight, moves no late poll."""
    schedule = polled_adaptively()
    teach(schedule, [1_200.0, *[30.0] * (count - 1)])
    assert schedule.late("m", 0.0) == pytest.approx(33.0)


def test_no_word_counts_as_lost_later_than_the_documents_allow() -> None:
    """However long tasks took, the late poll comes within their longest documented time."""
    schedule = polled_adaptively()
    teach(schedule, [900.0] * 20, kind="flux-kontext")
    assert schedule.late("flux-kontext", 0.0) == 120.0
    slow = AdaptiveSchedule(
        lambda _: PollTimes(100, 100),
        FixedSchedule(lambda _: PollTimes(100, 100), random.Random(1)),
        IntervalBounds(100, 120),
    )
    assert slow.late("sora-2", 0.0) == 600.0
