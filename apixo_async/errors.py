"""Every error of this package, as one tree.

    ApixoError
    ├── ConfigurationError             a wrong setting; nothing was sent
    ├── ClientClosedError              the client was closed
    ├── PollerDiedError                a defect ended the poller; the cause is attached
    ├── APIConnectionError             no usable answer
    │   └── APITimeoutError            no answer in time (a TimeoutError)
    ├── APIStatusError                 the service answered with an error
    │   ├── BadRequestError            400, 422
    │   ├── AuthenticationError        401
    │   ├── InsufficientBalanceError   402, and the 400 that says so
    │   ├── PermissionDeniedError      403
    │   ├── NotFoundError              404
    │   ├── RateLimitError             429
    │   └── InternalServerError        5xx
    ├── JournalError                   the journal of a bulk run cannot be used
    ├── StoreError                     what processes keep together cannot be used
    ├── KeyConflictError               the key stands for another input; nothing was bought
    ├── BudgetExceededError            the next purchase would exceed a budget or max_cost
    ├── SubmitUncertainError           it cannot be known whether a task was bought
    ├── TaskError                      about one task, which was bought
    │   ├── TaskFailedError            the service gave up on the task
    │   ├── TaskNotFoundError          the service does not know the task
    │   ├── WaitTimeoutError           the wait ended, the task goes on (a TimeoutError)
    │   ├── TaskAbandonedError         older than its age limit
    │   └── PresumedNotBoughtError     no callback named the task of an uncertain submit
    ├── CallbackError                  a callback to answer with 400 or 404
    └── DownloadError                  a result could not be saved
        └── ResultExpiredError         it is no longer stored

Each says what became of the money (`bought`) and of the task (`task_over`), and what it is about
(`category`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import ClassVar, Final, Literal, Self, TypeAlias, cast, get_args

from apixo_async._text import printable
from apixo_async._types import POLLED, Delivery, TaskHandle, TaskInput, TaskRef

#: What a task failed for: the families of the service's fail codes.
FailureCategory: TypeAlias = Literal[
    "content",
    "prompt",
    "image",
    "balance",
    "throttled",
    "timeout",
    "upstream",
    "generation",
    "unknown",
]

#: What an error is about. An error other than a `TaskFailedError` is about "balance" or "throttled"
#: where the service refused a request for that.
Category: TypeAlias = (
    FailureCategory
    | Literal[
        "auth",
        "budget",
        "callback",
        "closed",
        "configuration",
        "connection",
        "download",
        "missing",
        "other",
        "refused",
        "service",
        "storage",
        "uncertain",
        "unfinished",
    ]
)

FAILURE_CATEGORIES: Final[tuple[FailureCategory, ...]] = get_args(FailureCategory)


def _rebuild(cls: type[ApixoError], args: tuple[object, ...]) -> ApixoError:
    error = cls.__new__(cls, *args)
    # `__new__` of an OSError, and so of a TimeoutError, leaves `args` to `__init__`.
    error.args = args
    return error


class ApixoError(Exception):
    """The base of every error that this package raises on purpose.

    Attributes:
        model: The model in question, or None.
        task_id: The task in question, or None.
        tag: The `tag` of the submit that it is about, or None.
        bought: On errors of a submit: False if no task was made, None if it cannot be known. On
            errors of one task True; on all others None.
        task_over: Whether the service said that the task failed. After any other error of a wait
            the task may go on, and it was paid for: keep `ref`, and attach to it.
    """

    tag: str | None = None
    bought: bool | None = None
    task_over: bool = False
    _category: ClassVar[Category] = "other"

    def __init__(
        self, message: str, *, model: str | None = None, task_id: str | None = None
    ) -> None:
        # The message may quote the service, an address or a file name, and is printed in terminals.
        super().__init__(printable(message))
        self.model = model
        self.task_id = task_id

    @property
    def category(self) -> Category:
        """What it is about, in one word; see `Category`."""
        return self._category

    @property
    def ref(self) -> TaskRef | None:
        """The reference with which any process can attach to the task in question, or None."""
        return TaskRef(self.model, self.task_id) if self.model and self.task_id else None

    def __reduce__(self) -> tuple[object, ...]:
        # By itself, an exception is unpickled from its positional arguments alone.
        return _rebuild, (type(self), self.args), dict(self.__dict__)


class ConfigurationError(ApixoError, ValueError):
    """A setting is wrong, or the client is used where it cannot work; nothing was sent."""

    _category = "configuration"
    bought = False


class ClientClosedError(ApixoError):
    """The client was closed. Make a new one, and `attach` to what this one left unfinished."""

    _category = "closed"


class PollerDiedError(ApixoError):
    """A defect ended the poller; the cause is attached. Paid tasks can still be attached."""


class JournalError(ApixoError):
    """The journal of a bulk run cannot be read or written; its content stays as it is.

    The message names the file and says what to do. `bought` is False if nothing was sent for this
    reason.
    """

    _category = "storage"


class StoreError(ApixoError):
    """What processes keep together cannot be read or written; its content stays as it is.

    The message names the store, without passwords, and says what to do. `bought` is False if
    nothing was sent for this reason.
    """

    _category = "storage"


class KeyConflictError(ApixoError, ValueError):
    """The key of a submit stands for another input, model or route; nothing was bought.

    Attributes:
        key: The key.
    """

    _category = "configuration"
    bought = False

    def __init__(
        self, message: str, *, key: str = "", model: str | None = None, task_id: str | None = None
    ) -> None:
        super().__init__(message, model=model, task_id=task_id)
        self.key = key


class BudgetExceededError(ApixoError):
    """The next purchase would exceed a `Budget`, or the `max_cost` of a map; it was not made.

    Attributes:
        max_cost: USD that all purchases together may cost.
        spent: USD of those that were made, of those under way and of uncertain ones.
        price: USD of the next one.
        left: USD that may still be spent, less than `price`.
        renews_at: When the budget renews (aware UTC), or None if it does not.
    """

    _category = "budget"
    bought = False

    def __init__(
        self,
        message: str,
        *,
        max_cost: Decimal,
        spent: Decimal,
        price: Decimal,
        renews_at: datetime | None = None,
        model: str | None = None,
        task_id: str | None = None,
    ) -> None:
        super().__init__(message, model=model, task_id=task_id)
        self.max_cost = max_cost
        self.spent = spent
        self.price = price
        self.renews_at = renews_at

    @property
    def left(self) -> Decimal:
        """USD that may still be spent, less than `price`."""
        return self.max_cost - self.spent


class JournalWarning(UserWarning):
    """The journal of a bulk run is on a file system that may lose writes or locks: a network share.

    Its inputs could be bought twice. Put it on a local disk.
    """


class APIConnectionError(ApixoError):
    """No usable answer came: the connection failed, or what came was not the API's envelope."""

    _category = "connection"


class APITimeoutError(APIConnectionError, TimeoutError):
    """No answer came in time."""


class APIStatusError(ApixoError):
    """The service answered with an error.

    Attributes:
        status: The HTTP status.
        code: The envelope's `code`, or None where there was no envelope.
        message: The service's own words.
        retry_after: Seconds that the service asked to wait, or None.
    """

    _category: ClassVar[Category] = "refused"

    def __init__(
        self,
        text: str,
        *,
        status: int,
        code: int | None = None,
        message: str = "",
        retry_after: float | None = None,
        model: str | None = None,
        task_id: str | None = None,
    ) -> None:
        super().__init__(text, model=model, task_id=task_id)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after


class BadRequestError(APIStatusError):
    """The request is malformed or a parameter is not allowed; a repeat would meet the same."""


class AuthenticationError(APIStatusError):
    """The API key is missing or wrong."""

    _category = "auth"


class InsufficientBalanceError(APIStatusError):
    """The key has no balance or quota left for this task."""

    _category = "balance"


class PermissionDeniedError(APIStatusError):
    """The key or the route may not use this model."""


class NotFoundError(APIStatusError):
    """The service knows no such model or task."""


class RateLimitError(APIStatusError):
    """The service answered 429 for longer than `Timeouts.throttled` (invariant 4)."""

    _category = "throttled"


class InternalServerError(APIStatusError):
    """The service failed, or says that it is unavailable."""

    _category = "service"


def reason_of(error: ApixoError) -> str:
    """Return the text of an error for events and the log.

    The service's own words are left out: they may repeat a prompt.
    """
    if not isinstance(error, APIStatusError):
        return str(error)
    code = "" if error.code in (None, error.status) else f" with code {error.code}"
    return f"HTTP {error.status}{code} ({type(error).__name__})"


def retry_after_of(error: ApixoError) -> float | None:
    """Return the seconds that the service asked to wait with this error, or None."""
    return error.retry_after if isinstance(error, APIStatusError) else None


class SubmitUncertainError(ApixoError):
    """A submit was sent, and its answer did not come or could not be read (invariant 1).

    The task may exist and be charged, so this package never sends such a submit again by itself.
    Look at your account; `client.resubmit(error)` buys anew.

    Attributes:
        input: What was submitted.
        sent_at: When it was sent, in UTC.
        body_head: The beginning of an unreadable answer, or None where no answer came.
        delivery: The options of the submit, for `client.resubmit`.
        task: With webhooks, the task that a callback may still name: await it to get the result, or
            a `PresumedNotBoughtError`. Until a callback came its id is a placeholder. None without
            webhooks, and in copies that were pickled.
        key: With a store, the key of the submit, for `client.resolve`; None without.
        attempt: With a store, the POST in question, so that the word on it counts once.
    """

    _category = "uncertain"

    task: TaskHandle | None = None
    key: str | None = None
    attempt: str | None = None

    def __init__(
        self,
        message: str,
        *,
        model: str,
        input: TaskInput,
        sent_at: datetime,
        body_head: bytes | None = None,
        delivery: Delivery = POLLED,
    ) -> None:
        super().__init__(message, model=model)
        self.input = input
        self.sent_at = sent_at
        self.body_head = body_head
        self.delivery = delivery

    def __reduce__(self) -> tuple[object, ...]:
        # A task belongs to its event loop: it is neither pickled nor deeply copied.
        *rebuild, _ = super().__reduce__()
        return *rebuild, {name: value for name, value in vars(self).items() if name != "task"}

    def __copy__(self) -> Self:
        # `copy` would go through `__reduce__`: each waiter gets a copy, and needs its task.
        twin = type(self).__new__(type(self), *self.args)
        twin.__dict__.update(self.__dict__)
        return twin


class TaskError(ApixoError):
    """An error about one task."""

    _category: ClassVar[Category] = "unfinished"

    model: str
    task_id: str
    bought = True

    def __init__(self, message: str, *, ref: TaskRef) -> None:
        super().__init__(message, model=ref.model, task_id=ref.task_id)

    @property
    def ref(self) -> TaskRef:
        """The reference from which any process can attach to the task."""
        return TaskRef(self.model, self.task_id)


class TaskFailedError(TaskError):
    """The service gave up on the task: the one error with `task_over`.

    Attributes:
        fail_code: The service's code, or None: one line of at most 100 characters.
        fail_msg: The service's words, or None: one line of at most 500 characters.
        family: As `category`; of an error from a journal that a later version wrote, maybe another
            word.
        retryable: Whether the same input may succeed as a new task, which is a new purchase.
    """

    task_over = True

    @property
    def category(self) -> Category:
        """The family, or "unknown" for one that this version does not know."""
        known = self.family in FAILURE_CATEGORIES
        return cast("FailureCategory", self.family) if known else "unknown"

    def __init__(
        self,
        message: str,
        *,
        ref: TaskRef,
        fail_code: str | None,
        fail_msg: str | None,
        family: str,
        retryable: bool,
    ) -> None:
        super().__init__(message, ref=ref)
        self.fail_code = fail_code
        self.fail_msg = fail_msg
        self.family = family
        self.retryable = retryable


class TaskNotFoundError(TaskError):
    """The service answered 404 for the task, again and again: a wrong id, model or key."""

    _category = "missing"


class WaitTimeoutError(TaskError, TimeoutError):
    """The wait ended before the task did; the task goes on and can be awaited again."""


class TaskAbandonedError(TaskError):
    """The task was not over at its age limit: 30 min for images, 2 h for all else.

    It is not polled any more; `attach` polls it again.
    """


class PresumedNotBoughtError(TaskError):
    """No callback named the task of an uncertain submit until the service would have sent the last.

    `bought` is False; it is None if this callback may have been lost, such as when callbacks of
    other tasks were missing, too. The message says which.
    """

    _category = "uncertain"

    bought: bool | None = False  # type: ignore[assignment]  # the one that bought nothing


class DownloadError(ApixoError):
    """A result could not be saved, read or streamed.

    Attributes:
        saved: The files that are complete and stay.
    """

    _category = "download"

    def __init__(
        self,
        message: str,
        *,
        model: str | None = None,
        task_id: str | None = None,
        saved: Sequence[Path] = (),
    ) -> None:
        super().__init__(message, model=model, task_id=task_id)
        self.saved = tuple(saved)


class ResultExpiredError(DownloadError):
    """The result is no longer stored: 15 days after its creation, by the documents."""


_WORDS: Final = {
    404: "the token of the callback is wrong, stale or signed with another secret: answer 404",
    400: "the body of the callback names no task: answer 400",
}


class CallbackError(ApixoError, ValueError):
    """A callback to ignore: its token or its body is wrong.

    Attributes:
        status: The HTTP status to answer it with: 404 or 400.
    """

    _category = "callback"

    def __init__(self, status: int) -> None:
        super().__init__(_WORDS[status])
        self.status = status
