"""How tasks end without the service's word, and how long they took."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from apixo_async import (
    PresumedNotBoughtError,
    Result,
    Snapshot,
    TaskAbandonedError,
    TaskFailedError,
    TaskNotFoundError,
    TaskRef,
)
from apixo_async._http.verdicts import Running
from apixo_async._limits.limiter import Slot
from apixo_async._polling.outcomes import (
    abandoned,
    age_of,
    lasted,
    not_found,
    presumed_not_bought,
    word_of,
)
from apixo_async._polling.schedule import PollTimes
from apixo_async._polling.tracked_task import TrackedTask
from apixo_async.errors import ApixoError, TaskError

REF = TaskRef("flux-kontext", "task_1")


def track(created: float = 100.0) -> TrackedTask:
    """Return a task of 100 s ago, when it is 200."""
    made = TrackedTask(REF, REF.model, PollTimes(20, 3), Slot(None), created=100.0, expires=1e6)
    made.created, made.misses = created, 5
    return made


def awaited() -> TrackedTask:
    """Return one whose callback is awaited."""
    made = track()
    made.subscription = SimpleNamespace(is_shared=False, is_alone=True)  # type: ignore[assignment]  # as it is asked
    return made


@pytest.mark.parametrize(
    ("said", "ran_until", "seconds"),
    [
        (30.0, -math.inf, 30.0),
        (30.0, 140.0, 40.0),  # It was seen running at 40 s.
        (500.0, -math.inf, 100.0),  # It is not older than that.
        (None, 140.0, 70.0),
        (None, -math.inf, 50.0),
    ],
)
def test_what_a_task_lasted(said: float | None, ran_until: float, seconds: float) -> None:
    """The service's word counts within what was seen; without it, the middle of that."""
    seen = track()
    seen.ran_until = ran_until
    assert lasted(seen, said, 200.0) == seconds


def test_what_a_task_lasted_of_which_a_callback_told() -> None:
    """A callback comes at the end: without the service's word that is when the task was over."""
    seen = awaited()
    seen.callback_received = True
    assert lasted(seen, None, 200.0) == 100.0
    assert lasted(seen, 30.0, 200.0) == 30.0


@pytest.mark.parametrize(
    ("said", "seconds"),
    [(None, None), (30.0, 30.0), (1_800.0, 1_800.0), (1_801.0, None), (1e300, None), (-1.0, None)],
)
def test_what_a_task_of_unknown_age_lasted(said: float | None, seconds: float | None) -> None:
    """Of a task whose creation nobody saw, only the service knows, unless that is absurd."""
    assert lasted(track(created=-math.inf), said, 200.0) == seconds


@pytest.mark.parametrize("said", [None, 9_000.0, 1e300])
def test_nothing_lasts_longer_than_its_age_limit(said: float | None) -> None:
    """However late a task is found over, no more than its age limit is learned."""
    assert lasted(track(), said, 1e4) == 1_800.0


NOW = 1_767_965_630.0
HEADER = "Fri, 09 Jan 2026 13:33:50 GMT"


@pytest.mark.parametrize(
    ("created", "age"),
    [
        (None, None),
        (NOW - 30.0, 30.0),
        (NOW - 1_800.0, 1_800.0),
        (NOW - 1_801.0, None),
        (NOW + 0.9, 0.0),
        (NOW + 2.0, None),
        (0.0, None),
        (NOW / 1_000, None),
        (NOW * 1_000, None),
        (1e305, None),
        (-1e305, None),
    ],
)
@pytest.mark.parametrize("header", [HEADER, None, "soon"])
def test_how_old_a_task_is(
    created: float | None, age: float | None, header: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A creation is an age by the answer's own date, else by this clock; an absurd one is none."""
    monkeypatch.setattr("time.time", lambda: NOW if header != HEADER else NOW + 86_400.0)
    running = Running(Snapshot(REF.task_id, REF.model, "processing", {}), created, header)
    assert age_of(running, REF.model) == age


@pytest.mark.parametrize(
    ("error", "cls", "words"),
    [
        (abandoned(track(), 200.0, seen=True), TaskAbandonedError, "after 100 s.* age limit; "),
        (abandoned(track(), 200.0, seen=False), TaskAbandonedError, "after 100 s.* no poll since"),
        (not_found(track(), ApixoError("404")), TaskNotFoundError, "in 5 polls"),
        (
            presumed_not_bought(awaited(), 200.0, callbacks_arrive=True),
            PresumedNotBoughtError,
            "in 100 s; it is presumed not bought",
        ),
        (
            presumed_not_bought(awaited(), 200.0, callbacks_arrive=False),
            PresumedNotBoughtError,
            "look at your account",
        ),
    ],
)
def test_errors_that_no_answer_says(error: TaskError, cls: type[TaskError], words: str) -> None:
    """Each names the task, and says what was seen and what to do."""
    assert type(error) is cls
    assert error.ref == REF
    with pytest.raises(cls, match=words):
        raise error


def test_words() -> None:
    """Each end has a word of its own for the log."""
    failed = TaskFailedError(
        "no", ref=REF, fail_code=None, fail_msg=None, family="unknown", retryable=False
    )
    ends = [
        Result(task_id="1", model="m", urls=(), raw={}),
        failed,
        abandoned(track(), 200.0, seen=True),
        not_found(track(), ApixoError("404")),
        presumed_not_bought(track(), 200.0, callbacks_arrive=True),
    ]
    words = [word_of(end) for end in ends]
    assert words == ["success", "failed", "abandoned", "not found", "presumed not bought"]
