"""How callers choose when to poll."""

from __future__ import annotations

import math
import random

import pytest

from apixo_async._polling.adaptive import AdaptiveSchedule
from apixo_async._polling.policy import Polling
from apixo_async._polling.schedule import FixedSchedule, PollTimes
from apixo_async.errors import ConfigurationError
from apixo_async.testing import Simulator


@pytest.mark.parametrize(
    ("kind", "times"),
    [
        ("gpt-image-1", PollTimes(20, 3)),
        ("gpt-image-2", PollTimes(30, 10)),
        ("gpt-image-2/1k", PollTimes(30, 10)),
        ("gpt-image-2/2k", PollTimes(60, 10)),
        ("gpt-image-2/4k", PollTimes(120, 10)),
        ("flux-kontext", PollTimes(20, 3)),
        ("nano-banana", PollTimes(5, 3)),
        ("seedream-4-5", PollTimes(10, 5)),
        ("sora-2", PollTimes(60, 15)),
        ("suno", PollTimes(30, 10)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_documented_times(kind: str, times: PollTimes) -> None:
    """Without a word, a task is polled when the documents say."""
    assert Polling.documented().times_for(kind) == times
    assert Polling().times_for(kind) == times


def test_the_times_of_a_fast_simulator() -> None:
    """The documented times and the floor, divided by its speed; the ceiling stays."""
    polling = Simulator(speed=100.0).polling
    assert polling == Polling(speed=100.0)
    assert polling.times_for("gpt-image-2") == PollTimes(0.3, 0.1)
    assert polling.times_for("nano-banana") == PollTimes(0.05, 0.03)
    assert Simulator().polling == Polling.adaptive()
    assert Polling(learns=False, speed=10.0).times_for("sora-2") == PollTimes(6.0, 1.5)


def test_times_of_ones_own() -> None:
    """Fixed times are those of every kind of task."""
    polling = Polling.fixed(0, 2)
    assert polling.times_for("gpt-image-2/4k") == polling.times_for("sora-2") == PollTimes(0.0, 2.0)
    assert isinstance(polling.times_for("x").interval, float)


@pytest.mark.parametrize(
    ("first", "interval", "words"),
    [
        (-1, 3, "first=-1; a finite number of seconds, 0 or more"),
        (math.nan, 3, "first=nan"),
        (math.inf, 3, "first=inf"),
        ("5", 3, "first='5'"),
        (True, 3, "first=True"),
        (5, 0, "interval=0; a finite number of seconds, 0.001 or more"),
        (5, -3, "interval=-3"),
        (5, None, "interval=None"),
        (5, 10**400, "interval=10000"),
    ],
    ids=lambda value: repr(value)[:12],
)
def test_times_that_are_none(first: float, interval: float, words: str) -> None:
    """Times are two numbers of seconds; the error names the one that is not."""
    with pytest.raises(ConfigurationError, match=words):
        Polling.fixed(first, interval)


@pytest.mark.parametrize(
    ("floor", "ceiling", "words"),
    [
        (5, 4, "floor=5 is above ceiling=4"),
        (0, 4, "floor=0; a finite number of seconds, 0.01 or more"),
        (-1, 4, "floor=-1"),
        (math.nan, 4, "floor=nan"),
        (1, math.inf, "ceiling=inf"),
        (1, 0, "ceiling=0; a finite number of seconds, 0.01 or more"),
        (True, 4, "floor=True"),
        (1, "9", "ceiling='9'"),
    ],
    ids=lambda value: repr(value)[:12],
)
def test_bounds_that_are_none(floor: float, ceiling: float, words: str) -> None:
    """Floor and ceiling are numbers of seconds, in this order; the error names what is not."""
    with pytest.raises(ConfigurationError, match=words):
        Polling.adaptive(floor=floor, ceiling=ceiling)


def test_equal_bounds() -> None:
    """A floor may equal the ceiling: then polls come evenly."""
    assert Polling.adaptive(floor=3, ceiling=3) == Polling(floor=3.0, ceiling=3.0)


@pytest.mark.parametrize(
    ("floor", "ceiling", "times"),
    [
        (0.5, 120, PollTimes(60, 10)),
        (12, 30, PollTimes(30, 12)),
        (90, 100, PollTimes(90, 90)),
        (5, 8, PollTimes(8, 8)),
    ],
)
def test_bounds_hold_before_anything_is_learned(
    floor: float, ceiling: float, times: PollTimes
) -> None:
    """The times that adaptive polling begins with keep to floor and ceiling."""
    assert Polling.adaptive(floor=floor, ceiling=ceiling).times_for("gpt-image-2/2k") == times


@pytest.mark.parametrize(
    ("polling", "cls"),
    [
        (Polling.adaptive(), AdaptiveSchedule),
        (Polling(), AdaptiveSchedule),
        (Polling.documented(), FixedSchedule),
        (Polling.fixed(1, 1), FixedSchedule),
    ],
    ids=["adaptive", "default", "documented", "fixed"],
)
def test_who_says_when_to_poll(polling: Polling, cls: type[object]) -> None:
    """Adaptive polling, the default, learns; fixed times do not."""
    assert type(polling.schedule(random.Random(1))) is cls
