"""Polls by plans, for all tasks of a client together."""

from __future__ import annotations

import random

import pytest

from apixo_async._polling.schedule import Capacity, FixedSchedule, PollTimes

ROOM = Capacity(requests=100.0, submits=0.0, reserve=6.0, slots_wanted=False, latency=0.1)


@pytest.fixture
def planned() -> FixedSchedule:
    """Return polls after 20 s, then every 2 s."""
    return FixedSchedule(lambda _: PollTimes(20, 2), random.Random(1))


def test_polls_follow_the_plan(planned: FixedSchedule) -> None:
    """First and later polls come when the plan says, late by a little jitter."""
    planned.opened("m", 1)
    assert 120 <= planned.first("m", 100.0) <= 120.2
    assert 132 <= planned.again("m", 100.0, 130.0, ROOM) <= 132.2


def test_waiting_tasks_stretch_the_plan(planned: FixedSchedule) -> None:
    """400 tasks at one poll in 2 s ask for twice what 100 a second allow; over, for nothing."""
    for task in range(400):
        planned.running("m", task, 25.0, first=True)
        planned.running("m", task, 27.0, first=False)
    assert 134 <= planned.again("m", 100.0, 130.0, ROOM) <= 134.4
    for task in range(400):
        planned.closed("m", waited=True)
        assert not planned.learn("m", task, 30.0)
    assert planned.load == pytest.approx(0.0)
    planned.closed("m", waited=False)
    assert planned.load == pytest.approx(0.0)


def test_a_late_callback(planned: FixedSchedule) -> None:
    """A callback counts as lost ten intervals after the plan's first poll."""
    assert planned.late("m", 100.0) == 140.0
