"""What somebody keeps of a submit: asked before its POST, told what came of it."""

from __future__ import annotations

from typing import Protocol


class SubmitObserver(Protocol):
    """Where a submit is noted. Only `intend` and `claimed` are waited for."""

    @property
    def kept(self) -> bool:
        """Whether what is noted outlives the process."""
        ...

    async def intend(self, mark: str | None) -> None:
        """Note that a POST is about to be sent; whatever this raises prevents it.

        Args:
            mark: What its callbacks are known by, with webhooks.
        """
        ...

    def refused(self) -> None:
        """Note that nothing was bought."""
        ...

    def bought(self, task_id: str) -> None:
        """Note the task that was made: by the answer, or later by a callback."""
        ...

    def uncertain(self, reason: str) -> None:
        """Note that nobody can know whether a task was made."""
        ...

    async def claimed(self, mark: str, task_id: str | None) -> bool:
        """Note the task that a callback names, durably: the service then sends no other.

        Args:
            mark: Of which POST, as `intend` was told.
            task_id: What it names, or None.

        Returns:
            Whether that may be the task of this submit, as far as is known here.
        """
        ...
