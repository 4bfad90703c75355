from __future__ import annotations

import math
import random

from apixo_async import Event, Limiter, Result, ServiceDown, ServiceRecovered, Snapshot, TaskRef
from apixo_async._http import verdicts
from apixo_async._polling.outages import FAILURES, Outages
from apixo_async._polling.queue import PollQueue
from apixo_async._polling.schedule import PollTimes
from apixo_async._polling.tracked_task import TrackedTask
from apixo_async._reporting import Reporter
from apixo_async.errors import APIConnectionError, RateLimitError


def track(name: str, model: str = "m") -> TrackedTask:
    """Return a track that holds a slot."""
    slot = Limiter().slot_above()
    return TrackedTask(TaskRef(model, name), model, PollTimes(1, 1), slot, created=0.0, expires=1e6)


def outages_of(queue: PollQueue) -> Outages:
    """Return outages of which none is on."""
    return Outages(queue, random.Random(1), Reporter(None), lambda: None)


def down(queue: PollQueue, now: float = 100.0) -> Outages:
    """Return outages of which model m has one since a time."""
    outages = outages_of(queue)
    failing = track("failing")
    failing.polled_at = now
    assert [outages.failed(failing, now) for _ in range(FAILURES)][-1]
    return outages


def test_healthy_model_parks_nothing() -> None:
    """Polls of a model that answers are never held back, whatever another model does."""
    outages = down(PollQueue(lambda one: one.created))
    other = track("b", "other")
    assert outages.park(other, 100.0) is False
    assert not outages.is_on(other)
    assert outages.is_on(track("c"))


def test_one_probe_and_the_rest_wait() -> None:
    """Of all polls that are due in an outage, one is scheduled for the end of its pause."""
    queue = PollQueue(lambda one: one.created)
    outages = down(queue)
    tracks = [track(str(n)) for n in range(5)]
    assert all(outages.park(one, 100.0) for one in tracks)
    scheduled = [one for one in tracks if one.due is not None]
    assert scheduled == tracks[:1]
    assert 100.8 <= queue.next_due() <= 101.2


def test_answered_probe_frees_all() -> None:
    """An answered poll schedules every parked one for now, and returns how long the outage was."""
    queue = PollQueue(lambda one: one.created)
    outages = down(queue)
    tracks = [track(str(n)) for n in range(5)]
    for one in tracks:
        outages.park(one, 100.0)
    due = queue.next_due()
    probe = queue.pop_due(due)
    assert probe is tracks[0]
    assert outages.park(probe, due) is False
    outages.sent(probe, due)
    probe.polled_at = due
    assert outages.answered(probe, due + 1) == due + 1 - 100.0
    assert [one.due for one in tracks[1:]] == [due + 1] * 4
    assert outages.answered(probe, due + 2) is None


def test_failed_probe_makes_room_for_the_next() -> None:
    """After a probe in vain another of the waiting polls is the next one."""
    queue = PollQueue(lambda one: one.created)
    outages = down(queue)
    tracks = [track(str(n)) for n in range(3)]
    for one in tracks:
        outages.park(one, 100.0)
    due = queue.next_due()
    probe = queue.pop_due(due)
    assert probe is not None
    outages.sent(probe, due)
    probe.polled_at = due
    assert outages.failed(probe, due) is False
    outages.checked(probe, due)
    assert tracks[1].due is not None
    assert tracks[2].due is None


def test_candidate_that_goes_away_is_replaced() -> None:
    """A scheduled probe whose task ends or is polled otherwise does not leave the rest waiting."""
    for leave in ("ends", "asked"):
        queue = PollQueue(lambda one: one.created)
        outages = down(queue)
        first, second = track("1"), track("2")
        for one in (first, second):
            outages.park(one, 100.0)
        if leave == "ends":
            first.outcome, first.due = Result("1", "m", ()), None
        else:
            queue.ask(first)
            assert queue.pop_due(100.0) is first
        outages.checked(first, 100.0)
        assert second.due is not None, leave
        assert queue.next_due() < math.inf


def test_unclear_probe() -> None:
    """A probe that met a 429 leaves the outage on, and another probe may go."""
    queue = PollQueue(lambda one: one.created)
    outages = down(queue)
    one, two = track("1"), track("2")
    for waiting in (one, two):
        outages.park(waiting, 100.0)
    due = queue.next_due()
    queue.pop_due(due)
    outages.sent(one, due)
    one.polled_at = due
    outages.unclear(one)
    outages.checked(one, due)
    assert outages.is_on(one)
    assert two.due == due


def test_what_polls_show_is_reported() -> None:
    """The beginning of an outage and its end, once each; a 429 is no evidence for either."""
    events: list[Event] = []
    paced: list[bool] = []
    queue = PollQueue(lambda one: one.created)
    outages = Outages(queue, random.Random(1), Reporter(events.append), lambda: paced.append(True))
    one = track("1")
    faulty = verdicts.Faulty(APIConnectionError("no answer"))
    for second in range(FAILURES):
        one.polled_at = 100.0 + second
        outages.note(one, faulty, one.polled_at)
    assert [type(event) for event in events] == [ServiceDown]
    for waiting in (track("2"), track("3")):
        outages.park(waiting, one.polled_at)
    probe_at = queue.next_due()
    probe = queue.pop_due(probe_at)
    assert probe is not None
    outages.sent(probe, probe_at)
    probe.polled_at = probe_at
    outages.note(probe, verdicts.Throttled(RateLimitError("slowly", status=429)), probe_at)
    outages.checked(probe, probe_at)
    assert queue.next_due() == probe_at
    assert not paced
    running = verdicts.Running(Snapshot(probe.ref.task_id, probe.ref.model, "processing", {}), None)
    outages.note(probe, running, probe_at + 1)
    assert [type(event) for event in events] == [ServiceDown, ServiceRecovered]
    assert paced == [True]
