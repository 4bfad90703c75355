"""One purchase as a map keeps it: its money, and its place in the journal."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING

from apixo_async._core.errors import JournalError
from apixo_async._core.spending import Spending

if TYPE_CHECKING:
    from apixo_async._journal.entry import Entry
    from apixo_async._journal.journal import Journal


class Record:
    """Note one purchase, and its repeats where nothing was bought.

    A journal that fails after the POST changes nothing of what was bought: the run hears of it
    from the journal, and stops.

    Args:
        spending: Counts the money.
        model: What is bought.
        price: USD, or None where nobody knows.
        journal: Where the item is, or None.
        entry: The item.
    """

    __slots__ = (
        "_entry",
        "_is_bought",
        "_is_reserved",
        "_journal",
        "_model",
        "_price",
        "_spending",
    )

    def __init__(
        self,
        spending: Spending,
        model: str,
        price: Decimal | None,
        journal: Journal | None = None,
        entry: Entry | None = None,
    ) -> None:
        self._spending = spending
        self._model = model
        self._price = price
        self._journal = journal
        self._entry = entry
        self._is_reserved = self._is_bought = False

    @property
    def kept(self) -> bool:
        """Whether there is a journal."""
        return self._journal is not None

    async def intend(self, mark: str | None) -> None:
        """Reserve the money and make the intent durable; what this raises prevents the POST."""
        self._spending.reserve(self._price, self._model)
        self._is_reserved = True
        if self._journal is None or self._entry is None:
            return
        try:
            await self._journal.intend(self._entry, mark, self._price)
        except BaseException:
            self._give_back()
            raise

    def refused(self) -> None:
        """Note that nothing was bought."""
        self._give_back()
        if self._journal is not None and self._entry is not None:
            with suppress(JournalError):
                self._journal.refused(self._entry)

    def bought(self, task_id: str) -> None:
        """Note the task."""
        if self._journal is not None and self._entry is not None:
            with suppress(JournalError):
                self._journal.submitted(self._entry, task_id)
                self._is_bought = True

    def uncertain(self, reason: str) -> None:
        """Note that there may be a task."""
        if self._journal is not None and self._entry is not None:
            with suppress(JournalError):
                self._journal.uncertain(self._entry, reason)

    async def claimed(self, mark: str, task_id: str | None) -> bool:
        """Make durable what is known of the task, and what a callback claims of it.

        Raises:
            JournalError: It cannot be written; the callback has to come again.
        """
        if self._journal is None or self._entry is None:
            return False
        if self._is_bought and self._journal.is_closed:
            return False  # All that was known was written before it was closed.
        if task_id is not None and not self._is_bought:
            return await self._journal.claimed(self._entry, mark, task_id)
        await self._journal.flush()
        return False

    def _give_back(self) -> None:
        if self._is_reserved:
            self._is_reserved = False
            self._spending.give_back(self._price)
