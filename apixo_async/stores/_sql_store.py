"""The store over a database of SQL: each method is one act."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Final

from apixo_async.errors import StoreError
from apixo_async.stores._batches import Batches, Database
from apixo_async.stores._protocol import (
    EndState,
    Intended,
    Purchase,
    SharedValue,
    State,
    StoreEntry,
)
from apixo_async.stores._sql import SEEN, VERSION, Act, Acts, Dialect, Done, Row

#: Seconds for which a count of the open tasks does: it is a hint.
COUNTED: Final = 1.0


class SqlStore:
    """See `Store`.

    Args:
        acts: What each method does.
        entries: Where entries are kept.
        limits: Where the value of the limits is kept: its exchanges wait for no commit.
    """

    def __init__(self, acts: Acts, entries: Batches, limits: Batches) -> None:
        self._acts = acts
        self._entries = entries
        self._limits = limits
        self._open_tasks = 0
        self._counted_at = self._seen_at = -math.inf

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        await self._limits.aclose()
        await self._entries.aclose()

    async def load(self) -> SharedValue:
        """See `LimitsStore.load`."""
        value = await self._limits.do(self._acts.load())
        is_lost = False
        if value.body is None or not 0 <= value.now - self._counted_at < COUNTED:
            # Where entries are, a commit may take long: exchanges wait for it once in a while.
            is_recent, self._open_tasks = await self._entries.do(self._acts.known())
            is_lost = value.body is None and is_recent
            self._counted_at = value.now
        return value._replace(is_lost=is_lost, open_tasks=self._open_tasks)

    async def save(self, body: bytes, version: int) -> bool:
        """See `LimitsStore.save`."""
        if not 0 <= self._counted_at - self._seen_at < SEEN:
            await self._entries.do(self._acts.seen())
            self._seen_at = self._counted_at
        return await self._limits.do(self._acts.save(body, version))

    async def intend(
        self,
        purchase: Purchase,
        attempt: str,
        owner: str,
        *,
        slots: int,
        hold: float,
        instead_of: str | None = None,
    ) -> Intended:
        """See `Store.intend`."""
        return await self._entries.do(
            self._acts.intend(purchase, attempt, owner, slots, hold, instead_of)
        )

    async def refused(self, attempt: str) -> None:
        """See `Store.refused`."""
        await self._entries.do(self._acts.refused(attempt))

    async def bought(
        self, purchase: Purchase, attempt: str, owner: str, task_id: str, *, hold: float
    ) -> StoreEntry:
        """See `Store.bought`."""
        return await self._entries.do(self._acts.bought(purchase, attempt, owner, task_id, hold))

    async def uncertain(self, attempt: str, *, hold: float) -> None:
        """See `Store.uncertain`."""
        await self._entries.do(self._acts.uncertain(attempt, hold))

    async def over(self, attempt: str, state: EndState, outcome: str | None) -> None:
        """See `Store.over`."""
        await self._entries.do(self._acts.over(attempt, state, outcome))

    async def resolve(
        self, key: str, attempt: str, *, task_id: str | None, owner: str | None, hold: float
    ) -> bool:
        """See `Store.resolve`."""
        return await self._entries.do(self._acts.resolve(key, attempt, task_id, owner, hold))

    async def find(self, key: str) -> StoreEntry | None:
        """See `Store.find`."""
        return await self._entries.do(self._acts.find(key))

    async def named(self, task_id: str) -> StoreEntry | None:
        """See `Store.named`."""
        return await self._entries.do(self._acts.named(task_id))

    async def take_over(
        self, owner: str, living: Collection[str], *, most: int
    ) -> Sequence[StoreEntry]:
        """See `Store.take_over`."""
        return await self._entries.do(self._acts.take_over(owner, living, most))

    async def leave(self, owner: str) -> None:
        """See `Store.leave`."""
        await self._entries.do(self._acts.leave(owner))

    async def entries(self, state: State | None = None) -> AsyncIterator[StoreEntry]:
        """See `Store.entries`."""
        after = 0
        while page := await self._entries.do(self._acts.page(state, after)):
            for entry in page:
                yield entry
            after = page[-1].row

    async def sweep(self, keep: float) -> int:
        """See `Store.sweep`."""
        return await self._entries.do(self._acts.sweep(keep))


async def opened(
    database: Database, kept_apart: Database, dialect: Dialect, account: str, namespace: str
) -> SqlStore:
    """Connect, make what is missing, and check the version.

    Args:
        database: Where entries are kept.
        kept_apart: Where the limits are kept, in a table that is made when it is connected to.
        dialect: The words of both.
        account: Whose limits and slots these are.
        namespace: Where keys are unique.

    Raises:
        StoreError: It cannot be used.
    """
    entries, limits = Batches(database), Batches(kept_apart)
    acts = Acts(dialect, account, namespace)
    try:
        if not await entries.do(_setup(dialect, (dialect.is_made,))):
            await entries.do(_setup(dialect, dialect.schema))
        rows = await entries.do(_setup(dialect, ("SELECT max(version) FROM apixo_store",)))
        version = rows[0][0]
        if version != VERSION:
            raise StoreError(
                f"the store has layout {version}, and this release knows {VERSION}: use the "
                "release that made it, or a newer one"
            )
        await entries.do(acts.begin())
        await limits.do(acts.load())
    except BaseException:
        await limits.aclose()
        await entries.aclose()
        raise
    return SqlStore(acts, entries, limits)


def _setup(dialect: Dialect, statements: Sequence[str]) -> Act[Sequence[Row]]:
    def read(done: Sequence[Done]) -> Sequence[Row]:
        return done[-1].rows

    return Act([dialect.render(text) for text in statements], {}, read)
