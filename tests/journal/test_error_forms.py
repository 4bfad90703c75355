from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from apixo_async import (
    APIStatusError,
    ApixoError,
    BadRequestError,
    BudgetExceededError,
    CallbackError,
    DownloadError,
    GptImage2,
    OtherModel,
    RateLimitError,
    SubmitUncertainError,
    TaskError,
    TaskFailedError,
    TaskNotFoundError,
    TaskRef,
    errors,
)
from apixo_async._types import Delivery
from apixo_async.journal._error_forms import CUT_OFF, About, error_of, error_text, uncertain_text

SENT = datetime(2026, 11, 21, 8, tzinfo=UTC)
INPUT = GptImage2(prompt="x")
ABOUT = About("gpt-image-2", "value", json.dumps(INPUT.payload()), SENT)
REF = TaskRef("gpt-image-2", "task_1")


def classes(root: type[ApixoError] = ApixoError) -> Iterator[type[ApixoError]]:
    yield root
    for cls in root.__subclasses__():
        # What ends the buying itself, and what is wrong with a callback, is of no item.
        if cls.__module__ == errors.__name__ and cls not in (BudgetExceededError, CallbackError):
            yield from classes(cls)


def sample(cls: type[ApixoError]) -> ApixoError:
    if issubclass(cls, SubmitUncertainError):
        delivery = Delivery(provider="value")
        return cls(
            "no answer",
            model="gpt-image-2",
            input=INPUT,
            sent_at=SENT,
            body_head=b"<html>\xff",
            delivery=delivery,
        )
    if issubclass(cls, TaskFailedError):
        return cls(
            "it failed",
            ref=REF,
            fail_code="Timeout",
            fail_msg="too slow",
            family="timeout",
            retryable=True,
        )
    if issubclass(cls, TaskError):
        return cls("something befell it", ref=REF)
    if issubclass(cls, APIStatusError):
        return cls(
            "refused",
            status=429,
            code=1429,
            message="slow down",
            retry_after=2.5,
            model="gpt-image-2",
        )
    return cls("something happened", model="gpt-image-2", task_id="task_1")


@pytest.mark.parametrize("cls", [*classes()], ids=lambda cls: cls.__name__)
def test_every_error_comes_back(cls: type[ApixoError]) -> None:
    """An error that was kept has the class, words and attributes of the one that was noted."""
    error = sample(cls)
    twin = error_of(error_text(error), ABOUT)
    assert type(twin) is cls
    assert str(twin) == str(error)
    assert vars(twin) == vars(error)
    assert twin.bought is error.bought


def test_what_was_bought_comes_back() -> None:
    """What one error says of its purchase is kept, whatever its class says."""
    error = BadRequestError("refused", status=400)
    error.bought = False
    assert error_of(error_text(error), ABOUT).bought is False
    error.bought = None
    assert error_of(error_text(error), ABOUT).bought is None


def test_files_of_a_failed_download_are_not_kept() -> None:
    """A download that failed is known as such; its files are looked for, not believed."""
    kept = error_of(error_text(DownloadError("disk full", model="m")), ABOUT)
    assert isinstance(kept, DownloadError)
    assert kept.saved == ()


def test_a_submit_that_was_cut_off() -> None:
    """Such a submit is known by its input, its route and the time of its intent."""
    error = error_of(uncertain_text(CUT_OFF), ABOUT)
    assert isinstance(error, SubmitUncertainError)
    assert (error.input, error.sent_at, error.body_head) == (INPUT, SENT, None)
    assert error.delivery == Delivery(provider="value")
    assert (str(error), error.bought) == (CUT_OFF, None)
    nowhere = error_of(uncertain_text(CUT_OFF), ABOUT._replace(intent_at=None))
    assert isinstance(nowhere, SubmitUncertainError)
    assert nowhere.sent_at == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("name", ["KeyboardInterrupt", "os.system", "FutureError", 3, None])
def test_an_unknown_class(name: object) -> None:
    """A class that is not in the table becomes an ApixoError with the same words."""
    error = error_of(json.dumps({"class": name, "words": "rm -rf"}), ABOUT)
    assert type(error) is ApixoError
    assert (str(error), error.model, error.bought) == ("rm -rf", "gpt-image-2", None)


def test_errors_without_their_attributes() -> None:
    """What is missing or odd is filled in, so that no error hides the item."""
    failed = error_of('{"class": "TaskFailedError", "fail_code": 3}', ABOUT)
    assert isinstance(failed, TaskFailedError)
    assert str(failed) == "an error that the journal does not describe"
    assert (failed.fail_code, failed.family, failed.retryable) == (None, "unknown", False)
    assert failed.task_id == "unknown"
    limited = error_of('{"class": "RateLimitError", "status": "x", "retry_after": "y"}', ABOUT)
    assert isinstance(limited, RateLimitError)
    assert (limited.status, limited.message, limited.retry_after) == (0, "", None)
    gone = error_of('{"class": "TaskNotFoundError", "task_id": 5}', ABOUT)
    assert isinstance(gone, TaskNotFoundError)
    with pytest.raises(ValueError, match="no JSON object"):
        error_of("3", ABOUT)


def test_an_odd_input_of_an_uncertain_submit() -> None:
    """An input that this version would refuse is there all the same."""
    error = error_of(uncertain_text("why"), ABOUT._replace(payload='{"prompt": ""}'))
    assert isinstance(error, SubmitUncertainError)
    assert error.input == OtherModel("gpt-image-2", prompt="")
