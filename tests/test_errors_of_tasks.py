"""Errors that name a task carry what it takes to go on with it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from apixo_async._catalog import _CODES, UNKNOWN
from apixo_async._types import POLLED, Delivery, TaskRef
from apixo_async.errors import (
    FAILURE_CATEGORIES,
    ApixoError,
    DownloadError,
    PresumedNotBoughtError,
    ResultExpiredError,
    SubmitUncertainError,
    TaskAbandonedError,
    TaskError,
    TaskFailedError,
    TaskNotFoundError,
    WaitTimeoutError,
)
from apixo_async.inputs import GptImage2, OtherModel

REF = TaskRef("gpt-image-2", "task_12345678")
SENT = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
SAVED = (Path("out/task_12345678-1.png"),)


def uncertain() -> SubmitUncertainError:
    """Build the error of a submit whose answer was lost."""
    return SubmitUncertainError(
        "gpt-image-2: a task may have been bought",
        model="gpt-image-2",
        input=GptImage2(prompt="a secret castle"),
        sent_at=SENT,
        body_head=b"<html>",
        delivery=Delivery("https://example.com/hook", "value"),
    )


def failed() -> TaskFailedError:
    """Build the error of a task that the service gave up on."""
    return TaskFailedError(
        f"{REF} failed with TIMEOUT",
        ref=REF,
        fail_code="TIMEOUT",
        fail_msg="too slow",
        family="timeout",
        retryable=True,
    )


SAMPLES: dict[type[ApixoError], Callable[[], ApixoError]] = {
    SubmitUncertainError: uncertain,
    TaskError: lambda: TaskError("it", ref=REF),
    TaskFailedError: failed,
    TaskNotFoundError: lambda: TaskNotFoundError("lost", ref=REF),
    WaitTimeoutError: lambda: WaitTimeoutError("not over", ref=REF),
    TaskAbandonedError: lambda: TaskAbandonedError("too old", ref=REF),
    PresumedNotBoughtError: lambda: PresumedNotBoughtError("no callback", ref=REF),
    DownloadError: lambda: DownloadError(
        "disk full", model=REF.model, task_id=REF.task_id, saved=SAVED
    ),
    ResultExpiredError: lambda: ResultExpiredError("gone", model=REF.model, task_id=REF.task_id),
}
TWINS: dict[str, Callable[[ApixoError], ApixoError]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
}


def below(root: type[ApixoError]) -> Iterator[type[ApixoError]]:
    """Yield every error below another one."""
    for cls in root.__subclasses__():
        yield cls
        yield from below(cls)


def test_the_samples_are_complete() -> None:
    """Every error that names a task or files is tried below."""
    roots = (SubmitUncertainError, TaskError, DownloadError)
    assert {*roots, *(cls for root in roots for cls in below(root))} == SAMPLES.keys()


@pytest.mark.parametrize("twin_of", TWINS.values(), ids=TWINS.keys())
@pytest.mark.parametrize("cls", SAMPLES, ids=lambda cls: cls.__name__)
def test_a_twin_keeps_everything(
    cls: type[ApixoError], twin_of: Callable[[ApixoError], ApixoError]
) -> None:
    """A copied or pickled error keeps its class, words and attributes."""
    error = SAMPLES[cls]()
    twin = twin_of(error)
    assert type(twin) is cls
    assert str(twin) == str(error) != ""
    assert vars(twin) == vars(error)
    assert twin.bought is error.bought


@pytest.mark.parametrize(
    "cls",
    [cls for cls in SAMPLES if issubclass(cls, TaskError)],
    ids=lambda cls: cls.__name__,
)
def test_a_task_error_holds_the_way_back(cls: type[ApixoError]) -> None:
    """The ref, the model and the id in an error are enough to attach to the task."""
    error = SAMPLES[cls]()
    assert isinstance(error, TaskError)
    assert (error.ref, error.model, error.task_id) == (REF, REF.model, REF.task_id)
    assert error.bought is not isinstance(error, PresumedNotBoughtError)


def test_a_failure_says_why() -> None:
    """A failed task gives code, words, family, and whether a new one may fare better."""
    error = failed()
    assert (error.fail_code, error.fail_msg) == ("TIMEOUT", "too slow")
    assert (error.family, error.retryable) == ("timeout", True)


@pytest.mark.parametrize(
    ("family", "category"), [("timeout", "timeout"), ("balance", "balance"), ("new", "unknown")]
)
def test_what_a_failure_is_about(family: str, category: str) -> None:
    """A failed task's category is its family, where this version knows that."""
    error = TaskFailedError(
        "failed", ref=REF, fail_code=None, fail_msg=None, family=family, retryable=False
    )
    assert error.category == category


def test_every_family_is_a_category() -> None:
    """What the catalog takes a fail code for can be named to try it again."""
    assert {family.name for family in (*_CODES, UNKNOWN)} == set(FAILURE_CATEGORIES)


def test_a_timeout_of_waiting_is_a_timeout() -> None:
    """The end of a wait is caught where a TimeoutError is caught."""
    assert issubclass(WaitTimeoutError, TimeoutError)


def test_an_uncertain_submit_holds_what_buys_anew() -> None:
    """It keeps input, options, time and the head of the answer, and shows none of the prompt."""
    error = uncertain()
    assert error.input == GptImage2(prompt="a secret castle")
    assert error.delivery == Delivery("https://example.com/hook", "value")
    assert (error.sent_at, error.body_head) == (SENT, b"<html>")
    assert (error.model, error.task_id, error.bought) == ("gpt-image-2", None, None)
    assert "secret" not in f"{error} {error!r} {error.args}"


def test_an_uncertain_submit_without_an_answer() -> None:
    """Where no answer came there is no head of one, and the options are the usual ones."""
    error = SubmitUncertainError("lost", model="m", input=OtherModel("m"), sent_at=SENT)
    assert (error.body_head, error.delivery) == (None, POLLED)


def test_a_download_error_lists_what_is_saved() -> None:
    """The files that are complete are named, however the sequence was given."""
    assert DownloadError("x", saved=list(SAVED)).saved == SAVED
    bare = DownloadError("x")
    assert (bare.saved, bare.model, bare.task_id, bare.bought) == ((), None, None, None)


@pytest.mark.parametrize("cls", SAMPLES)
@pytest.mark.parametrize("way", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_only_the_services_own_word_ends_a_task(
    cls: type[ApixoError], way: Callable[[ApixoError], ApixoError]
) -> None:
    """No error but that of a failed task says that it is over; all name it where it is known."""
    error = way(SAMPLES[cls]())
    assert error.task_over is (cls is TaskFailedError)
    assert error.ref == (REF if error.task_id else None)


def test_an_error_that_is_about_a_task_refers_to_it() -> None:
    """Also an error that is told to the waiters of a task refers to that task."""
    error = ApixoError("the client was closed")
    assert (error.ref, error.task_over) == (None, False)
    error.model, error.task_id = REF.model, REF.task_id
    assert error.ref == REF
