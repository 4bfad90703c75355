"""Tasks that another process polls: when they are polled here, and what its word changes."""

from __future__ import annotations

import random

import pytest

from apixo_async import Event, Limiter, Polling, Result, Snapshot, TaskFailedError, TaskRef
from apixo_async._http import verdicts
from apixo_async._http.concurrency import ConcurrencyLimit
from apixo_async._limits.limiter import Slot
from apixo_async._polling.registry import EXPIRY_GRACE, TaskRegistry
from apixo_async._polling.tracked_task import TrackedTask
from apixo_async._reporting import Reporter
from apixo_async.errors import TaskError

REF = TaskRef("flux-kontext", "task_1")
RESULT = Result("task_1", "flux-kontext", ("https://r2.apixo.ai/a.png",))
FAILED = TaskFailedError(
    "no", ref=REF, fail_code="NO", fail_msg="no", family="content", retryable=False
)


class Record:
    """Notes ends."""

    def __init__(self) -> None:
        self.ends: list[Result | TaskError] = []

    def bought(self, task_id: str) -> None:
        raise AssertionError(f"{task_id} was known")

    def over(self, outcome: Result | TaskError) -> None:
        self.ends.append(outcome)


@pytest.fixture
async def registry(events: list[Event]) -> TaskRegistry:
    """Return a registry with times of 20 s and 3 s."""
    return TaskRegistry(
        Polling.fixed(20, 3),
        Limiter(),
        Reporter(events.append),
        random.Random(1),
        ConcurrencyLimit(),
    )


def seen(state: str) -> Snapshot:
    """Return what a poll found."""
    return Snapshot(REF.task_id, REF.model, state, {})


def followed(registry: TaskRegistry, age: float = 0.0) -> TrackedTask:
    """Follow the task of these tests, from 100 s on."""
    return registry.open(REF, REF.model, Slot(None), now=100.0, age=age, is_followed=True)


def late(registry: TaskRegistry, created: float) -> float:
    return registry.schedule.late(REF.model, created)


async def test_it_is_polled_when_its_owner_should_have_been_heard_of(
    registry: TaskRegistry,
) -> None:
    """And takes no slot, as its entry has one; a poll that finds it running changes nothing."""
    track = followed(registry, age=7.0)
    due = late(registry, 93.0)
    assert track.due == due > 93.0 + 20.0
    assert registry._limiter.slots_used == 0
    assert registry.next_due(due - 0.1) is None
    assert registry.next_due(due) is track
    registry.apply(track, verdicts.Running(seen("processing"), None), due)
    assert track.due is not None
    assert track.due > due + 3.4  # Not the interval of a task that is polled here.


async def test_its_age_counts_from_its_submit(registry: TaskRegistry) -> None:
    """For its first poll, and for its age limit; one of a great age has the grace at least."""
    track = registry.open(REF, REF.model, registry._limiter.slot_above(), now=100.0, age=12.0)
    assert (track.created, track.tracked_at) == (88.0, 100.0)
    assert track.due is not None
    assert 108.0 <= track.due <= 108.3
    young = track.expires
    old = registry.open(TaskRef(REF.model, "task_2"), REF.model, Slot(None), now=100.0, age=1e6)
    assert old.expires == 100.0 + EXPIRY_GRACE
    assert young > old.expires


async def test_the_word_of_its_owner(registry: TaskRegistry) -> None:
    """It is over then, and that is not noted a second time."""
    record = Record()
    track = followed(registry)
    track.record = record
    registry.ended_elsewhere(track, RESULT, 130.0)
    assert track.outcome is RESULT
    assert track.snapshot is not None
    assert track.snapshot.state == "success"
    assert (registry.tracks, registry.succeeded, record.ends) == ({}, 1, [])
    registry.ended_elsewhere(track, FAILED, 131.0)
    assert track.outcome is RESULT


async def test_its_own_poll_is_noted(registry: TaskRegistry) -> None:
    """The process that sees the end first writes it."""
    record = Record()
    slot = registry._limiter.slot_above()
    track = registry.open(REF, REF.model, slot, now=100.0, record=record)
    registry.apply(track, verdicts.Over(seen("success"), RESULT), 130.0)
    assert record.ends == [RESULT]


async def test_a_record_that_fails_harms_nothing(registry: TaskRegistry) -> None:
    """The task is over, its slot free, and its waiters have the outcome."""

    class Failing(Record):
        def over(self, outcome: Result | TaskError) -> None:
            raise RuntimeError(str(outcome))

    slot = registry._limiter.slot_above()
    track = registry.open(REF, REF.model, slot, now=100.0, record=Failing())
    registry.ended_elsewhere(followed(registry), FAILED, 110.0)
    assert track.outcome is FAILED
    assert registry._limiter.slots_used == 0


async def test_it_is_taken_over(registry: TaskRegistry) -> None:
    """It takes a slot above the limit, is polled by its age, and its end is noted."""
    record = Record()
    track = followed(registry, age=15.0)
    registry.adopt(track, record, 110.0)
    assert not track.is_followed
    assert registry._limiter.slots_used == 1
    assert track.due == 110.0  # Its first poll was due at 105 s.
    registry.adopt(track, None, 111.0)
    assert registry._limiter.slots_used == 1
    registry.apply(track, verdicts.Over(seen("failed"), FAILED), 112.0)
    assert record.ends == [FAILED]
    assert registry._limiter.slots_used == 0


async def test_it_is_left_to_another_process(registry: TaskRegistry) -> None:
    """Its slot is given back, and it is polled late."""
    slot = registry._limiter.slot_above()
    track = registry.open(REF, REF.model, slot, now=100.0, record=Record())
    registry.follow(track, 105.0)
    assert (track.is_followed, track.record) == (True, None)
    assert registry._limiter.slots_used == 0
    assert track.due == late(registry, 100.0)


async def test_one_of_which_the_end_is_known(registry: TaskRegistry) -> None:
    """There is nothing to poll, and nothing is counted."""
    track = registry.ended(REF, REF.model, RESULT)
    assert track.verdict() is RESULT
    assert track.snapshot is not None
    assert (registry.tracks, registry.held, registry.succeeded) == ({}, 0, 0)
    assert registry.ended(REF, REF.model, FAILED).snapshot is not None
