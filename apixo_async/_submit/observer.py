"""Who notes a submit: called before its POST is sent, and when its outcome is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from apixo_async._polling.tracked_task import TaskRecord
from apixo_async.errors import SubmitUncertainError

if TYPE_CHECKING:
    from apixo_async.stores._protocol import StoreEntry


class NoSlotError(Exception):
    """Other processes have taken every slot meanwhile; nothing was sent."""


class KeyTakenError(Exception):
    """The key of the submit has an entry meanwhile; nothing was sent.

    Attributes:
        entry: The entry.
    """

    def __init__(self, entry: StoreEntry) -> None:
        super().__init__(entry.purchase.key)
        self.entry = entry


class SubmitObserver(TaskRecord, Protocol):
    """Where a submit is noted. What is awaited has to be durable; the rest is so in the end."""

    @property
    def kept(self) -> bool:
        """Whether what is noted outlives the process."""
        ...

    async def intend(self, intent_id: str | None) -> None:
        """Note that a POST is about to be sent; an exception prevents it.

        Args:
            intent_id: The id in the URL of its callbacks, or None without webhooks.

        Raises:
            NoSlotError: There is no slot for it any more.
            KeyTakenError: Another submit of the key was first.
        """
        ...

    def refused(self) -> None:
        """Note that nothing was bought."""
        ...

    def uncertain(self, reason: str, error: SubmitUncertainError, /) -> None:
        """Note that a task may or may not have been made, and in the error where that is."""
        ...

    async def written(self) -> None:
        """Wait until what was noted is durable, in bounded time; raises nothing."""
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
