"""Every error of this package, as one tree; those that name a task are in `task_errors`.

ApixoError
├── ConfigurationError             a wrong setting; nothing was sent
├── ClientClosedError              the client was closed
├── PollerDiedError                a defect ended the poller; the cause is attached
├── APIConnectionError             no usable answer
│   └── APITimeoutError            (a TimeoutError)
├── APIStatusError                 the service answered with an error
│   ├── BadRequestError            400, 422
│   ├── AuthenticationError        401
│   ├── InsufficientBalanceError   402, and the 400 that says so
│   ├── PermissionDeniedError      403
│   ├── NotFoundError              404
│   ├── RateLimitError             429
│   └── InternalServerError        5xx
├── JournalError                   the journal of a bulk run cannot be used
├── BudgetExceededError            the next purchase would cost more than max_cost
├── SubmitUncertainError           nobody can know whether a task was bought
├── TaskError
│   ├── TaskFailedError            the service gave up on the task
│   ├── TaskNotFoundError          the service does not know the task
│   ├── WaitTimeoutError           the wait ended, the task goes on (a TimeoutError)
│   ├── TaskAbandonedError         older than its age limit
│   └── PresumedNotBoughtError     no callback told of an uncertain submit
├── CallbackError                  a callback to answer with 400 or 404 (in `webhooks`)
└── DownloadError
    └── ResultExpiredError
"""

from __future__ import annotations

from decimal import Decimal

from apixo_async._core.refs import TaskRef
from apixo_async._core.text import printable


def _rebuild(cls: type[ApixoError], args: tuple[object, ...]) -> ApixoError:
    error = cls.__new__(cls, *args)
    # An OSError, as a TimeoutError is one, leaves this to its __init__.
    error.args = args
    return error


class ApixoError(Exception):
    """The base of every error that this package raises on purpose.

    Attributes:
        model: The model in question, or None.
        task_id: The task in question, or None.
        bought: On errors of a submit: False when no task was made, None when nobody can know. On
            errors of one task True; on all others None.
        task_over: Whether the service said that the task failed. Whatever else is raised to those
            who wait, the task may go on and was paid for: keep `ref`, and attach to it.
    """

    bought: bool | None = None
    task_over: bool = False

    def __init__(
        self, message: str, *, model: str | None = None, task_id: str | None = None
    ) -> None:
        # It may quote the service, an address or a file name.
        super().__init__(printable(message))
        self.model = model
        self.task_id = task_id

    @property
    def ref(self) -> TaskRef | None:
        """The reference from which any process can attach to the task in question, or None."""
        return TaskRef(self.model, self.task_id) if self.model and self.task_id else None

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments do not pickle by themselves.
        return _rebuild, (type(self), self.args), dict(self.__dict__)


class ConfigurationError(ApixoError, ValueError):
    """A setting is wrong, or the client is used where it cannot work; nothing was sent."""

    bought = False


class ClientClosedError(ApixoError):
    """The client was closed. Make a new one, and `attach` to what this one left unfinished."""


class PollerDiedError(ApixoError):
    """A defect ended the poller; the cause is attached. Paid tasks can still be attached."""


class JournalError(ApixoError):
    """The journal of a bulk run cannot be read or written; what it holds stays as it is.

    The message names the file and says what to do. `bought` is False where nothing was sent for
    this reason.
    """


class BudgetExceededError(ApixoError):
    """The next purchase of a bulk run would cost more than it may; it was not made.

    Attributes:
        max_cost: USD that all purchases may cost.
        spent: USD of those that were made, or may have been.
        price: USD of the next one.
    """

    bought = False

    def __init__(
        self,
        message: str,
        *,
        max_cost: Decimal,
        spent: Decimal,
        price: Decimal,
        model: str | None = None,
        task_id: str | None = None,
    ) -> None:
        super().__init__(message, model=model, task_id=task_id)
        self.max_cost = max_cost
        self.spent = spent
        self.price = price


class JournalWarning(UserWarning):
    """The journal of a bulk run lies where writes or locks may be lost, as on a network share."""


class APIConnectionError(ApixoError):
    """No usable answer came: the connection failed, or what came was not the API's envelope."""


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
    """The request is malformed or a parameter is not allowed; repeating it cannot help."""


class AuthenticationError(APIStatusError):
    """The API key is missing or wrong."""


class InsufficientBalanceError(APIStatusError):
    """The key has no balance or quota left for this task."""


class PermissionDeniedError(APIStatusError):
    """The key or the route may not use this model."""


class NotFoundError(APIStatusError):
    """The service knows no such model or task."""


class RateLimitError(APIStatusError):
    """The service refused for its limits, for longer than the client waits by itself."""


class InternalServerError(APIStatusError):
    """The service failed, or says that it is unavailable."""


def reason_of(error: ApixoError) -> str:
    """Return an error in words for events and the log.

    The service's own words are left out: they may repeat a prompt.
    """
    if not isinstance(error, APIStatusError):
        return str(error)
    code = "" if error.code in (None, error.status) else f" with code {error.code}"
    return f"HTTP {error.status}{code} ({type(error).__name__})"


def retry_after_of(error: ApixoError) -> float | None:
    """Return the seconds that the service asked to wait with this error, or None."""
    return error.retry_after if isinstance(error, APIStatusError) else None
