"""Who notes a submit: called before its POST is sent, and when its outcome is known."""

from __future__ import annotations

from typing import Protocol


class SubmitObserver(Protocol):
    """Where a submit is noted. Only `intend` and `claimed` are awaited: they have to be durable."""

    @property
    def kept(self) -> bool:
        """Whether what is noted outlives the process."""
        ...

    async def intend(self, intent_id: str | None) -> None:
        """Note that a POST is about to be sent; an exception prevents it.

        Args:
            intent_id: The id in the URL of its callbacks, or None without webhooks.
        """
        ...

    def refused(self) -> None:
        """Note that nothing was bought."""
        ...

    def bought(self, task_id: str) -> None:
        """Note the task that was made: by the answer, or later by a callback."""
        ...

    def uncertain(self, reason: str) -> None:
        """Note that a task may or may not have been made."""
        ...

    async def claimed(self, intent_id: str, task_id: str | None) -> bool:
        """Note the task that a callback names, durably: the service sends no other callback then.

        Args:
            intent_id: The id of the POST, as in `intend`.
            task_id: The task that the callback names, or None.

        Returns:
            Whether that may be the task of this submit, as far as is known here.
        """
        ...
