"""Reading a journal, without a client and at any time: while a run writes it, or after a kill."""

from __future__ import annotations

import asyncio
import sqlite3
import warnings
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

from apixo_async._canonical import identity, key_of
from apixo_async._types import Charges, Result, TaskRef
from apixo_async.errors import ApixoError, JournalError, JournalWarning
from apixo_async.inputs import Input
from apixo_async.journal import _reads as reads
from apixo_async.journal._entry import EntryState, Row, entry_of
from apixo_async.journal._failures import unanswered
from apixo_async.journal._forms import fields_of, from_micro
from apixo_async.journal._network_share import warning_of
from apixo_async.journal._snapshot import JournalSnapshot
from apixo_async.journal._writer import PATIENCE

__all__ = [
    "Charges",
    "EntryState",
    "JournalEntry",
    "JournalReader",
    "JournalTotals",
    "item_key",
    "open_journal",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One item of a journal.

    Its states: "new", nothing is bought; "intent", a submit is under way; "submitted", a task was
    bought, and its end is not known yet; "success"; "failed", the task ended otherwise, or none
    could be bought; "uncertain", whether a task was bought cannot be known; "damaged", the row
    cannot be read, and `error` is the `JournalError` that says why.

    Attributes:
        number: Its place in the order in which items came, from 1.
        key: The caller's, or the one that was made from its input, as `item_key` does.
        state: How far it is.
        input: What was asked for; None only if the entry is damaged.
        payload: The `input` object as it is sent; empty only if the entry is damaged.
        provider: The route, or None.
        task: The last task that was bought, or None; where a later submit is uncertain, not the
            one of that submit.
        result: What it made, or None.
        error: How it ended otherwise, or why it is uncertain, or None.
        files: Where the result was saved, as the run named it; none if it was not downloaded.
        purchases: Submits that were begun and not refused, uncertain ones included.
        cost: USD of those whose price is known.
        unpriced: How many of them have no known price.
        began_at: When the last submit was begun (aware UTC), or None.
        submitted_at: When the last task was made (aware UTC), or None.
        ended_at: When that task was known to be over (aware UTC), or None.
    """

    number: int
    key: str
    state: EntryState | Literal["damaged"]
    input: Input | None
    payload: Mapping[str, object] = field(default_factory=dict[str, object])
    provider: str | None = None
    task: TaskRef | None = None
    result: Result | None = None
    error: ApixoError | None = None
    files: tuple[Path, ...] = ()
    purchases: int = 0
    cost: Decimal = Decimal(0)
    unpriced: int = 0
    began_at: datetime | None = None
    submitted_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class JournalTotals:
    """What all items of a journal come to.

    Attributes:
        items: How many there are.
        purchases: Submits that were begun and not refused, uncertain ones included.
        cost: USD of those whose price is known.
        unpriced: How many of them have no known price.
    """

    items: int
    purchases: int
    cost: Decimal
    unpriced: int


def item_key(input: Input, *, provider: str | None = None, occurrence: int = 1) -> str:
    """Return the key under which a journal keeps an input that was given none.

    Args:
        input: The input.
        provider: The route that the map was given.
        occurrence: 1 for the first such input of a run, 2 for the next equal one, and so on.
    """
    return key_of(identity(input, provider).digest, occurrence)


class JournalReader:
    """A journal as it is when this context manager is entered; what is written later is not seen.

    ::

        async with open_journal("run.db") as journal:
            print(await journal.counts())

    It belongs to the event loop on which it was opened. Each call reads in a thread, for at most
    30 s.

    Attributes:
        path: The file, as it was named.
    """

    def __init__(self, path: str, timeout: float) -> None:
        self.path = path
        self._timeout = timeout
        self._snapshot = JournalSnapshot(path)
        self._thread: ThreadPoolExecutor | None = None

    @property
    def in_use(self) -> bool:
        """Whether a run had the journal open.

        Then "intent" is a submit under way. Otherwise there are no intents: those of a process
        that was killed are uncertain. On Windows this is False if the run is in another process.
        """
        return self._snapshot.in_use

    async def __aenter__(self) -> Self:
        """Copy the journal, and check the copy; `open_journal` says what is raised."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="apixo_async journal reader")
        try:
            warning = await self._ran(partial(warning_of, self.path), self._timeout)
            await self._ran(self._snapshot.open, self._timeout)
            if warning is not None:
                warnings.warn(JournalWarning(warning), stacklevel=2)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Remove the copy. A disk that does not answer keeps a thread, and not the caller."""
        thread, self._thread = self._thread, None
        if thread is not None:
            closing = asyncio.get_running_loop().run_in_executor(thread, self._snapshot.close)
            thread.shutdown(wait=False)
            await asyncio.wait({closing}, timeout=PATIENCE)

    async def counts(self) -> dict[EntryState, int]:
        """Return how many items are in each state; together they are all items.

        A damaged item counts in the state that its row names.

        Raises:
            JournalError: The file is damaged, the disk does not answer, or the reader was closed.
        """
        return await self._ask(reads.counts)

    async def totals(self) -> JournalTotals:
        """Return what all items come to, those of earlier runs included.

        Raises:
            JournalError: As `counts` does.
        """
        items = sum((await self.counts()).values())
        purchases = await self._ask(reads.purchases)
        cost, unpriced = await self._ask(reads.spent)
        return JournalTotals(items, purchases, from_micro(cost), unpriced)

    async def charges(self) -> Charges:
        """Return what was bought since the balance was asked for; see `Outcomes.reconcile`.

        Raises:
            JournalError: As `counts` does.
        """
        mark = await self._ask(reads.since_balance)
        uncertain = {
            None if price is None else from_micro(price): count
            for price, count in mark.uncertain.items()
        }
        return Charges.of(
            None if mark.balance is None else from_micro(mark.balance),
            known=mark.purchases - sum(uncertain.values()),
            cost=from_micro(mark.cost),
            unpriced=mark.unpriced,
            uncertain=uncertain,
        )

    async def entries(self) -> AsyncGenerator[JournalEntry]:
        """Iterate over all items in the order in which they came, 200 at a time in memory.

        A row that cannot be read is an entry whose state is "damaged"; it ends nothing.

        Raises:
            JournalError: As `counts` does.
        """
        after = 0
        while rows := await self._ask(partial(reads.page, after=after, pending=False)):
            for row in rows:
                yield _entry(row, self.path)
            after = rows[-1].row

    async def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        return await self._ran(partial(self._snapshot.ask, question), PATIENCE)

    async def _ran(self, function: Callable[[], T], seconds: float) -> T:
        if self._thread is None:
            raise JournalError(
                f"journal {self.path}: the reader is not open. Use it inside of `async with`"
            )
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.get_running_loop().run_in_executor(self._thread, function)
        except TimeoutError:
            raise unanswered(self.path, seconds) from None

    def __repr__(self) -> str:
        return f"<JournalReader of {self.path!r}{', in use' if self.in_use else ''}>"


def open_journal(path: str | PathLike[str], *, timeout: float = 60.0) -> JournalReader:
    """Read a journal of `client.map` or of `apixo run`: an async context manager gives the reader.

    The file and its log are copied into a temporary folder, which is removed in the end: 74 MiB
    for 100,000 items that are done. Nothing is written beside the journal, no run is kept waiting,
    and a run that writes in this process or in another one goes on. What the log of a killed run
    holds is read as well.

    Args:
        path: The file; its log `…-wal` has to lie beside it, if it has one.
        timeout: Seconds for which the disk may take to give the copy.

    Raises:
        JournalError: On entry: there is no such file; or it is no journal, is of a version that
            this one does not know, is damaged, lacks its log, may not be read, or the disk does
            not answer. The message says what to do.

    Warns:
        JournalWarning: It lies on a network file system, which may show an older state.
    """
    return JournalReader(fspath(path), timeout)


def _entry(row: Row, path: str) -> JournalEntry:
    try:
        entry = entry_of(row, path)
        task_input = entry.input
    except JournalError as exc:
        return JournalEntry(row.row, str(row.key), "damaged", None, error=exc)
    except ValueError as exc:
        error = JournalError(
            f"journal {path}: row {row.row} ({row.key!r:.100}) holds no input ({exc}). Mend or "
            "remove that row; a removed item may be bought again"
        )
        return JournalEntry(row.row, row.key, "damaged", None, error=error)
    return JournalEntry(
        number=entry.row,
        key=entry.key,
        state=entry.state,
        input=task_input,
        payload=fields_of(entry.payload),
        provider=entry.provider,
        task=None if entry.task_id is None else TaskRef(entry.model, entry.task_id),
        result=entry.result,
        error=entry.error,
        files=entry.files,
        purchases=entry.purchases,
        cost=entry.cost,
        unpriced=entry.unpriced,
        began_at=entry.intent_at,
        submitted_at=entry.submitted_at,
        ended_at=entry.ended_at,
    )
