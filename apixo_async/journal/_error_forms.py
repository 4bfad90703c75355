"""Errors as the texts of a journal, and back: by a table, so that a file names no code to run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeAlias

from apixo_async import errors
from apixo_async._types import Delivery, TaskRef, as_seconds
from apixo_async.errors import (
    APIStatusError,
    ApixoError,
    SubmitUncertainError,
    TaskError,
    TaskFailedError,
)
from apixo_async.journal._forms import Fields, fields_of, input_of, moment, text, truth, whole

#: What a submit that was cut off says, and what its time is where none was noted.
CUT_OFF: Final = (
    "the run ended while this was being bought, perhaps before it was sent: whether "
    "there is a task cannot be known"
)
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)

#: What callers read from an error beside what every error has.
_ATTRIBUTES: Final[Mapping[type[ApixoError], tuple[str, ...]]] = {
    APIStatusError: ("status", "code", "message", "retry_after"),
    TaskFailedError: ("fail_code", "fail_msg", "family", "retryable"),
}


class About(NamedTuple):
    """What an item's row says beside its error."""

    model: str
    provider: str | None
    payload: str
    intent_at: datetime | None


def error_text(error: ApixoError) -> str:
    """Return an error as JSON; its model is in the row."""
    stored: dict[str, object] = {
        "class": type(error).__name__,
        "words": str(error),
        "task_id": error.task_id,
        "bought": error.bought,
    }
    for cls, names in _ATTRIBUTES.items():
        if isinstance(error, cls):
            stored |= {name: getattr(error, name) for name in names}
    if isinstance(error, SubmitUncertainError):
        head = error.body_head
        stored["sent_at"] = error.sent_at.isoformat()
        stored["body_head"] = None if head is None else head.decode("latin-1")
    return json.dumps(stored)


def uncertain_text(words: str) -> str:
    """Return the JSON of a submit whose outcome cannot be known; its time is the intent's."""
    return json.dumps({"class": SubmitUncertainError.__name__, "words": words})


def error_of(stored: str, about: About) -> ApixoError:
    """Rebuild an error; an unknown class becomes an `ApixoError`.

    Raises:
        ValueError: The text is no JSON object.
    """
    fields = fields_of(stored)
    build = _BUILDERS.get(text(fields, "class") or "", _plain(ApixoError))
    error = build(fields, about)
    if "bought" in fields and truth(fields, "bought") is not error.bought:
        error.bought = truth(fields, "bought")
    return error


_Build: TypeAlias = Callable[[Fields, About], ApixoError]


def _words(fields: Fields) -> str:
    return text(fields, "words") or "an error that the journal does not describe"


def _plain(cls: type[ApixoError]) -> _Build:
    def build(fields: Fields, about: About) -> ApixoError:
        return cls(_words(fields), model=about.model, task_id=text(fields, "task_id"))

    return build


def _status(cls: type[APIStatusError]) -> _Build:
    def build(fields: Fields, about: About) -> ApixoError:
        return cls(
            _words(fields),
            status=whole(fields, "status") or 0,
            code=whole(fields, "code"),
            message=text(fields, "message") or "",
            retry_after=as_seconds(fields.get("retry_after")),
            model=about.model,
            task_id=text(fields, "task_id"),
        )

    return build


def _ref(fields: Fields, about: About) -> TaskRef:
    return TaskRef(about.model, text(fields, "task_id") or "unknown")


def _task(cls: type[TaskError]) -> _Build:
    def build(fields: Fields, about: About) -> ApixoError:
        return cls(_words(fields), ref=_ref(fields, about))

    return build


def _failed(fields: Fields, about: About) -> ApixoError:
    return TaskFailedError(
        _words(fields),
        ref=_ref(fields, about),
        fail_code=text(fields, "fail_code"),
        fail_msg=text(fields, "fail_msg"),
        family=text(fields, "family") or "unknown",
        retryable=truth(fields, "retryable") or False,
    )


def _uncertain(fields: Fields, about: About) -> ApixoError:
    head = text(fields, "body_head")
    return SubmitUncertainError(
        _words(fields),
        model=about.model,
        input=input_of(about.model, about.payload),
        sent_at=moment(fields, "sent_at") or about.intent_at or _NEVER,
        body_head=None if head is None else head.encode("latin-1", "replace"),
        delivery=Delivery(provider=about.provider),
    )


_PLAIN: Final = (
    errors.ConfigurationError,
    errors.ClientClosedError,
    errors.PollerDiedError,
    errors.JournalError,
    errors.StoreError,
    errors.KeyConflictError,
    errors.APIConnectionError,
    errors.APITimeoutError,
    errors.DownloadError,
    errors.ResultExpiredError,
)
_STATUS: Final = (
    APIStatusError,
    errors.BadRequestError,
    errors.AuthenticationError,
    errors.InsufficientBalanceError,
    errors.PermissionDeniedError,
    errors.NotFoundError,
    errors.RateLimitError,
    errors.InternalServerError,
)
_TASK: Final = (
    TaskError,
    errors.TaskNotFoundError,
    errors.WaitTimeoutError,
    errors.TaskAbandonedError,
    errors.PresumedNotBoughtError,
)
_BUILDERS: Final[Mapping[str, _Build]] = {
    **{cls.__name__: _plain(cls) for cls in _PLAIN},
    **{cls.__name__: _status(cls) for cls in _STATUS},
    **{cls.__name__: _task(cls) for cls in _TASK},
    TaskFailedError.__name__: _failed,
    SubmitUncertainError.__name__: _uncertain,
}
