"""What a map keeps: its money always, and every item where there is a journal."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from apixo_async._budget import Budget, Reservation
from apixo_async._map.items import Item
from apixo_async._map.options import Options
from apixo_async._types import Charges, Result
from apixo_async.errors import (
    ApixoError,
    ConfigurationError,
    JournalError,
    SubmitUncertainError,
    TaskError,
    TaskFailedError,
)

if TYPE_CHECKING:
    from apixo_async.journal._entry import Entry
    from apixo_async.journal._journal import Journal


class PurchaseRecord:
    """Note one purchase, and its repeats where nothing was bought.

    A journal that fails after the POST changes nothing of what was bought: it reports that to the
    map, which stops.

    Args:
        budget: Counts the money.
        doubts: Counts the uncertain submits, by price.
        model: What is bought.
        price: USD, or None where it is not known.
        journal: Where the item is, or None.
        entry: The item.
    """

    __slots__ = (
        "_budget",
        "_doubts",
        "_entry",
        "_is_bought",
        "_is_doubted",
        "_journal",
        "_model",
        "_price",
        "_reserved",
    )

    def __init__(
        self,
        budget: Budget,
        model: str,
        price: Decimal | None,
        doubts: Counter[Decimal | None],
        journal: Journal | None = None,
        entry: Entry | None = None,
    ) -> None:
        self._budget = budget
        self._model = model
        self._price = price
        self._doubts = doubts
        self._journal = journal
        self._entry = entry
        self._reserved: Reservation | None = None
        self._is_bought = self._is_doubted = False

    @property
    def kept(self) -> bool:
        """Whether there is a journal."""
        return self._journal is not None

    async def intend(self, intent_id: str | None) -> None:
        """Reserve the money and make the intent durable; what this raises prevents the POST."""
        self._reserved = self._budget.reserve(self._price, self._model)
        if self._journal is None or self._entry is None:
            return
        try:
            await self._journal.intend(self._entry, intent_id, self._price)
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
        self._doubt(-1)
        if self._journal is not None and self._entry is not None:
            with suppress(JournalError):
                self._journal.submitted(self._entry, task_id)
                self._is_bought = True

    def over(self, outcome: Result | TaskError) -> None:
        """Note nothing: the map notes the end of an item itself."""

    async def written(self) -> None:
        """Wait for nothing: the map notes in turn, and stops where that fails."""

    def uncertain(self, reason: str, _: SubmitUncertainError, /) -> None:
        """Note that there may be a task."""
        self._doubt(1)
        if self._journal is not None and self._entry is not None:
            with suppress(JournalError):
                self._journal.uncertain(self._entry, reason)

    async def claimed(self, intent_id: str, task_id: str | None) -> bool:
        """Make durable what is known of the task, and what a callback claims of it.

        Raises:
            JournalError: It cannot be written; the callback has to come again.
        """
        if self._journal is None or self._entry is None:
            return False
        if self._is_bought and self._journal.is_closed:
            return False  # All that was known was written before it was closed.
        if task_id is not None and not self._is_bought:
            return await self._journal.claimed(self._entry, intent_id, task_id)
        await self._journal.flush()
        return False

    def _doubt(self, change: int) -> None:
        if self._is_doubted is not (change > 0):
            self._is_doubted = not self._is_doubted
            self._doubts[self._price] += change

    def _give_back(self) -> None:
        if self._reserved is not None:
            self._reserved.give_back()


class MapStore:
    """What a map keeps beyond the outcomes: its money, and its items where there is a journal.

    The map decides when it is opened and closed.

    Args:
        options: Those of the map.
        fail: Called, once, with what makes the journal unusable.
    """

    def __init__(self, options: Options, fail: Callable[[ApixoError], None]) -> None:
        self._path = options.journal
        self._provider = options.delivery.provider
        self._fail = fail
        self._journal: Journal | None = None
        self._closing: asyncio.Future[None] | None = None
        self._has_raised = False
        self._closing_later: asyncio.Task[None] | None = None
        self.budget = options.budget
        self._prices = options.prices
        self.doubts: Counter[Decimal | None] = Counter()

    @property
    def has_journal(self) -> bool:
        """Whether items are journalled."""
        return self._path is not None

    async def open(self) -> list[Entry]:
        """Open the journal, if there is to be one, and count what earlier runs spent.

        Returns:
            The items whose task was not over when they ended, or may exist.

        Raises:
            JournalError: It cannot be used; nothing was bought.
        """
        if self._path is None:
            return []
        # Late: most programs have no journal, and SQLite takes time to import.
        from apixo_async.journal._journal import Journal

        self._journal = await Journal.open(self._path, on_broken=self._fail)
        self.budget.carry(*await self._journal.spent())
        return await self._journal.pending()

    async def enter(self, item: Item) -> Entry:
        """Look an item up in the journal, and note it there.

        Raises:
            JournalError: Its key is another's, or the journal cannot be used.
        """
        assert self._journal is not None  # It was opened first.
        assert item.input is not None  # Otherwise it was refused.
        return await self._journal.enter(item.given_key, item.input, self._provider)

    def record(self, item: Item) -> PurchaseRecord:
        """Return where the next purchase for an item is noted.

        Raises:
            ConfigurationError: Its price is not known, and `max_cost` is set.
        """
        assert item.input is not None  # Otherwise it was refused.
        price = self.budget.price_of(item.input, self._prices)
        return PurchaseRecord(
            self.budget, item.input.model, price, self.doubts, self._journal, item.entry
        )

    def record_of(self, entry: Entry) -> PurchaseRecord:
        """Return what notes what a callback tells of a purchase of an earlier run."""
        doubts = Counter[Decimal | None]()  # Those of this run only are counted.
        return PurchaseRecord(self.budget, entry.model, None, doubts, self._journal, entry)

    def note_balance(self, balance: Decimal | None) -> None:
        """Note what the account had before this run bought, where that is known."""
        if self._journal is not None and balance is not None:
            with suppress(JournalError):
                self._journal.note_balance(balance)

    async def charges(self, balance: Decimal | None, bought: int) -> Charges:
        """Return what a map that is over has bought: the journal's word, or else its own.

        Args:
            balance: USD before it began, for a map without a journal.
            bought: The tasks that it has bought for certain.

        Raises:
            ConfigurationError: There is both a journal and a balance, or neither.
            JournalError: The journal cannot be read.
        """
        if (self._path is None) is (balance is None):
            raise ConfigurationError(
                "reconcile: a map with a journal has asked for the balance before it bought; "
                "without one, give what `client.balance()` was then, as in reconcile(before)"
            )
        if self._path is not None:
            from apixo_async.journal import open_journal  # Late, as above.

            await self.aclose()
            async with open_journal(self._path) as journal:
                return await journal.charges()
        return Charges.of(
            balance,
            known=bought,
            cost=self.budget.spent,
            unpriced=self.budget.unpriced,
            uncertain=self.doubts,
        )

    def ended(self, entry: Entry | None, ended: Result | ApixoError) -> None:
        """Note how a task ended.

        One that is polled no more has not ended, nor has one that is past its age limit or was not
        found: the next run attaches to it.
        """
        if self._journal is None or entry is None:
            return
        with suppress(JournalError):  # `fail` has been called with it.
            if isinstance(ended, Result):
                self._journal.succeeded(entry, ended)
            elif isinstance(ended, TaskFailedError):
                self._journal.failed(entry, ended)

    def downloaded(self, entry: Entry | None, paths: Iterable[Path]) -> None:
        """Note where a result was saved."""
        if self._journal is not None and entry is not None:
            with suppress(JournalError):
                self._journal.downloaded(entry, paths)

    def close_after(self, posts_ended: Callable[[], Awaitable[None]]) -> None:
        """Close the journal in the background, once the POSTs under way have been noted."""

        async def close() -> None:
            await posts_ended()
            with suppress(JournalError):  # No caller is left to take it.
                await self._close()

        if self._closing_later is None and self._journal is not None:
            self._closing_later = asyncio.get_running_loop().create_task(close())

    def begin_to_close(self) -> asyncio.Future[None]:
        """Write what waits and close the file in the background; `aclose` awaits and judges it."""
        if self._closing is None:
            loop = asyncio.get_running_loop()
            closing = self._closing = loop.create_future()
            if self._journal is None:
                closing.set_result(None)
            else:
                self._journal.begin_to_close()  # The loop may end before the task's first step.
                self._closing = loop.create_task(self._journal.aclose())
                self._closing.add_done_callback(_is_seen)
        return self._closing

    async def aclose(self) -> None:
        """Write what waits, and close the file, also if the caller is cancelled meanwhile.

        Raises:
            JournalError: Not everything could be written; raised once.
        """
        if self._closing_later is not None:  # It waits for POSTs, whose answers are to be noted.
            await asyncio.wait([self._closing_later])
        await self._close()

    async def _close(self) -> None:
        if self._journal is None:
            return
        try:
            await asyncio.shield(self.begin_to_close())
        except JournalError:
            if not self._has_raised:
                self._has_raised = True
                raise


def _is_seen(closing: asyncio.Future[None]) -> None:
    """Retrieve an error, even if `aclose` is never awaited: `fail` was called with its cause."""
    if not closing.cancelled():
        closing.exception()
