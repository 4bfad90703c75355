"""What callbacks claim: it moves polls and names, and decides nothing."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.utils import formatdate

import pytest

from apixo_async import (
    CallbacksLost,
    CallbacksRestored,
    Event,
    Polling,
    PresumedNotBoughtError,
    Snapshot,
    TaskRef,
    UncertainSubmitResolved,
)
from apixo_async._http.verdicts import Running
from apixo_async._limits.limiter import Slot
from apixo_async._polling.callback_health import SILENT_AFTER
from apixo_async._polling.queue import PollQueue, TaskIndex
from apixo_async._polling.schedule import PollTimes
from apixo_async._polling.tracked_task import SubmitTimes, TaskIdentity, TrackedTask
from apixo_async._polling.unresolved import UnresolvedSubmits
from apixo_async._reporting import Reporter

MODEL = "flux-kontext"


@dataclass
class FakeSubscription:
    """A subscription that counts how often it is closed."""

    id: str = "0123456789abcdef0123456789abcdef"
    closed: int = 0
    is_shared: bool = False

    @property
    def is_alone(self) -> bool:
        return not self.is_shared

    slots: list[str] = field(default_factory=list)

    def close(self) -> None:
        """Note it."""
        self.closed += 1


@pytest.fixture
def unresolved(events: list[Event]) -> UnresolvedSubmits:
    """Return claims about no task."""
    schedule = Polling.documented().schedule(random.Random(1))
    index = TaskIndex(schedule, PollQueue(lambda one: schedule.first(one.kind, one.created)))
    return UnresolvedSubmits(index, Reporter(events.append))


def track(name: str = "unnamed-0", *, at: float = 100.0) -> TrackedTask:
    """Return a task with a subscription."""
    made = TrackedTask(
        TaskRef(MODEL, name), MODEL, PollTimes(20, 3), Slot(None), created=at, expires=1e6
    )
    made.subscription = FakeSubscription()  # type: ignore[assignment]  # as much of one as is needed
    return made


def unnamed(unresolved: UnresolvedSubmits) -> TrackedTask:
    """Return what stands for the task of an uncertain submit."""
    made = track()
    assert made.subscription is not None
    unresolved.add(made, made.subscription)
    return made


def test_no_callback_is_awaited_without_a_subscription(unresolved: UnresolvedSubmits) -> None:
    """A callback is awaited only with a place for it, and only once callbacks come."""
    made = track()
    assert not unresolved.is_awaited_for(made)
    unresolved.received(track(), None, 5.0)
    assert unresolved.is_awaited_for(made)
    made.subscription = None
    assert not unresolved.is_awaited_for(made)


def test_silence_and_its_end(unresolved: UnresolvedSubmits, events: list[Event]) -> None:
    """Tasks that are over untold make a silence, and one callback ends it."""
    unresolved.received(track(), None, 4.0)
    silences = [unresolved.ended(track()) for _ in range(SILENT_AFTER + 1)]
    assert silences == [*[False] * (SILENT_AFTER - 1), True, False]
    assert not unresolved.is_awaited_for(track())
    told = track()
    unresolved.received(told, None, 5.0)
    assert unresolved.is_awaited_for(told)
    assert events == [CallbacksLost(SILENT_AFTER), CallbacksRestored()]


def test_a_task_that_was_told_of_is_no_silence(unresolved: UnresolvedSubmits) -> None:
    """Its subscription is closed at the end, whatever it is."""
    for _ in range(3 * SILENT_AFTER):
        made = track()
        unresolved.received(made, None, 5.0)
        assert not unresolved.ended(made)
        assert isinstance(made.subscription, FakeSubscription)
        assert made.subscription.closed == 1


def test_a_claim_names_a_task(unresolved: UnresolvedSubmits, events: list[Event]) -> None:
    """A name enters the task, and a poll that finds it proves it."""
    made = unnamed(unresolved)
    assert unresolved.tracks == {made}
    assert made.expires == 220.0  # after the longest time of this model
    unresolved.received(made, None, 105.0)
    assert made.identity is TaskIdentity.UNRESOLVED
    unresolved.received(made, "task_7", 110.0)
    assert made.identity is TaskIdentity.CLAIMED
    assert unresolved._index.tracks == {TaskRef(MODEL, "task_7"): made}
    assert made.expires == 100.0 + 1_800.0 + 870.0
    assert unresolved.tracks == set()
    assert unresolved.confirm(made, running(None), 111.0)
    assert made.identity is TaskIdentity.KNOWN
    assert events == [UncertainSubmitResolved(MODEL, "task_7", 11.0)]


SERVICE = 1_750_000_000.0  # The clock of the service when the clock of the loop is at 210.


def test_a_claim_of_a_settled_task(unresolved: UnresolvedSubmits) -> None:
    """Nor is the name of a task of another submit that is over."""
    other = track("task_7")
    unresolved.received(other, None, 101.0)
    unresolved.ended(other)
    made = unnamed(unresolved)
    unresolved.received(made, "task_7", 110.0)
    assert made.identity is TaskIdentity.UNRESOLVED
    assert unresolved._index.tracks == {}


def running(created: float | None) -> Running:
    """Return what a poll says at that time."""
    ref = TaskRef(MODEL, "task_7")
    date = formatdate(SERVICE, usegmt=True)
    return Running(Snapshot(ref.task_id, ref.model, "processing", {}), created, date)


@pytest.mark.parametrize(
    ("created", "proved"),
    [
        (None, True),
        (SERVICE - 10.0, True),
        (SERVICE + 10.0, True),
        (SERVICE - 160.0, True),  # Within what two clocks may differ by.
        (SERVICE - 180.0, False),
        (SERVICE - 3_600.0, False),
        (0.0, True),  # That is no time.
        (SERVICE / 1_000, True),
    ],
)
def test_a_claim_of_an_older_task(
    unresolved: UnresolvedSubmits, created: float | None, proved: bool
) -> None:
    """A task that was created before its submit was sent, at 100, is not its task."""
    made = unnamed(unresolved)
    unresolved.received(made, "task_7", 210.0)
    assert unresolved.confirm(made, running(created), 210.0) is proved
    assert (made.identity is TaskIdentity.KNOWN) is proved


def test_a_claim_and_a_clock_that_was_set(unresolved: UnresolvedSubmits) -> None:
    """Where an earlier process sent the submit, its own stamp counts as well."""
    made = unnamed(unresolved)
    unresolved.received(made, "task_7", 210.0)
    made.submit_times = SubmitTimes(
        200.0, 200.0, noted_at=SERVICE - 3_590.0
    )  # The clock was set back since.
    assert unresolved.confirm(made, running(SERVICE - 3_600.0), 210.0)


def test_a_claim_of_anothers_task(unresolved: UnresolvedSubmits) -> None:
    """A name that another task has is no name for this one."""
    other, made = track("task_7"), unnamed(unresolved)
    unresolved._index.add(other)
    unresolved.received(made, "task_7", 110.0)
    assert made.identity is TaskIdentity.UNRESOLVED
    assert unresolved._index.tracks[other.ref] is other


def test_a_name_that_is_taken_back(unresolved: UnresolvedSubmits) -> None:
    """Under a name that nobody knows the task leaves, and waits for another one."""
    made = unnamed(unresolved)
    unresolved.received(made, "task_of_nobody", 110.0)
    assert unresolved.reject_claim(made, 112.0) is None
    assert unresolved._index.tracks == {}
    assert unresolved.tracks == {made}
    assert (made.identity, made.due) == (TaskIdentity.UNRESOLVED, None)
    assert made.ref.task_id == "unnamed-0"


def test_a_claim_that_is_all_there_is(unresolved: UnresolvedSubmits) -> None:
    """Where no callback can come any more, a name that is taken back ends the waiting."""
    made = track()
    unresolved.add(made, None)
    unresolved.note_claim(made, "task_of_nobody")
    error = unresolved.reject_claim(made, 112.0)
    assert isinstance(error, PresumedNotBoughtError)
    assert error.bought is None


SINCE, LAST = 100.0, 100.0 + 1_800.0 + 870.0


@pytest.mark.parametrize(
    ("callbacks", "missed", "shared", "reopened", "bought"),
    [
        (range(90, 2_800, 100), None, False, False, False),
        (range(90, 2_800, 130), None, False, False, None),  # Too seldom for every delivery.
        ([], None, False, False, None),
        ([101], None, False, False, None),
        ([LAST - 1], None, False, False, None),
        ([*range(90, 1_000, 100), *range(1_800, 2_800, 100)], None, False, False, None),
        (range(90, 2_800, 100), 500.0, False, False, None),
        (range(90, 2_800, 100), 50.0, False, False, False),  # Before the submit.
        (range(90, 2_800, 100), None, True, False, None),
        (range(90, 2_800, 100), None, False, True, None),
    ],
    ids=[
        "steady",
        "seldom",
        "none",
        "one early",
        "one late",
        "an outage of 13 minutes",
        "one missed",
        "one missed before",
        "another process",
        "reopened",
    ],
)
def test_giving_up(
    unresolved: UnresolvedSubmits,
    callbacks: Iterable[float],
    missed: float | None,
    shared: bool,
    reopened: bool,
    bought: bool | None,
) -> None:
    """The slot goes first; "not bought" is said only where no delivery can have been lost."""
    made = unnamed(unresolved)
    made.reopened = reopened
    assert isinstance(made.subscription, FakeSubscription)
    made.subscription.is_shared = shared
    assert unresolved.expire(made, 220.0) is None
    assert made.expires == LAST
    happen = sorted([(at, True) for at in callbacks if at <= LAST] + [(missed or 0.0, False)])
    for at, is_callback in happen:
        if is_callback:
            unresolved.received(track("task_8"), None, at)
        elif missed is not None:
            unresolved.ended(track("task_9"))
    assert unresolved.expire(made, LAST - 1.0) is None
    error = unresolved.expire(made, LAST)
    assert isinstance(error, PresumedNotBoughtError)
    assert error.bought is bought
    unresolved.remove(made)
    assert unresolved.tracks == set()


def test_callbacks_of_other_processes_come_here(unresolved: UnresolvedSubmits) -> None:
    """Where callbacks go astray between processes, none is waited for: tasks are polled."""
    made = track("task_1")
    unresolved.received(made, None, 5.0)
    assert unresolved.is_awaited_for(made)
    made.subscription.is_shared = True  # type: ignore[union-attr,misc]  # it has one, made to be set
    assert not unresolved.is_awaited_for(made)
