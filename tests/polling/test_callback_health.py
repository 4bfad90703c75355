"""Whether callbacks are to be expected, by what became of the last ones."""

from __future__ import annotations

import pytest

from apixo_async._polling.callback_health import ON_ITS_WAY, SILENT_AFTER, CallbackHealth, may_be_of


def test_silence_begins_once() -> None:
    """Eight tasks in a row without a callback are a silence, which begins with the eighth."""
    health = CallbackHealth()
    health.received(5.0, 5.0)
    assert health.is_proved
    begun = [health.missed() for _ in range(2 * SILENT_AFTER)]
    assert begun == [number == SILENT_AFTER for number in range(1, 2 * SILENT_AFTER + 1)]
    assert not health.is_proved


def test_nothing_is_proved_before_the_first_callback() -> None:
    """Before any callback one task without one is a silence, and there is one only."""
    health = CallbackHealth()
    assert not health.is_proved
    assert [health.missed() for _ in range(20)] == [True, *[False] * 19]
    assert health.missed_in_a_row == 20
    assert health.received(5.0, 5.0)
    assert health.is_proved
    assert health.missed_in_a_row == 0


def test_a_callback_that_may_be_on_its_way() -> None:
    """A task that ended a moment ago says nothing of silence; yet nothing is proved by it."""
    health = CallbackHealth()
    assert not health.missed(ON_ITS_WAY - 0.1)
    assert health.missed(ON_ITS_WAY)
    health.received(5.0, 5.0)
    assert health.is_steady(0.0, 6.0, 6.0)
    assert not health.missed(0.0)
    assert not health.is_steady(0.0, 6.0, 6.0)


def test_a_callback_ends_the_count() -> None:
    """One callback among seven tasks without one: nothing is silent."""
    health = CallbackHealth()
    for at in (5.0, 6.0):
        assert not health.received(at, at)
        assert not any(health.missed() for _ in range(SILENT_AFTER - 1))
    assert health.is_proved


def test_a_callback_ends_a_silence_once() -> None:
    """The first callback after a silence ends it; the next one ends nothing."""
    health = CallbackHealth()
    for _ in range(SILENT_AFTER):
        health.missed()
    assert [health.received(at, at) for at in (1.0, 2.0)] == [True, False]
    assert health.is_proved


def test_the_share_of_lost_callbacks() -> None:
    """It begins at a tenth, follows what is seen, and is never 0."""
    health = CallbackHealth()
    assert health.lost == 0.1
    health.received(5.0, 5.0)
    for number in range(2_000):
        if number % 4:
            health.received(5.0, 5.0)
            health.announced()
        else:
            health.missed()
    assert health.lost == pytest.approx(0.25, abs=0.01)
    for _ in range(100_000):
        health.announced()
    assert 0.0 < health.lost < 0.001


def test_one_callback_more_or_less_moves_the_share_little() -> None:
    """After a hundred that came it is below a hundredth, and one that is lost raises it by one."""
    health = CallbackHealth()
    health.received(5.0, 5.0)
    for _ in range(100):
        health.announced()
    assert health.lost < 0.01
    before = health.lost
    health.missed()
    assert health.lost == pytest.approx(before + 0.01, abs=0.001)


def test_what_says_nothing_of_the_share() -> None:
    """Before any callback has come, in a silence, and right after the end of a task."""
    health = CallbackHealth()
    health.missed()
    assert health.lost == 0.1
    health.received(5.0, 5.0)
    health.missed(ON_ITS_WAY - 0.1)
    assert health.lost == 0.1
    for _ in range(SILENT_AFTER):
        health.missed()
    silent = health.lost
    health.missed()
    assert health.lost == silent > 0.1


def test_a_slow_callback_is_not_a_lost_one() -> None:
    """How long callbacks take is learned; within half as much again none counts as lost."""
    health = CallbackHealth()
    health.received(5.0, 5.0)
    health.announced(4.0)
    lost = health.lost
    assert health.delay == 4.0
    assert not health.missed(5.9)
    assert health.lost == lost
    health.missed(6.0)
    assert health.lost > lost


def test_the_delay_of_callbacks_follows_them() -> None:
    """One slow callback is forgotten, one of an unknown delay says nothing, and 10 s are enough."""
    health = CallbackHealth()
    health.announced(4.0)
    health.announced()
    assert health.delay == 4.0
    for _ in range(200):
        health.announced(0.1)
    assert health.delay < 0.2
    health.announced(3_600.0)
    assert health.delay == 10.0


def steady(times: list[tuple[float, float]], since: float, end: tuple[float, float]) -> bool:
    """Return whether callbacks at these times leave no room for a lost one."""
    health = CallbackHealth()
    for now, wall in times:
        health.received(now, wall)
    return health.is_steady(since, *end)


def test_steady_callbacks() -> None:
    """A callback at least every two minutes, from the submit to the end."""
    times = [(at, at) for at in (10.0, 100.0, 220.0)]
    assert steady(times, 0.0, (340.0, 340.0))
    assert steady(times, -110.0, (340.0, 340.0))
    assert not steady(times, -111.0, (340.0, 340.0))
    assert not steady(times, 0.0, (341.0, 341.0))
    assert not steady([times[0], times[2]], 0.0, (230.0, 230.0))
    assert steady([times[0], times[2]], 110.0, (230.0, 230.0))
    assert not steady([], 0.0, (1.0, 1.0))


def test_a_machine_that_slept() -> None:
    """The loop's clock stood still meanwhile, and the other one shows it, unless it is set back."""
    assert not steady([(10.0, 10.0), (20.0, 900.0)], 0.0, (30.0, 910.0))
    assert not steady([(10.0, 10.0)], 0.0, (30.0, 910.0))
    assert steady([(10.0, 10.0), (20.0, -900.0)], 0.0, (30.0, -890.0))


def test_one_that_went_missing() -> None:
    """One task that was over before its callback came makes room for another lost one."""
    health = CallbackHealth()
    health.received(10.0, 10.0)
    health.missed()
    health.received(20.0, 20.0)
    assert not health.is_steady(-105.0, 30.0, 30.0)
    assert health.is_steady(0.0, 30.0, 30.0)


DAY = 86_400.0
NOW = 20_000 * DAY


@pytest.mark.parametrize(
    ("created", "age", "noted_at", "may"),
    [
        (None, 10.0, None, True),
        (NOW - 5.0, 10.0, None, True),
        (NOW - 70.0, 10.0, None, True),
        (NOW - 71.0, 10.0, None, False),
        (NOW - 14 * DAY, 10.0, None, False),
        (NOW - 16 * DAY, 10.0, None, True),  # No result lives as long: it is no time.
        (NOW + 59.0, 10.0, None, True),
        (NOW + DAY, 10.0, None, True),
        (NOW - 3_600.0, 10.0, NOW - 3_590.0, True),
        (NOW - 3_600.0, 10.0, NOW - 3_000.0, False),
        (NOW - 3_600.0, 3_590.0, NOW - 3_000.0, True),
    ],
)
def test_the_task_of_a_submit(
    created: float | None, age: float, noted_at: float | None, may: bool
) -> None:
    """A task that is older than a submit is not what it made, by any of the clocks."""
    assert may_be_of(created, NOW, age, noted_at=noted_at) is may
