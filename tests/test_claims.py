"""What callbacks claim: it moves looks and names, and decides nothing."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from apixo_async import (
    CallbacksBack,
    CallbacksSilent,
    Event,
    Polling,
    PresumedNotBoughtError,
    SubmitFound,
    TaskRef,
)
from apixo_async._agenda import Agenda
from apixo_async._claims import Claims
from apixo_async._core.callbacks import SILENT_AFTER
from apixo_async._core.plans import Plan
from apixo_async._grants import Slot
from apixo_async._register import Register
from apixo_async._reporting import Reporter
from apixo_async._track import Track

MODEL = "flux-kontext"


@dataclass
class Paper:
    """A ticket that notes its end."""

    id: str = "0123456789abcdef0123456789abcdef"
    closed: int = 0
    slots: list[str] = field(default_factory=list)

    def close(self) -> None:
        """Note it."""
        self.closed += 1


@pytest.fixture
def claims(events: list[Event]) -> Claims:
    """Return claims about no task."""
    schedule = Polling.documented().schedule(random.Random(1))
    register = Register(schedule, Agenda(lambda one: schedule.first(one.kind, one.created)))
    return Claims(register, Reporter(events.append))


def track(name: str = "unnamed-0", *, at: float = 100.0) -> Track:
    """Return a task with a ticket."""
    made = Track(TaskRef(MODEL, name), MODEL, Plan(20, 3), Slot(None), created=at, expires=1e6)
    made.ticket = Paper()  # type: ignore[assignment]  # as much of one as is needed
    return made


def unnamed(claims: Claims) -> Track:
    """Return what stands for the task of an uncertain submit."""
    made = track()
    assert made.ticket is not None
    claims.wait_for(made, made.ticket)
    return made


def test_nobody_waits_without_a_ticket(claims: Claims) -> None:
    """Only a task with a place for callbacks is told of."""
    made = track()
    assert claims.is_awaited_for(made)
    made.ticket = None
    assert not claims.is_awaited_for(made)


def test_silence_and_its_end(claims: Claims, events: list[Event]) -> None:
    """Tasks that are over untold make a silence, and one callback ends it."""
    silences = [claims.is_silence(track()) for _ in range(SILENT_AFTER + 1)]
    assert silences == [*[False] * (SILENT_AFTER - 1), True, False]
    assert not claims.is_awaited_for(track())
    told = track()
    claims.came(told, None, 5.0)
    assert claims.is_awaited_for(told)
    assert events == [CallbacksSilent(SILENT_AFTER), CallbacksBack()]


def test_a_task_that_was_told_of_is_no_silence(claims: Claims) -> None:
    """Its ticket is closed at the end, whatever it is."""
    for _ in range(3 * SILENT_AFTER):
        made = track()
        claims.came(made, None, 5.0)
        assert not claims.is_silence(made)
        assert isinstance(made.ticket, Paper)
        assert made.ticket.closed == 1


def test_a_claim_names_a_task(claims: Claims, events: list[Event]) -> None:
    """A name enters the task, and a look that finds it proves it."""
    made = unnamed(claims)
    assert claims.unnamed == {made}
    assert made.expires == 220.0  # after the longest time of this model
    claims.came(made, None, 105.0)
    assert made.unnamed
    claims.came(made, "task_7", 110.0)
    assert not made.unnamed
    assert claims._register.tracks == {TaskRef(MODEL, "task_7"): made}
    assert made.expires == 100.0 + 1_800.0 + 870.0
    assert claims.unnamed == set()
    claims.prove(made, 111.0)
    assert made.found
    assert events == [SubmitFound(MODEL, "task_7", 11.0)]


def test_a_claim_of_anothers_task(claims: Claims) -> None:
    """A name that another task has is no name for this one."""
    other, made = track("task_7"), unnamed(claims)
    claims._register.enter(other)
    claims.came(made, "task_7", 110.0)
    assert made.unnamed
    assert claims._register.tracks[other.ref] is other


def test_a_name_that_is_taken_back(claims: Claims) -> None:
    """Under a name that nobody knows the task leaves, and waits for another one."""
    made = unnamed(claims)
    claims.came(made, "task_of_nobody", 110.0)
    claims.unname(made)
    assert claims._register.tracks == {}
    assert claims.unnamed == {made}
    assert (made.unnamed, made.due, made.ref.task_id) == (True, None, "unnamed-0123456789ab")


@pytest.mark.parametrize(("callback", "bought"), [(None, None), (99.0, None), (100.0, False)])
def test_giving_up(claims: Claims, callback: float | None, bought: bool | None) -> None:
    """The slot goes first, then hope; what that means depends on whether callbacks came at all."""
    made = unnamed(claims)
    if callback is not None:
        claims.came(track("task_8"), None, callback)
    assert claims.despair(made, 220.0) is None
    assert made.expires == 220.0 + 870.0
    error = claims.despair(made, 1_090.0)
    assert isinstance(error, PresumedNotBoughtError)
    assert error.bought is bought
    claims.forget(made)
    assert claims.unnamed == set()
