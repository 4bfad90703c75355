"""Tasks enter and leave everywhere at once."""

from __future__ import annotations

import random

from apixo_async import Polling, TaskRef
from apixo_async._limits.limiter import Slot
from apixo_async._polling.queue import PollQueue, TaskIndex
from apixo_async._polling.schedule import PollTimes
from apixo_async._polling.tracked_task import TrackedTask


def track(number: int) -> TrackedTask:
    """Return a task."""
    ref = TaskRef("flux-kontext", f"task_{number}")
    return TrackedTask(ref, ref.model, PollTimes(20, 3), Slot(None), created=0.0, expires=100.0)


def test_enter_and_leave() -> None:
    """What entered is known by reference and by id, with its age limit; what left is not."""
    schedule = Polling.adaptive().schedule(random.Random(1))
    register = TaskIndex(schedule, PollQueue(lambda one: schedule.first(one.kind, one.created)))
    tracks = [track(number) for number in range(20)]
    for one in tracks:
        register.enter(one)
        register.queue.line_up(one)
    assert list(register.tracks.values()) == tracks
    assert register.model_of["task_3"] == "flux-kontext"
    assert register.queue.next_expiry() == 100.0
    assert register.queue.next_due() == 20.0
    for one in tracks[:10]:
        one.due = None  # As when it is over.
        register.leave(one, 33.0)
    assert list(register.tracks.values()) == tracks[10:]
    assert "task_3" not in register.model_of
    assert register.queue.next_due() > 30.0  # What they lasted moved the first poll.
