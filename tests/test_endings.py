"""How tasks end without the service's word, and how long they took."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from apixo_async import (
    PresumedNotBoughtError,
    Result,
    TaskAbandonedError,
    TaskFailedError,
    TaskNotFoundError,
    TaskRef,
)
from apixo_async._core.errors import ApixoError
from apixo_async._core.plans import Plan
from apixo_async._core.task_errors import TaskError
from apixo_async._endings import abandoned, lasted, not_found, presumed_not_bought, word_of
from apixo_async._grants import Slot
from apixo_async._track import Track

REF = TaskRef("flux-kontext", "task_1")


def track(created: float = 100.0) -> Track:
    """Return a task of 100 s ago, when it is 200."""
    made = Track(REF, REF.model, Plan(20, 3), Slot(None), created=100.0, expires=1e6)
    made.created, made.misses = created, 5
    return made


def awaited() -> Track:
    """Return one whose callback is awaited."""
    made = track()
    made.ticket = SimpleNamespace(is_shared=False)  # type: ignore[assignment]  # as it is asked
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


@pytest.mark.parametrize("said", [None, 30.0])
def test_what_a_task_of_unknown_age_lasted(said: float | None) -> None:
    """Of a task whose creation nobody saw, only the service knows."""
    assert lasted(track(created=-math.inf), said, 200.0) == said


@pytest.mark.parametrize(
    ("error", "cls", "words"),
    [
        (abandoned(track(), 200.0, seen=True), TaskAbandonedError, "after 100 s.* age limit; "),
        (abandoned(track(), 200.0, seen=False), TaskAbandonedError, "after 100 s.* no look since"),
        (not_found(track(), ApixoError("404")), TaskNotFoundError, "in 5 looks"),
        (
            presumed_not_bought(awaited(), 200.0, callbacks_come=True),
            PresumedNotBoughtError,
            "in 100 s; it is presumed not bought",
        ),
        (
            presumed_not_bought(awaited(), 200.0, callbacks_come=False),
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
        presumed_not_bought(track(), 200.0, callbacks_come=True),
    ]
    words = [word_of(end) for end in ends]
    assert words == ["success", "failed", "abandoned", "not found", "presumed not bought"]
