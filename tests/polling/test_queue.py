from __future__ import annotations

import math

import pytest

from apixo_async import Limiter, Result, TaskRef
from apixo_async._polling.queue import PollQueue
from apixo_async._polling.schedule import PollTimes
from apixo_async._polling.tracked_task import TrackedTask

FIRST = {"m": 20.0}


def first_poll(one: TrackedTask) -> float:
    """Say when to poll a track for the first time."""
    return one.created + FIRST[one.kind]


def track(name: str, expires: float = 1_000.0, created: float = 0.0) -> TrackedTask:
    """Return a track that holds a slot."""
    slot = Limiter().slot_above()
    return TrackedTask(
        TaskRef("m", name), "m", PollTimes(1, 1), slot, created=created, expires=expires
    )


def line(queue: PollQueue, count: int) -> list[TrackedTask]:
    """Line up so many tracks, a second between their creations."""
    tracks = [track(str(n), created=float(n)) for n in range(count)]
    for one in tracks:
        queue.schedule_first(one)
    return tracks


def test_polls_come_in_the_order_of_their_times() -> None:
    """Whoever is due first is taken first, and nobody before the time."""
    queue, a, b = PollQueue(first_poll), track("a"), track("b")
    queue.schedule(a, 5.0)
    queue.schedule(b, 3.0)
    assert queue.next_due() == 3.0
    assert queue.pop_due(2.9) is None
    assert queue.pop_due(3.0) is b
    assert queue.pop_due(10.0) is a
    assert queue.next_due() == math.inf


def test_a_new_due_time_replaces_the_old_one() -> None:
    """A track that is scheduled anew is taken once, at the new time."""
    queue, a = PollQueue(first_poll), track("a")
    queue.schedule(a, 3.0)
    queue.schedule(a, 7.0)
    assert queue.pop_due(6.9) is None
    assert queue.pop_due(7.0) is a
    assert queue.pop_due(1e9) is None


def test_asked_polls_come_first_and_once() -> None:
    """Asking twice requests one poll, before everything that is only due."""
    queue, a, b = PollQueue(first_poll), track("a"), track("b")
    queue.schedule(a, 1.0)
    queue.schedule(b, 9.0)
    queue.ask(b)
    queue.ask(b)
    assert queue.has_asked
    assert queue.next_due() == -math.inf
    assert [queue.pop_due(2.0), queue.pop_due(2.0), queue.pop_due(20.0)] == [b, a, None]


def test_asked_polls_leave_every_second_turn() -> None:
    """However many polls are asked for, those that are due by themselves have a half of all."""
    queue = PollQueue(first_poll)
    due, asked, later = (
        [track(f"due{n}") for n in range(2)],
        [track("a") for _ in range(4)],
        track("z"),
    )
    for one in due:
        queue.schedule(one, 1.0)
    queue.schedule(later, 9.0)
    for one in asked:
        queue.ask(one)
    turns = [(queue.is_turn_of_asked(2.0), queue.pop_due(2.0)) for _ in range(6)]
    assert [is_asked for is_asked, _ in turns] == [True, False, True, False, True, True]
    taken = [one for _, one in turns]
    assert taken == [asked[0], due[0], asked[1], due[1], asked[2], asked[3]]
    assert not queue.has_asked
    assert queue.next_due() == queue.next_scheduled() == 9.0


def test_expiry_of_what_is_not_over() -> None:
    """Only tracks that are not over expire, in the order of their times."""
    queue, a, b = PollQueue(first_poll), track("a", 10.0), track("b", 20.0)
    queue.expect(a)
    queue.expect(b)
    assert queue.next_expiry() == 10.0
    assert queue.pop_expired(9.0) is None
    a.outcome = Result("a", "m", ())
    assert queue.next_expiry() == 20.0
    assert queue.pop_expired(20.0) is b
    assert queue.next_expiry() == math.inf


def test_tracks_that_are_over_do_not_pile_up() -> None:
    """Of ten thousand tracks that end long before their age limit, few stay in memory."""
    queue = PollQueue(first_poll)
    for n in range(10_000):
        one = track(str(n))
        queue.expect(one)
        one.outcome = Result(str(n), "m", ())
        queue.forget(one)
    assert len(queue._expiries) <= 65


def test_first_polls_come_in_the_order_of_creation() -> None:
    """Each comes when it is due."""
    queue = PollQueue(first_poll)
    a, b, c = line(queue, 3)
    assert [queue.pop_due(19.9), queue.pop_due(20.0), queue.pop_due(20.5)] == [None, a, None]
    assert [queue.pop_due(30.0), queue.pop_due(30.0), queue.pop_due(30.0)] == [b, c, None]
    assert queue._unpolled == {}


def test_a_line_moves_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as tasks are known to be quicker, all of their first polls are due earlier."""
    queue = PollQueue(first_poll)
    tracks = line(queue, 100)
    monkeypatch.setitem(FIRST, "m", 5.0)
    queue.reschedule_first("m")
    queue.reschedule_first("of which there are none")
    assert [queue.pop_due(200.0) for _ in tracks] == tracks
    assert queue.next_due() == math.inf


def test_a_line_without_its_first() -> None:
    """Whoever is first in line and is asked for, or is over, lets the next one step forward."""
    queue = PollQueue(first_poll)
    a, b, c = line(queue, 3)
    queue.expect(b)
    queue.ask(a)
    queue.reschedule_first("m")
    assert queue.pop_due(0.0) is a
    assert queue.next_due() == 21.0
    b.outcome, b.due = Result("1", "m", ()), None
    queue.forget(b)
    assert queue.next_due() == 22.0
    assert queue.pop_due(22.0) is c


def test_a_line_without_one_in_the_middle() -> None:
    """Whoever was polled, or is over, is passed over when its turn comes."""
    queue = PollQueue(first_poll)
    a, b, c, d = line(queue, 4)
    queue.expect(c)
    queue.ask(b)
    assert queue.pop_due(0.0) is b
    b.polls = 1
    c.outcome = Result("2", "m", ())
    queue.forget(c)
    assert queue.pop_due(30.0) is a
    assert queue.pop_due(30.0) is d
    assert queue.pop_due(1e9) is None


def test_a_line_whose_next_is_asked_for() -> None:
    """Whoever is asked for before its turn keeps that place when its turn comes."""
    queue = PollQueue(first_poll)
    a, b = line(queue, 2)
    assert queue.pop_due(20.0) is a
    queue.ask(b)
    assert queue.pop_due(20.0) is b
    assert queue.pop_due(1e9) is None
