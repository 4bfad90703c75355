from __future__ import annotations

import math
import random
import time
from types import SimpleNamespace

import pytest

from apixo_async import (
    APIConnectionError,
    AuthenticationError,
    Event,
    Limiter,
    NotFoundError,
    Polling,
    RateLimitError,
    Result,
    Snapshot,
    TaskAbandonedError,
    TaskNotFoundError,
    TaskRef,
)
from apixo_async._http import verdicts
from apixo_async._http.concurrency import ConcurrencyLimit
from apixo_async._polling.registry import EXPIRY_GRACE, TaskRegistry
from apixo_async._polling.tracked_task import PollState, SubmitTimes, TaskIdentity, TrackedTask
from apixo_async._reporting import Reporter

REF = TaskRef("flux-kontext", "task_1")
RESULT = Result("task_1", "flux-kontext", ("https://r2.apixo.ai/a.png",))


def snapshot(state: str = "processing") -> Snapshot:
    """Return what a poll said."""
    return Snapshot(REF.task_id, REF.model, state, {})


def running(created: float | None = None) -> verdicts.Running:
    """Return the verdict of a task that goes on."""
    return verdicts.Running(snapshot(), created)


@pytest.fixture
async def registry(events: list[Event]) -> TaskRegistry:
    """Return a registry with times of 20 s and 3 s."""
    limiter = Limiter()
    return TaskRegistry(
        Polling.fixed(20, 3), limiter, Reporter(events.append), random.Random(1), ConcurrencyLimit()
    )


def opened(
    registry: TaskRegistry,
    *,
    now: float = 0.0,
    age: float | None = 0.0,
    seen: bool = True,
    ref: TaskRef = REF,
) -> TrackedTask:
    """Take up the task of these tests."""
    slot = registry._limiter.slot_above()
    return registry.open(ref, ref.model, slot, now=now, age=age, seen=seen)


async def test_first_poll(registry: TaskRegistry) -> None:
    """A new task is polled at its times, an attached one at once."""
    track = opened(registry)
    assert registry.next_due(19.9) is None
    assert registry.next_due(20.31) is track
    assert (track.polling, track.polls) == (PollState.IN_FLIGHT, 1)
    assert registry.next_due(1e6) is None


@pytest.mark.parametrize("age", [0.0, 4.0], ids=["new", "adopted"])
async def test_a_simulator_says_how_fast_it_is(learner: TaskRegistry, age: float) -> None:
    """Tasks that wait for a first poll already are polled as much sooner."""
    track = opened(learner, age=age)
    assert learner.next_due(3.0) is None
    learner.hasten(10)
    assert learner.next_due(3.0) is track


async def test_opening_twice(registry: TaskRegistry) -> None:
    """A task that is known already keeps its track, and the second slot is free."""
    assert opened(registry) is opened(registry)
    assert registry._limiter.slots_used == 1


async def test_success_settles_once(registry: TaskRegistry, events: list[Event]) -> None:
    """The first outcome counts; a later poll changes nothing."""
    track = opened(registry)
    registry.apply(track, verdicts.Over(snapshot("success"), RESULT), 25.0)
    registry.apply(track, running(), 26.0)
    assert track.outcome is RESULT
    assert (registry.succeeded, registry.failed, registry.tracks) == (1, 0, {})
    assert registry._limiter.slots_used == 0
    assert len(events) == 1


async def test_faults_back_off_and_are_forgotten(registry: TaskRegistry) -> None:
    """Polls that tell nothing come ever later, up to a minute; a telling one resets that."""
    track = opened(registry)
    pauses: list[float] = []
    for _ in range(8):
        registry.outages.answered(track, 0.0)  # Other tasks are polled well meanwhile.
        registry.apply(track, verdicts.Faulty(APIConnectionError("x")), 100.0)
        assert track.due is not None
        pauses.append(track.due - 100.0)
    bounds = [3, 6, 12, 24, 48, 60, 60, 60]
    assert all(low <= got <= 1.1 * low for got, low in zip(pauses, bounds, strict=True))
    registry.apply(track, running(), 100.0)
    assert track.faults == 0


async def test_throttled_polls_are_no_faults(registry: TaskRegistry) -> None:
    """A 429 schedules the next poll as usual: the limiter does the waiting."""
    track = opened(registry)
    for _ in range(8):
        registry.apply(track, verdicts.Throttled(RateLimitError("x", status=429)), 100.0)
    assert track.due is not None
    assert 103 <= track.due <= 103.31


MISSING = verdicts.Missing(NotFoundError("x", status=404))
FAULTY = verdicts.Faulty(APIConnectionError("x"))


async def test_misses_need_five_polls_and_ten_seconds(registry: TaskRegistry) -> None:
    """A task never seen counts as gone after five 404s over at least ten seconds."""
    track = opened(registry, age=None, seen=False)
    for now in (0.0, 1.0, 2.0, 3.0, 9.9):
        registry.apply(track, MISSING, now)
        registry.apply(track, FAULTY, now)
    assert track.outcome is None
    registry.apply(track, MISSING, 10.0)
    assert isinstance(track.outcome, TaskNotFoundError)
    assert track.outcome.__cause__ is MISSING.error


@pytest.mark.parametrize("how", ["bought", "found"])
async def test_a_task_that_was_seen_is_missed_for_two_minutes(
    registry: TaskRegistry, how: str
) -> None:
    """A task bought here or once found counts as gone after 404s and nothing else for 2 min."""
    track = opened(registry, age=None, seen=how == "bought")
    if how == "found":
        registry.apply(track, running(), 0.0)
    for now in (0.0, 10.0, 60.0, 110.0):
        registry.apply(track, MISSING, now)
    registry.apply(track, FAULTY, 119.0)
    for now in (120.0, 130.0, 140.0, 150.0, 239.9):
        registry.apply(track, MISSING, now)
    assert track.outcome is None
    registry.apply(track, MISSING, 240.0)
    assert isinstance(track.outcome, TaskNotFoundError)


@pytest.mark.parametrize("models", [1, 5])
async def test_a_crowd_that_is_missing_is_an_outage(registry: TaskRegistry, models: int) -> None:
    """Five tasks that are missing at once are kept, of one model or of all of the client."""
    refs = [TaskRef(f"flux-kontext-{n % models}", str(n)) for n in range(5)]
    tracks = [opened(registry, ref=ref) for ref in refs]
    for now in range(0, 1_500, 30):
        for track in tracks:
            registry.apply(track, MISSING, float(now))
    assert [track.outcome for track in tracks] == [None] * 5
    assert registry._limiter.slots_used == 5
    # The service knows a task again, so that it is no outage: the others are gone.
    registry.apply(tracks[0], running(), 1_500.0)
    for track in tracks[1:]:
        registry.apply(track, MISSING, 1_501.0)
    assert {type(track.outcome) for track in tracks[1:]} == {TaskNotFoundError}
    for track in registry.outages._models.values():
        assert not track.missing
    assert not registry.outages._all.missing


async def test_four_that_are_missing_are_no_crowd(registry: TaskRegistry) -> None:
    """Few tasks that the service does not know are gone, and many beside one that it knows."""
    tracks = [opened(registry, ref=TaskRef(REF.model, str(n))) for n in range(4)]
    for now in range(0, 125, 5):
        for track in tracks:
            registry.apply(track, MISSING, float(now))
    assert {type(track.outcome) for track in tracks} == {TaskNotFoundError}
    known, *tracks = [opened(registry, ref=TaskRef(REF.model, f"b{n}")) for n in range(10)]
    for now in range(0, 125, 5):
        registry.apply(known, running(), float(now))
        for track in tracks:
            registry.apply(track, MISSING, float(now))
    assert {type(track.outcome) for track in tracks} == {TaskNotFoundError}


async def test_many_mistyped_ids_are_told_after_two_minutes(registry: TaskRegistry) -> None:
    """Tasks never seen that are missing in a crowd count as gone after two minutes."""
    tracks = [opened(registry, ref=TaskRef(REF.model, str(n)), seen=False) for n in range(5)]
    for now in range(0, 120, 2):
        for track in tracks:
            registry.apply(track, MISSING, float(now))
    assert [track.outcome for track in tracks] == [None] * 5
    for track in tracks:
        registry.apply(track, MISSING, 120.0)
    assert {type(track.outcome) for track in tracks} == {TaskNotFoundError}


async def test_denied_pauses_and_refresh_resumes(registry: TaskRegistry) -> None:
    """A denied task is halted with nothing scheduled, until a poll is answered again."""
    track = opened(registry)
    registry.next_due(30.0)
    registry.apply(track, verdicts.Denied(AuthenticationError("x", status=401)), 30.0)
    assert track.due is None
    assert isinstance(track.verdict(), AuthenticationError)
    registry.apply(track, running(), 40.0)
    assert track.verdict() is None
    assert track.due is not None


async def test_denied_task_still_expires(registry: TaskRegistry) -> None:
    """A task whose polls pause gives its slot back at its age limit, and is polled at once more."""
    track, denied = opened(registry), verdicts.Denied(AuthenticationError("x", status=401))
    registry.apply(track, denied, 30.0)
    registry.abandon_expired(1_800.0 + EXPIRY_GRACE)
    assert registry._limiter.slots_used == 0
    assert registry.next_due(1_800.0 + EXPIRY_GRACE) is track
    registry.apply(track, denied, 1_801.0 + EXPIRY_GRACE)
    assert isinstance(track.outcome, TaskAbandonedError)


END = 1_800.0 + EXPIRY_GRACE


@pytest.mark.parametrize(
    "verdict",
    [running(), MISSING, verdicts.Denied(AuthenticationError("x", status=401))],
    ids=lambda verdict: type(verdict).__name__,
)
async def test_a_last_poll_at_the_age_limit(
    registry: TaskRegistry, verdict: verdicts.PollVerdict
) -> None:
    """At its age limit a task gives its slot back, and ends with a poll that goes out then."""
    track = opened(registry)
    assert registry.next_due(21.0) is track
    registry.apply(track, running(), 21.5)
    registry.abandon_expired(END)
    assert track.outcome is None
    assert registry._limiter.slots_used == 0
    assert registry.next_due(END) is track
    registry.apply(track, verdict, END + 0.5)
    assert isinstance(track.outcome, TaskAbandonedError)
    assert "no poll" not in str(track.outcome)
    assert (registry.tracks, registry.queue.next_due()) == ({}, float("inf"))


async def test_a_result_past_the_age_limit(registry: TaskRegistry) -> None:
    """A task is kept past its age limit while polls tell nothing, and its result is not lost."""
    track = opened(registry)
    registry.abandon_expired(END)
    now = END
    for verdict in (FAULTY, verdicts.Throttled(RateLimitError("x", status=429)), FAULTY):
        assert registry.next_due(now) is track
        registry.apply(track, verdict, now)
        assert track.outcome is None
        assert track.due is not None
        now = track.due
    assert now < END + 20
    assert registry.next_due(now) is track
    registry.apply(track, verdicts.Over(snapshot("success"), RESULT), now)
    assert track.outcome is RESULT


async def test_everything_has_a_deadline(registry: TaskRegistry) -> None:
    """A task of which no poll tells anything is abandoned at twice its age limit, and says so."""
    track = opened(registry)
    registry.abandon_expired(END)
    assert registry.next_due(END) is track
    registry.apply(track, FAULTY, END + 1)
    registry.abandon_expired(END + 1_799.0)
    assert track.outcome is None
    registry.abandon_expired(END + 1_800.0)
    assert isinstance(track.outcome, TaskAbandonedError)
    assert "not over after 3630 s, past its age limit, as far as is known: no poll" in str(
        track.outcome
    )


async def test_expiry_waits_for_a_poll_under_way(registry: TaskRegistry) -> None:
    """A task is not abandoned while a poll is on its way: it may bring the result."""
    track = opened(registry)
    registry.next_due(30.0)
    registry.abandon_expired(END)
    assert track.outcome is None
    registry.apply(track, verdicts.Over(snapshot("success"), RESULT), END + 1)
    registry.abandon_expired(END + 1_000)
    assert track.outcome is RESULT
    assert registry.queue.next_expiry() == float("inf")


UNNAMED = TaskRef(REF.model, "unnamed-1")


def claimed(registry: TaskRegistry) -> TrackedTask:
    """Have an uncertain submit of which a callback says that its task is that of `REF`."""
    slot, times = registry._limiter.slot_above(), SubmitTimes(0.0, 1.0)
    uncertain = registry.await_callback(UNNAMED, REF.model, slot, None, times)
    uncertain.subscription = SimpleNamespace(is_shared=False, is_alone=True, close=lambda: None)  # type: ignore[assignment]  # as it is asked
    registry.called(uncertain, REF.task_id, 2.0)
    return uncertain


@pytest.mark.parametrize("other", [None, "task_2"])
async def test_a_claim_that_is_taken_back_during_its_poll(
    registry: TaskRegistry, other: str | None
) -> None:
    """The answer to a poll of another submit's task says nothing of an uncertain one."""
    uncertain = claimed(registry)
    assert registry.next_due(2.0) is uncertain
    if other is not None:
        registry.called(uncertain, other, 2.5)
    bought = opened(registry, now=3.0)
    assert bought is not uncertain
    registry.apply(uncertain, verdicts.Over(snapshot("success"), RESULT), 4.0)
    assert uncertain.verdict() is None
    if other is None:
        assert (uncertain.identity, uncertain.ref) == (TaskIdentity.UNRESOLVED, UNNAMED)
        assert registry.next_due(5.0) is None
    else:
        assert uncertain.ref == TaskRef(REF.model, other)
        assert registry.next_due(5.0) is uncertain
    assert bought.verdict() is None


@pytest.mark.parametrize("is_its_own", [True, False])
async def test_a_caller_that_attaches_to_a_claimed_task(
    registry: TaskRegistry, is_its_own: bool
) -> None:
    """An attached task is itself, whatever a callback claims: each gets what its polls say."""
    uncertain = claimed(registry)
    attached = opened(registry, now=3.0, age=None, seen=False)
    assert attached is not uncertain
    assert registry.held == 2
    assert [registry.next_due(4.0), registry.next_due(4.0)] == [uncertain, attached]
    created = time.time() - (2.0 if is_its_own else 3_600.0)
    registry.apply(uncertain, running(created), 4.0)
    registry.apply(attached, verdicts.Over(snapshot("success"), RESULT), 4.0)
    assert (attached.outcome, attached.ref) == (RESULT, REF)
    assert uncertain.outcome is None
    if is_its_own:
        assert (uncertain.identity, uncertain.ref) == (TaskIdentity.KNOWN, REF)
        registry.queue.ask(uncertain)
        assert registry.next_due(5.0) is uncertain
        registry.apply(uncertain, verdicts.Over(snapshot("success"), RESULT, created=created), 5.0)
        assert uncertain.outcome is RESULT
        assert (registry.held, registry.tracks, registry.index.model_of) == (0, {}, {})
        assert registry._limiter.slots_used == 0
    else:
        assert (uncertain.identity, uncertain.ref) == (TaskIdentity.UNRESOLVED, UNNAMED)
        assert (registry.held, registry.tracks) == (1, {})


async def test_load_stretches_polls() -> None:
    """A thousand tasks past their first poll stretch 3 s to twice that; ended ones do not."""
    registry = TaskRegistry(
        Polling.fixed(20, 3), Limiter(), Reporter(None), random.Random(1), ConcurrencyLimit()
    )
    tracks = []
    for n in range(1_000):
        slot = registry._limiter.slot_above()
        ref = TaskRef("flux-kontext", str(n))
        tracks.append(registry.open(ref, ref.model, slot, now=0.0))
    for track in tracks:
        registry.apply(track, running(), 100.0)
    assert tracks[-1].due is not None
    assert 106 <= tracks[-1].due <= 106.7
    for track in tracks[1:]:
        registry.apply(track, verdicts.Over(snapshot("success"), RESULT), 110.0)
    registry.apply(tracks[0], running(), 120.0)
    assert tracks[0].due is not None
    assert 123 <= tracks[0].due <= 123.31


async def test_attached_task_is_dated_by_the_service(registry: TaskRegistry) -> None:
    """`createTime` dates an attached task; until it is told, polls follow the interval."""
    track = opened(registry, age=None)
    registry.apply(track, running(), 97.0)
    assert track.due == pytest.approx(100.0, abs=0.4)
    registry.apply(track, running(time.time() - 12.0), 100.0)
    assert track.created == pytest.approx(88.0, abs=0.1)
    assert track.due == pytest.approx(108.0, abs=0.4)


@pytest.mark.parametrize("created", [0.0, 1_767_965.6, -1e305, 1e305], ids=str)
async def test_an_absurd_creation(learner: TaskRegistry, created: float) -> None:
    """Tasks whose `createTime` is absurd are as old as they are known, and teach no such times."""
    for number in range(8):
        track = opened(learner, age=None, ref=TaskRef(REF.model, str(number)))
        assert learner.next_due(100.0) is track
        learner.apply(track, running(created), 100.0)
        assert track.created == -math.inf
        assert track.due == pytest.approx(103.0, abs=0.4)
        over = verdicts.Over(snapshot("success"), RESULT, abs(created))
        learner.apply(track, over, 130.0)
    durations = learner.schedule._kinds[REF.model].durations
    assert all(0 <= seconds <= 1_800.0 for seconds in durations._newest)


async def test_the_clock_of_the_service(registry: TaskRegistry) -> None:
    """An attached task is dated by the answer's own date, however wrong this clock is."""
    track = opened(registry, age=None)
    date, made = "Fri, 09 Jan 2026 13:33:50 GMT", 1_767_965_618.0
    registry.apply(track, verdicts.Running(snapshot(), made, date), 100.0)
    assert track.created == pytest.approx(88.0)


async def test_halt_tells_everybody(registry: TaskRegistry) -> None:
    """When nobody polls any more, each unfinished task says why."""
    track, reason = opened(registry), APIConnectionError("x")
    registry.halt_all(reason, 0.0)
    assert track.verdict() is reason
    assert track.outcome is None
    # The task goes on at the service, and so does its slot.
    assert registry._limiter.slots_used == 1


# --- what is learned -----------------------------------------------------------------------------


@pytest.fixture
async def learner(events: list[Event]) -> TaskRegistry:
    """Return a ledger that learns, and begins with the documents' 20 s and 3 s."""
    return TaskRegistry(
        Polling.adaptive(), Limiter(), Reporter(events.append), random.Random(1), ConcurrencyLimit()
    )


def live(
    registry: TaskRegistry, name: str, over: verdicts.Over, *, at: float, polls: float
) -> TrackedTask:
    """Let a task go from its creation at a time to the poll that finds it over."""
    ref = TaskRef(REF.model, name)
    track = registry.open(ref, REF.model, registry._limiter.slot_above(), now=at)
    registry.queue.ask(track)
    assert registry.next_due(at + polls) is track
    registry.apply(track, over, at + polls)
    return track


@pytest.mark.parametrize(
    ("said", "learned"),
    [(12.0, 12.0), (None, 10.0), (500.0, 20.0), (-3.0, 0.0)],
    ids=["said", "seen", "too long", "too short"],
)
async def test_durations_are_learned(
    learner: TaskRegistry, said: float | None, learned: float
) -> None:
    """What the service says a task took is believed within what was seen of it."""
    over = verdicts.Over(snapshot("success"), RESULT, said)
    for number in range(8):
        live(learner, str(number), over, at=100.0, polls=20.0)
    sample = learner.schedule._kinds[REF.model].sample
    assert sample.mean == pytest.approx(learned)


async def test_what_was_seen_running_is_believed(learner: TaskRegistry) -> None:
    """A task took at least as long as it was seen running, whatever the service says."""
    for number in range(8):
        ref = TaskRef(REF.model, str(number))
        slot = learner._limiter.slot_above()
        track = learner.open(ref, REF.model, slot, now=100.0)
        for at, verdict in (
            (130.0, running()),
            (140.0, verdicts.Over(snapshot("success"), RESULT, 1.0)),
        ):
            learner.queue.ask(track)
            assert learner.next_due(at) is track
            learner.apply(track, verdict, at + 0.2)
    sample = learner.schedule._kinds[REF.model].sample
    assert sample.mean == pytest.approx(30.0)


async def test_first_polls_move_as_durations_are_learned(learner: TaskRegistry) -> None:
    """Tasks in flight are polled as soon as it is known that such tasks are over by then."""
    waiting = [
        learner.open(
            TaskRef(REF.model, f"w{n}"), REF.model, learner._limiter.slot_above(),
            now=100.0 + n,
        )
        for n in range(3)
    ]  # fmt: skip
    assert learner.queue.next_due() == 120.0
    over = verdicts.Over(snapshot("success"), RESULT, 5.0)
    for number in range(8):
        live(learner, str(number), over, at=100.0, polls=6.0)
    assert learner.queue.next_due() < 108.0
    assert [learner.next_due(115.0) for _ in range(4)] == [*waiting, None]


async def test_a_task_of_unknown_age_is_as_old_as_it_is_known(learner: TaskRegistry) -> None:
    """An attached task of which the service gives no creation is polled again all the same."""
    for number in range(8):
        over = verdicts.Over(snapshot("success"), RESULT, 30.0)
        live(learner, str(number), over, at=100.0, polls=31.0)
    track = opened(learner, now=200.0, age=None)
    assert learner.next_due(200.0) is track
    learner.apply(track, running(None), 200.5)
    assert track.due is not None
    assert 225 < track.due < 240
    learner.queue.ask(track)
    learner.next_due(210.0)
    learner.apply(track, verdicts.Over(snapshot("success"), RESULT, None), 210.5)
    assert learner.schedule._kinds[REF.model].durations.ended == 8


async def test_misses_go_by_no_schedule(learner: TaskRegistry) -> None:
    """A task that may not be there is sought soon, whatever such tasks take."""
    track = opened(learner, age=None, seen=False)
    assert learner.next_due(0.0) is track
    learner.apply(track, MISSING, 100.0)
    assert track.due is not None
    assert 102.6 <= track.due <= 102.9
