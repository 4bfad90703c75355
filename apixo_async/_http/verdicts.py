"""What an answer means: one table for errors, one rule for submits, one for polls."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

from apixo_async import errors
from apixo_async._catalog import FAILED, SUCCESS, family_of
from apixo_async._http.retry import Repeat
from apixo_async._http.wire import (
    MOST_WORDS,
    Answer,
    Envelope,
    Status,
    as_envelope,
    created_epoch,
    lasted,
    parse_date,
    read_object,
    read_result,
    read_status,
    read_task_id,
)
from apixo_async._text import one_line, printable
from apixo_async._types import Result, Snapshot, TaskRef
from apixo_async.errors import TaskFailedError

#: Codes which, in an envelope without a task id, prove that no task was created (invariant 1).
_REFUSING: Final = frozenset({400, 401, 402, 403, 404, 422, 429, 503})

#: 4xx answers prove it without an envelope too, except these: a gateway may send 408 and 499 for a
#: request that the service goes on with, and a 409 may mean that the task exists already.
_OPEN_4XX: Final = frozenset({408, 409, 499})

#: Stands in the error for an answer that is cut.
_TOO_LONG: Final = "an answer that is too long to be one of the API"

#: A task id in an answer that cannot be parsed.
_SOME_ID: Final = re.compile(rb'"taskId"\s*:\s*("\s*[^"\s]|[0-9])')

#: Every envelope with the code 429 matches this; it saves parsing all other answers twice.
_CODE_429: Final = re.compile(rb'"code"\s*:\s*"?[\s+0]*429')

#: A statement that the account has no credit, in the words and codes of the documents. All of the
#: statement must match, since a message may also repeat a prompt.
_NO_CREDIT: Final = re.compile(
    r"(?i)(insufficient|not enough|out of)[ _](account )?(credits?|balance|funds?|quota)[.!]?"
)

#: Characters of a state or fail code that are kept; known ones have at most 35.
_MOST_CODE: Final = 100


class ErrorRow(NamedTuple):
    """How one error code is raised.

    Attributes:
        cls: The class of the error.
        advice: What to do next.
    """

    cls: type[errors.APIStatusError]
    advice: str


_BAD_REQUEST: Final = ErrorRow(errors.BadRequestError, "mend the request before sending it again")
_NO_BALANCE: Final = ErrorRow(errors.InsufficientBalanceError, "add balance, or use another key")
_SERVER: Final = ErrorRow(errors.InternalServerError, "try again later")
_ROWS: Final[dict[int, ErrorRow]] = {
    400: _BAD_REQUEST,
    401: ErrorRow(errors.AuthenticationError, "check the API key"),
    402: _NO_BALANCE,
    403: ErrorRow(errors.PermissionDeniedError, "check the key's permissions and the route"),
    404: ErrorRow(errors.NotFoundError, "check the model's name and the task id"),
    422: _BAD_REQUEST,
    429: ErrorRow(errors.RateLimitError, "slow down, or lower `limits` to what the account has"),
}


def decisive_code(answer: Answer, envelope: Envelope | None) -> int:
    """Return the code to act on, since HTTP status and body `code` need not agree.

    A 429 comes first, then a code that proves a refusal, then any other failure.
    """
    said = None if envelope is None else envelope.code
    codes = [answer.status] if said is None else [said, answer.status]
    if 429 in codes:
        return 429
    refusing = [code for code in codes if code in _REFUSING]
    failing = [code for code in codes if code >= 400]
    return (refusing or failing or codes)[0]


def says_throttled(answer: Answer) -> bool:
    """Return True if the HTTP status or the code in the body is 429."""
    if answer.status == 429:
        return True
    if not _CODE_429.search(answer.body):
        return False
    return decisive_code(answer, as_envelope(read_object(answer.body, cut=answer.cut))) == 429


def status_error(
    answer: Answer,
    found: Envelope | None = None,
    *,
    model: str | None = None,
    task_id: str | None = None,
) -> errors.APIStatusError:
    """Build the error of an answer that is one; `found` is its body, if it was parsed already."""
    found = read_object(answer.body, cut=answer.cut) if found is None else found
    code, words = decisive_code(answer, found), found.words
    row = _ROWS.get(code, _SERVER if code >= 500 else _BAD_REQUEST)
    if row is _BAD_REQUEST and any(map(_NO_CREDIT.fullmatch, found.statements)):
        row = _NO_BALANCE
    about = one_line(" ".join(part for part in (model, task_id) if part), MOST_WORDS) or "the API"
    said = f": {words}" if words else ""
    return row.cls(
        f"{about} answered {code}{said}; {row.advice}",
        status=answer.status,
        code=found.code,
        message=words,
        retry_after=answer.retry_after,
        model=model,
        task_id=task_id,
    )


# --- submits ---------------------------------------------------------------------------------


class Bought(NamedTuple):
    """A task was created, and its id is known."""

    task_id: str


class Refused(NamedTuple):
    """No task was created. `repeat` is the reason for which the submit may be repeated, or None."""

    error: errors.ApixoError
    repeat: Repeat | None


class Uncertain(NamedTuple):
    """The client has no way to find out whether a task was created; the submit is not repeated."""

    reason: str
    body_head: bytes | None = None


#: Bytes of an unreadable answer that are kept for the caller.
BODY_HEAD: Final = 1024

SubmitVerdict: TypeAlias = Bought | Refused | Uncertain

_REPEATS: Final[Mapping[int, Repeat]] = {429: "throttled", 503: "unavailable"}


def judge_submit(answer: Answer, model: str) -> SubmitVerdict:
    """Return which of the three outcomes of a submit an answer is (invariant 1)."""
    found = read_object(answer.body, cut=answer.cut)
    envelope = as_envelope(found)
    task_id = None if envelope is None else read_task_id(envelope)
    if task_id is not None:
        return Bought(task_id)
    if answer.cut:
        return Uncertain(f"HTTP {answer.status} with {_TOO_LONG}", answer.body[:BODY_HEAD])
    code = decisive_code(answer, envelope)
    if _SOME_ID.search(answer.body):
        refused = False  # Whatever the code is, a task may have been created.
    elif envelope is not None:
        refused = code in _REFUSING
    else:
        refused = 400 <= code < 500 and code not in _OPEN_4XX
    if refused:
        return Refused(status_error(answer, found, model=model), _REPEATS.get(code))
    kind = "an envelope without a task id" if envelope is not None else "no readable envelope"
    return Uncertain(f"HTTP {answer.status} with {kind}", answer.body[:BODY_HEAD])


# --- polls -----------------------------------------------------------------------------------


class Over(NamedTuple):
    """The task has ended. `lasted` is what the service says it took, in seconds, or None.

    The other attributes are those of `Running`.
    """

    snapshot: Snapshot
    outcome: Result | TaskFailedError
    lasted: float | None = None
    created: float | None = None
    date_header: str | None = None

    @property
    def at(self) -> float | None:
        """When the service answered, by its own clock."""
        return parse_date(self.date_header)


class Running(NamedTuple):
    """The task has not ended.

    Attributes:
        snapshot: What the service said.
        created: The task's creation in seconds since the Unix epoch, or None.
        date_header: The answer's `Date` header, or None; only `at` parses it.
    """

    snapshot: Snapshot
    created: float | None
    date_header: str | None = None

    @property
    def at(self) -> float | None:
        """When the service answered, by its own clock, in seconds since the Unix epoch."""
        return parse_date(self.date_header)


class Faulty(NamedTuple):
    """The answer says nothing of the task, which counts as running and is polled again later."""

    error: errors.ApixoError


class Throttled(NamedTuple):
    """A 429: the poll says nothing of the task, and is no failure of the service."""

    error: errors.ApixoError


class Missing(NamedTuple):
    """An envelope of the API says that it does not know the task, or not under this model."""

    error: errors.APIStatusError


class Denied(NamedTuple):
    """An envelope of the API says that the key may not poll."""

    error: errors.APIStatusError


PollVerdict: TypeAlias = Over | Running | Faulty | Throttled | Missing | Denied

#: The service may answer 400 or 422 to an id that is malformed, which is as missing as another.
_POLL_ROWS: Final[Mapping[int, type[Missing | Denied | Throttled]]] = {
    400: Missing,
    404: Missing,
    410: Missing,
    422: Missing,
    401: Denied,
    403: Denied,
    429: Throttled,
}


def judge_poll(answer: Answer, ref: TaskRef) -> PollVerdict:
    """Return what the answer to a poll says of the task (invariant 5)."""
    found = read_object(answer.body, cut=answer.cut)
    envelope = as_envelope(found)
    code = decisive_code(answer, envelope)
    if answer.cut and code != 429:
        return Faulty(_unreadable(answer, ref, f"and {_TOO_LONG}"))
    if code >= 400:
        error = status_error(answer, found, model=ref.model, task_id=ref.task_id)
        # No credit, even as a 400, says nothing of a task that was paid for. Nor does the page of a
        # gateway that does not reach the service for a moment. And where an envelope has the state
        # of the task, an HTTP status that contradicts it says nothing.
        knows_it = error.code == 200 and envelope is not None and read_status(envelope) is not None
        says_nothing = isinstance(error, errors.InsufficientBalanceError) or (
            (error.code is None or knows_it) and code != 429
        )
        return Faulty(error) if says_nothing else _POLL_ROWS.get(code, Faulty)(error)
    status = read_status(envelope) if envelope is not None and 200 <= answer.status < 300 else None
    if status is None or envelope is None or envelope.code != 200:
        return Faulty(_unreadable(answer, ref, "without a readable status"))
    return _judge_state(status, envelope, ref, answer.date_header)


def _unreadable(answer: Answer, ref: TaskRef, what: str) -> errors.APIConnectionError:
    return errors.APIConnectionError(
        f"{ref}: HTTP {answer.status} {what}; a later poll may answer",
        model=ref.model,
        task_id=ref.task_id,
    )


def _judge_state(
    status: Status, envelope: Envelope, ref: TaskRef, date: str | None
) -> Over | Running:
    state, created = str(status.state), created_epoch(status)
    outcome: Result | TaskFailedError | None = None
    word = state.strip().lower()
    if word == SUCCESS:
        outcome = read_result(status, ref)
    elif word == FAILED:
        outcome = _failure(status, ref)
    snapshot = snapshot_of(ref, printable(state[:_MOST_CODE]), envelope.data, outcome)
    if outcome is None:
        return Running(snapshot, created, date)
    return Over(snapshot, outcome, lasted(status), created, date)


def snapshot_of(
    ref: TaskRef,
    state: str,
    raw: Mapping[str, object],
    outcome: Result | errors.TaskError | None,
) -> Snapshot:
    """Return what a poll found, with the end of the task if it has ended."""
    if isinstance(outcome, TaskFailedError):
        said = outcome.fail_code, outcome.fail_msg
        return Snapshot(ref.task_id, ref.model, state, raw, None, *said)
    result = outcome if isinstance(outcome, Result) else None
    return Snapshot(ref.task_id, ref.model, state, raw, result)


def _failure(status: Status, ref: TaskRef) -> TaskFailedError:
    family = family_of(status.failCode)
    hint = "as a new task it may succeed" if family.retryable else "the same input will fail again"
    if family.name == "unknown":
        hint = "the code is not a known one"
    elif family.name == "balance":
        hint = "add balance, then try again"
    fail_code = None if status.failCode is None else one_line(status.failCode, _MOST_CODE)
    fail_msg = None if status.failMsg is None else one_line(status.failMsg, MOST_WORDS)
    said = f": {fail_msg}" if fail_msg else ""
    return TaskFailedError(
        f"{ref} failed with {fail_code or 'no code'}{said} ({family.name}; {hint})",
        ref=ref,
        fail_code=fail_code,
        fail_msg=fail_msg,
        family=family.name,
        retryable=family.retryable,
    )
