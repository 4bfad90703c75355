"""The errors that name what was submitted, one task, or its files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Self

from apixo_async._core.errors import ApixoError
from apixo_async._core.values import POLLED, Delivery, TaskHandle, TaskInput, TaskRef


class SubmitUncertainError(ApixoError):
    """A submit was sent and its answer did not come, or could not be read.

    The task may exist and be charged: this package never sends such a submit again by itself.
    Look at your account; `client.resubmit(error)` buys anew.

    Attributes:
        input: What was submitted.
        sent_at: When, in UTC.
        body_head: The beginning of an unreadable answer, or None where no answer came.
        delivery: The options of the submit, for `client.resubmit`.
        task: With webhooks, the task that a callback may still name: await it, to learn what was
            made or that nothing was. Until then its id is made up. None without, and in copies
            that were pickled.
    """

    task: TaskHandle | None = None

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
        # A task belongs to its loop: it is neither pickled nor copied deeply.
        *rebuild, _ = super().__reduce__()
        return *rebuild, {name: value for name, value in vars(self).items() if name != "task"}

    def __copy__(self) -> Self:
        twin = type(self).__new__(type(self), *self.args)
        twin.__dict__.update(self.__dict__)
        return twin


class TaskError(ApixoError):
    """Something befell one task."""

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
        family: What the code is about: "content", "prompt", "image", "balance", "throttled",
            "timeout", "upstream", "generation" or "unknown".
        retryable: Whether the same input may succeed as a new task, which is a new purchase.
    """

    task_over = True

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


class PresumedNotBoughtError(TaskError):
    """No callback told of the task of an uncertain submit in the time in which one would have.

    `bought` is False; it is None where no callback of any task came in that time, so that none may
    have got through.
    """

    bought: bool | None = False  # type: ignore[assignment]


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
