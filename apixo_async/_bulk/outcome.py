"""What became of one input of a map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from apixo_async._core.errors import ApixoError
from apixo_async._core.values import Result
from apixo_async._task import Task
from apixo_async.inputs import Input


@dataclass(frozen=True, slots=True, repr=False)
class Outcome:
    """What became of one input: a result, or an error.

    Attributes:
        key: The caller's, or the input's place among those read, counted from "0"; with a journal,
            one that is made of the input and of how often it occurred.
        input: What was to be made; None where what was given is no input.
        task: The last task that was bought for it; None where there is none, and where its end
            comes from the journal.
        result: What the task made, or None.
        error: Why there is no result, or None. Its `bought` says False when no task was made, and
            None when nobody can know, as in a `SubmitUncertainError`.
            A `DownloadError` comes with the result that could not be saved.
        purchases: Tasks bought for it, each of which the service may have charged; earlier runs of
            the same journal count.
        paths: Where the result was saved, with `download_to`.
        resumed: Whether an earlier run of the same journal bought it, and this one nothing more.
    """

    key: str
    input: Input | None
    task: Task | None
    result: Result | None
    error: ApixoError | None
    purchases: int
    paths: tuple[Path, ...] = ()
    resumed: bool = False

    @property
    def ok(self) -> bool:
        """Whether there is a result, saved where it was to be saved."""
        return self.error is None

    def __repr__(self) -> str:
        about = "" if self.task is None else f" {self.task.ref}"
        ended = "success" if self.error is None else type(self.error).__name__
        return f"<Outcome {self.key!r}{about} {ended}>"
