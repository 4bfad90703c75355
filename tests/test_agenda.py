from __future__ import annotations

import math

from apixo_async import Limiter, Result, TaskRef
from apixo_async._agenda import Agenda
from apixo_async._core.schedule import Plan
from apixo_async._track import Track


def track(name: str, expires: float = 1_000.0) -> Track:
    """Return a track that holds a slot."""
    slot = Limiter().slot_above()
    return Track(TaskRef("m", name), "m", Plan(1, 1), slot, created=0.0, expires=expires)


def test_looks_come_in_the_order_of_their_times() -> None:
    """Whoever is due first is taken first, and nobody before the time."""
    agenda, a, b = Agenda(), track("a"), track("b")
    agenda.plan(a, 5.0)
    agenda.plan(b, 3.0)
    assert agenda.next_due() == 3.0
    assert agenda.pop_due(2.9) is None
    assert agenda.pop_due(3.0) is b
    assert agenda.pop_due(10.0) is a
    assert agenda.next_due() == math.inf


def test_a_new_plan_replaces_the_old_one() -> None:
    """A track that is planned anew is taken once, at the new time."""
    agenda, a = Agenda(), track("a")
    agenda.plan(a, 3.0)
    agenda.plan(a, 7.0)
    assert agenda.pop_due(6.9) is None
    assert agenda.pop_due(7.0) is a
    assert agenda.pop_due(1e9) is None


def test_asked_looks_come_first_and_once() -> None:
    """Asking twice plans one look, before everything that is only due."""
    agenda, a, b = Agenda(), track("a"), track("b")
    agenda.plan(a, 1.0)
    agenda.plan(b, 9.0)
    agenda.ask(b)
    agenda.ask(b)
    assert agenda.has_asked
    assert agenda.next_due() == -math.inf
    assert [agenda.pop_due(2.0), agenda.pop_due(2.0), agenda.pop_due(20.0)] == [b, a, None]


def test_expiry_of_what_is_not_over() -> None:
    """Only tracks that are not over expire, in the order of their times."""
    agenda, a, b = Agenda(), track("a", 10.0), track("b", 20.0)
    agenda.expect(a)
    agenda.expect(b)
    assert agenda.next_expiry() == 10.0
    assert agenda.pop_expired(9.0) is None
    a.outcome = Result("a", "m", ())
    assert agenda.next_expiry() == 20.0
    assert agenda.pop_expired(20.0) is b
    assert agenda.next_expiry() == math.inf


def test_tracks_that_are_over_do_not_pile_up() -> None:
    """Of ten thousand tracks that end long before their age limit, few stay in memory."""
    agenda = Agenda()
    for n in range(10_000):
        one = track(str(n))
        agenda.expect(one)
        one.outcome = Result(str(n), "m", ())
        agenda.forget()
    assert len(agenda._expiries) <= 65
