"""What became of one input of a map."""

from __future__ import annotations

from dataclasses import dataclass

from apixo_async._core.errors import ApixoError
from apixo_async._core.values import Result
from apixo_async._task import Task
from apixo_async.inputs import Input


@dataclass(frozen=True, slots=True, repr=False)
class Outcome:
    """What became of one input: a result, or an error.

    Attributes:
        key: The caller's, or the input's place among those read, counted from "0".
        input: What was to be made; None where what was given is no input.
        task: The last task that was bought for it, or None.
        result: What the task made, or None.
        error: Why there is no result, or None. Its `bought` says False when no task was made, and
            None when nobody can know, as in a `SubmitUncertainError`.
        purchases: Tasks bought for it, each of which the service may have charged.
    """

    key: str
    input: Input | None
    task: Task | None
    result: Result | None
    error: ApixoError | None
    purchases: int

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.result is not None

    def __repr__(self) -> str:
        about = "" if self.task is None else f" {self.task.ref}"
        ended = "success" if self.error is None else type(self.error).__name__
        return f"<Outcome {self.key!r}{about} {ended}>"
