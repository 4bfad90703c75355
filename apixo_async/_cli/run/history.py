"""What the journal of a run knows before it goes on: which rows are bought, and what was spent."""

from __future__ import annotations

import warnings
from collections import Counter
from contextlib import aclosing
from decimal import Decimal
from typing import NamedTuple

from apixo_async import ConfigurationError, JournalWarning
from apixo_async._cli.console import Screen
from apixo_async._cli.rows.row import Row
from apixo_async._cli.run.order import Order
from apixo_async._core.keys import identity, key_of
from apixo_async._core.purchases import is_worth_another
from apixo_async._journal.entry import Entry
from apixo_async._journal.journal import Journal


class Known(NamedTuple):
    """One item of the journal: the hash of what it is, and whether it is bought."""

    what: int
    is_bought: bool


class History:
    """The items of a journal by their keys, and the lines that the rows of this run have.

    Args:
        order: The run.

    Attributes:
        spent: USD of all purchases before this run.
        lines: Where each row begins, by its key in the journal.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._known: dict[str, Known] = {}
        self._occurred: Counter[str] = Counter()
        self.spent = Decimal(0)
        self.lines: dict[str, int] = {}

    def add(self, entry: Entry) -> None:
        """Take in an item of the journal."""
        what = hash((entry.model, entry.provider, entry.payload))
        self._known[entry.key] = Known(what, self._needs_nothing(entry))
        self.spent += entry.cost

    def _needs_nothing(self, entry: Entry) -> bool:
        if entry.state == "uncertain":
            return not self._order.resubmit_uncertain
        if entry.state == "failed" and entry.error is not None:
            return not is_worth_another(entry.error, entry.purchases, self._order.attempts)
        return entry.state in ("submitted", "success", "failed")

    def is_bought(self, row: Row) -> bool:
        """Say whether a row needs no purchase; ask once for each row, in their order.

        Raises:
            ConfigurationError: Its key belongs to another input.
        """
        wanted = identity(row.input, self._order.provider)
        key = row.key
        if key is None:
            self._occurred[wanted.digest] += 1
            key = key_of(wanted.digest, self._occurred[wanted.digest])
        self.lines[key] = row.line
        known = self._known.get(key)
        if known is None:
            return False
        if known.what != hash((wanted.model, wanted.provider, wanted.payload)):
            raise ConfigurationError(
                f"key: {key!r:.60} is the key of another input in {self._order.journal}; give a"
                " changed row a new key, or begin with another --out"
            )
        return known.is_bought


async def read_history(order: Order, screen: Screen) -> History:
    """Read the journal of a run, and let go of it; one that is missing is made.

    Raises:
        JournalError: It cannot be used.
    """
    history = History(order)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", JournalWarning)
        journal = await Journal.open(order.journal)
    for warning in caught:
        screen.warning(str(warning.message))
    try:
        async with aclosing(journal.entries()) as entries:
            async for entry in entries:
                history.add(entry)
    finally:
        await journal.aclose()
    return history
