"""The journal of a bulk run: every item from its first sight to its files, durable in time.

`intend` stands between the permit and the POST: what it has confirmed survives the death of the
process and of the machine. All else is written behind the caller's back, in order.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
import warnings
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from decimal import Decimal
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Self

from apixo_async._canonical import identity
from apixo_async._text import EXACT
from apixo_async._types import Result, TaskInput
from apixo_async._version import __version__
from apixo_async.errors import ApixoError, JournalError, JournalWarning, SubmitUncertainError
from apixo_async.journal import _moves as moves
from apixo_async.journal import _reads as reads
from apixo_async.journal._entry import Entry, EntryState, Row, entry_of
from apixo_async.journal._error_forms import error_text, uncertain_text
from apixo_async.journal._failures import JournalRefusal, again, journal_error, unanswered
from apixo_async.journal._forms import files_text, from_micro, result_text, to_micro
from apixo_async.journal._network_share import warning_of
from apixo_async.journal._store import Hook, JournalStore
from apixo_async.journal._writer import PATIENCE, Writer


def _let_go(store: JournalStore, thread: ThreadPoolExecutor) -> None:
    """Close the file that the thread has opened, or is still opening for a caller who has left."""
    thread.submit(store.close)
    thread.shutdown(wait=False)


class Journal:
    """The items of a run and of those before it, in one file: `await Journal.open("run.db")`.

    It belongs to the event loop on which it was opened. After a write has failed it is broken:
    whatever is called then raises that error, and all that was durable is in the file.

    Attributes:
        path: The file, as it was named.
    """

    def __init__(self, path: str, writer: Writer, clock: Callable[[], float]) -> None:
        self.path = path
        self._writer = writer
        self._clock = clock

    @classmethod
    async def open(
        cls,
        path: str | PathLike[str],
        *,
        on_broken: Callable[[JournalError], None] | None = None,
        clock: Callable[[], float] = time.time,
        hook: Hook | None = None,
    ) -> Self:
        """Open a journal, or make one; what an earlier run left as an intent is uncertain then.

        Args:
            path: The file.
            on_broken: Called once on the loop, when the first write fails or the disk has not
                answered for 30 s.
            clock: Seconds since the Unix epoch.
            hook: For tests: called in the journal's thread, as `JournalStore` says.

        Raises:
            JournalError: It cannot be used, or the disk has not answered for 30 s; the file is left
                as it is. Another run that uses it is waited for up to a second.
        """
        name = fspath(path)
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="apixo_async journal")
        store = JournalStore(name, hook)
        try:
            async with asyncio.timeout(PATIENCE):
                warning = await loop.run_in_executor(thread, warning_of, name)
                await loop.run_in_executor(thread, store.open, clock(), __version__)
            for text in (warning, store.warning):
                if text is not None:
                    warnings.warn(JournalWarning(text), stacklevel=2)
        except TimeoutError:
            _let_go(store, thread)
            raise unanswered(name, PATIENCE) from None
        except BaseException:
            _let_go(store, thread)
            raise
        return cls(name, Writer(store, thread, on_broken), clock)

    @property
    def broken(self) -> JournalError | None:
        """Why nothing can be written any more, or None."""
        return None if self._writer.broken is None else again(self._writer.broken)

    @property
    def is_closed(self) -> bool:
        """Whether it was closed with all that had been noted."""
        return self._writer.is_closed and self._writer.broken is None

    def note_balance(self, balance: Decimal) -> None:
        """Note what the account has as this run begins to buy, to compare with its end."""
        micro = int(EXACT.scaleb(balance, 6))
        self._writer.tell("balance", lambda file: moves.note_balance(file, micro))

    # --- before a purchase ---------------------------------------------------------------------

    async def enter(
        self, key: str | None, task_input: TaskInput, provider: str | None = None
    ) -> Entry:
        """Look an item up, or note a new one.

        Args:
            key: The caller's; None makes one of the input and of how often it occurred.
            task_input: What is to be bought.
            provider: By which route.

        Raises:
            JournalError: The key was used in this run already, or belongs to another input, or its
                row is damaged.
        """
        with _nothing_sent():
            given = identity(task_input, provider)
            if key is not None:
                self._check_key(key)
            asked = self._writer.ask("enter", lambda file: moves.enter(file, key, given))
            row = await asked
        return entry_of(row, self.path)  # A damaged row may have been bought.

    def _check_key(self, key: str) -> None:
        try:
            key.encode()
        except UnicodeEncodeError:
            raise journal_error(
                self.path,
                JournalRefusal(f"the key {key!r:.100} holds half a character. Give another"),
            ) from None

    async def intend(self, entry: Entry, intent_id: str | None, price: Decimal | None) -> None:
        """Make durable that a submit is about to be sent; its price is reserved.

        A caller that is cancelled here, or learns that the disk does not answer, sends nothing:
        the journal takes the intent back by itself.

        Args:
            entry: The item.
            intent_id: What marks the submit, in callback mode; no other submit has the same.
            price: USD, or None where it is unknown.

        Raises:
            JournalError: It cannot be written: nothing may be sent.
            ValueError: The price is no amount of money.
        """
        micro = None if price is None else to_micro(price)
        now = self._clock()
        written: list[bool] = []

        def intend(file: sqlite3.Connection) -> None:
            moves.move(file, "intend", entry.row, price=micro, mark=intent_id, at=now)
            written.append(True)

        def take_back(file: sqlite3.Connection) -> None:
            if written:
                moves.move(file, "refused", entry.row)

        with _nothing_sent():
            asked = self._writer.ask("intend", intend)
            try:
                await asked
            except (asyncio.CancelledError, JournalError):
                with suppress(JournalError):  # Then it is uncertain when it is opened again.
                    self._writer.tell("refused", take_back)
                raise

    # --- what became of it: written in this order, without waiting -------------------------------

    def refused(self, entry: Entry) -> None:
        """Note that nothing was bought: the item is what it was before the intent."""
        self._tell("refused", entry)

    def submitted(self, entry: Entry, task_id: str) -> None:
        """Note the task that was bought."""
        self._tell("submitted", entry, task_id=task_id, at=self._clock())

    def uncertain(self, entry: Entry, reason: str | ApixoError) -> None:
        """Note that whether a task was bought cannot be known, and why."""
        if isinstance(reason, SubmitUncertainError):
            text = error_text(reason)
        else:
            text = uncertain_text(str(reason))
        self._tell("uncertain", entry, error=text)

    async def claimed(self, entry: Entry, mark: str, task_id: str) -> bool:
        """Note which task a callback names for a submit, until a poll proves it: `submitted`.

        Returns:
            False if the submit is in no doubt, or the task is another item's.
        """
        return await self._writer.ask(
            "claimed", lambda file: moves.claim(file, mark, task_id, entry.row)
        )

    def succeeded(self, entry: Entry, result: Result) -> None:
        """Note what the task made."""
        self._tell("succeeded", entry, result=result_text(result), at=self._clock())

    def failed(self, entry: Entry, error: ApixoError) -> None:
        """Note how the task ended otherwise, or why none can be bought."""
        self._tell("failed", entry, error=error_text(error), at=self._clock())

    def downloaded(self, entry: Entry, paths: Iterable[Path]) -> None:
        """Note where the result was saved."""
        self._tell("downloaded", entry, files=files_text(tuple(paths)))

    def _tell(self, name: str, entry: Entry, **values: moves.Value) -> None:
        self._writer.tell(name, lambda file: moves.move(file, name, entry.row, **values))

    # --- asking --------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Wait until all that was noted so far is durable."""
        await self._writer.ask("flush", lambda _: None)

    async def counts(self) -> dict[EntryState, int]:
        """Return how many items are in each state; together they are all items."""
        return await self._writer.ask("read", reads.counts)

    async def spent(self) -> tuple[Decimal, int]:
        """Return the USD of all purchases, and how many purchases have no known price.

        Intents and uncertain submits are among them.
        """
        cost, unpriced = await self._writer.ask("read", reads.spent)
        return from_micro(cost), unpriced

    async def entries(self) -> AsyncGenerator[Entry]:
        """Iterate over all items in the order of their first entry, a few hundred at a time."""
        async for row in self._rows(pending=False):
            yield entry_of(row, self.path)

    async def pending(self) -> list[Entry]:
        """Return the submitted and uncertain items that were not entered in this run.

        Damaged rows are left out: `enter` raises what is wrong with them.
        """
        found: list[Entry] = []
        async for row in self._rows(pending=True):
            with suppress(JournalError):
                found.append(entry_of(row, self.path))
        return found

    async def _rows(self, *, pending: bool) -> AsyncGenerator[Row]:
        after = 0
        reading = partial(reads.page, pending=pending)
        while rows := await self._writer.ask("read", partial(reading, after=after)):
            for row in rows:
                yield row
            after = rows[-1].row

    # --- the end -------------------------------------------------------------------------------

    def begin_to_close(self) -> None:
        """Have the journal's thread write what is queued and close the file, by itself."""
        self._writer.close()

    async def aclose(self, timeout: float = PATIENCE) -> None:
        """Write what is queued and close the file: one file is left, without a log beside it.

        Args:
            timeout: Seconds for which the disk is waited for.

        Raises:
            JournalError: A write has failed, now or earlier, or the disk does not answer.
        """
        closing = self._writer.close()
        await asyncio.wait({closing}, timeout=timeout)
        if not closing.done():
            raise unanswered(self.path, timeout)
        failed = self._writer.broken or closing.exception()
        if failed is not None:
            raise again(journal_error(self.path, failed))


@contextmanager
def _nothing_sent() -> Generator[None]:
    """Mark errors of the journal with what they mean for the submit that they prevent."""
    try:
        yield
    except JournalError as exc:
        exc.bought = False
        raise
