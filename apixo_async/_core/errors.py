"""Every error of this package, as one tree.

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
    ├── SubmitUncertainError           nobody can know whether a task was bought
    ├── TaskError
    │   ├── TaskFailedError            the service gave up on the task
    │   ├── TaskNotFoundError          the service does not know the task
    │   ├── WaitTimeoutError           the wait ended, the task goes on (a TimeoutError)
    │   └── TaskAbandonedError         older than its age limit
    └── DownloadError
        └── ResultExpiredError
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apixo_async._core.values import TaskRef
    from apixo_async.inputs import Input


def _rebuild(cls: type[ApixoError], args: tuple[object, ...]) -> ApixoError:
    return cls.__new__(cls, *args)


class ApixoError(Exception):
    """The base of every error that this package raises on purpose.

    Attributes:
        model: The model in question, or None.
        task_id: The task in question, or None.
        bought: On errors of a submit: False when no task was made, None when nobody can know.
    """

    bought: bool | None = None

    def __init__(
        self, message: str, *, model: str | None = None, task_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.model = model
        self.task_id = task_id

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments do not pickle by themselves.
        return _rebuild, (type(self), self.args), dict(self.__dict__)


class ConfigurationError(ApixoError, ValueError):
    """A setting is wrong, or the client is used where it cannot work; nothing was sent."""

    bought = False


class ClientClosedError(ApixoError):
    """The client was closed. Make a new one, and `attach` to what this one left unfinished."""

    bought = False


class PollerDiedError(ApixoError):
    """A defect ended the poller; the cause is attached. Paid tasks can still be attached."""

    bought = False


class APIConnectionError(ApixoError):
    """No usable answer came: the connection failed, or what came was not the API's envelope."""

    bought = False


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

    bought = False

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


class SubmitUncertainError(ApixoError):
    """A submit was sent and its answer did not come, or could not be read.

    The task may exist and be charged: this package never sends such a submit again by itself.
    Look at your account; `client.resubmit(error)` buys anew.

    Attributes:
        input: What was submitted.
        sent_at: When, in UTC.
        body_head: The beginning of an unreadable answer, or None where no answer came.
    """

    def __init__(
        self,
        message: str,
        *,
        model: str,
        input: Input,
        sent_at: datetime,
        body_head: bytes | None = None,
        callback_url: str | None = None,
        provider: str | None = None,
    ) -> None:
        super().__init__(message, model=model)
        self.input = input
        self.sent_at = sent_at
        self.body_head = body_head
        self.callback_url = callback_url
        self.provider = provider


class TaskError(ApixoError):
    """Something befell one task.

    Attributes:
        ref: The `TaskRef` from which any process can attach to the task.
    """

    model: str
    task_id: str
    bought = True

    def __init__(self, message: str, *, ref: TaskRef) -> None:
        super().__init__(message, model=ref.model, task_id=ref.task_id)
        self.ref = ref


class TaskFailedError(TaskError):
    """The service gave up on the task.

    Attributes:
        fail_code: The service's code as it came, or None.
        fail_msg: The service's words, or None.
        family: What the code is about: "content", "prompt", "image", "balance", "throttled",
            "timeout", "upstream", "generation" or "unknown".
        retryable: Whether the same input may succeed as a new task, which is a new purchase.
    """

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


class WaitTimeoutError(TaskError, TimeoutError):
    """The wait was over before the task was; the task goes on and can be awaited again."""


class TaskAbandonedError(TaskError):
    """The task was not over at its age limit; nobody looks at it any more. Attach to look."""


class DownloadError(ApixoError):
    """A result could not be saved.

    Attributes:
        saved: The files that are complete and stay.
    """

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
