"""Polls at fixed times, for all tasks of a client together."""

from __future__ import annotations

import random

import pytest

from apixo_async._polling.schedule import Capacity, FixedSchedule, PollTimes

CAPACITY = Capacity(requests=100.0, submits=0.0, reserve=6.0, slots_wanted=False, latency=0.1)


@pytest.fixture
def fixed() -> FixedSchedule:
    """Return polls after 20 s, then every 2 s."""
    return FixedSchedule(lambda _: PollTimes(20, 2), random.Random(1))


def test_polls_follow_the_times(fixed: FixedSchedule) -> None:
    """First and later polls come at their times, late by a little jitter."""
    fixed.opened("m", 1)
    assert 120 <= fixed.first("m", 100.0) <= 120.2
    assert 132 <= fixed.again("m", 100.0, 130.0, CAPACITY) <= 132.2


def test_waiting_tasks_stretch_the_intervals(fixed: FixedSchedule) -> None:
    """400 tasks at one poll in 2 s ask for twice what 100 a second allow; over, for nothing."""
    for task in range(400):
        fixed.running("m", task, 25.0, first=True)
        fixed.running("m", task, 27.0, first=False)
    assert 134 <= fixed.again("m", 100.0, 130.0, CAPACITY) <= 134.4
    for task in range(400):
        fixed.closed("m", waited=True)
        assert not fixed.learn("m", task, 30.0)
    assert fixed.load == pytest.approx(0.0)
    fixed.closed("m", waited=False)
    assert fixed.load == pytest.approx(0.0)


def test_a_late_callback(fixed: FixedSchedule) -> None:
    """Its task is polled ten intervals after the first poll, and then after half its age."""
    assert fixed.late("m", 100.0) == 140.0
    assert fixed.silent("m", 100.0, 0.0, 100.0, CAPACITY) == 140.0
    assert fixed.silent("m", 100.0, 15.0, 115.0, CAPACITY) == 140.0
    assert fixed.silent("m", 100.0, 40.0, 140.0, CAPACITY) == 160.0
