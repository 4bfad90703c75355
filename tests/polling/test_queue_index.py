"""Tasks are added and removed everywhere at once."""

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


def test_add_and_remove() -> None:
    """An added task is known by reference and by id, with its age limit; a removed one is not."""
    schedule = Polling.adaptive().schedule(random.Random(1))
    index = TaskIndex(schedule, PollQueue(lambda one: schedule.first(one.kind, one.created)))
    tracks = [track(number) for number in range(20)]
    for one in tracks:
        index.add(one)
        index.queue.schedule_first(one)
    assert list(index.tracks.values()) == tracks
    assert index.model_of["task_3"] == "flux-kontext"
    assert index.queue.next_expiry() == 100.0
    assert index.queue.next_due() == 20.0
    for one in tracks[:10]:
        one.due = None  # As when it is over.
        index.remove(one, 33.0)
    assert list(index.tracks.values()) == tracks[10:]
    assert "task_3" not in index.model_of
    assert index.queue.next_due() > 30.0  # Their durations moved the first poll.
