"""Group commit: while one transaction is under way in the database's thread, the next collects."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from apixo_async._sync import bound_after
from apixo_async._text import one_line
from apixo_async.errors import StoreError
from apixo_async.stores._sql import Act, Done

T = TypeVar("T")

#: Acts of one transaction.
MOST: Final = 50

#: Seconds in which an act has to be done. A commit takes milliseconds, on a slow disk a tenth of a
#: second; a database that fails over takes some seconds.
PATIENCE: Final = 10.0


#: Seconds that what is under way gets at the close, and once more when it was cut off.
CLOSING: Final = 3.0


class Connection(Protocol):
    """A connection to a database, used by one thread."""

    def run(self, acts: Sequence[Act[Any]]) -> list[list[Done]]:
        """Do all of it in one transaction, or nothing.

        Returns:
            For each act what each of its statements did.
        """
        ...

    def cut(self) -> None:
        """End what it waits for; called from another thread."""
        ...

    def close(self) -> None:
        """Close it; it may be broken."""
        ...


class Database(Protocol):
    """How a database is reached, and how its errors are said."""

    def connect(self) -> Connection:
        """Connect; called in the thread."""
        ...

    def error(self, exc: BaseException) -> StoreError:
        """Return what to tell of an exception that the driver raised, without passwords."""
        ...

    def is_lost(self, exc: BaseException) -> bool:
        """Return True if the connection is of no use any more."""
        ...


class _Asked:
    """An act, and who waits for it."""

    __slots__ = ("act", "future")

    def __init__(self, act: Act[Any], future: asyncio.Future[Any]) -> None:
        self.act = act
        self.future = future

    def settle(self, done: list[Done] | StoreError) -> None:
        """Tell what came of it, unless its caller was cancelled."""
        if self.future.done():
            return
        if isinstance(done, StoreError):
            self.future.set_exception(done)
            return
        try:
            self.future.set_result(self.act.read(done))
        except Exception as exc:  # What others have written there need not be ours.
            error = StoreError(
                f"what the store has cannot be read ({one_line(str(exc), 100)}): it was written by "
                "something else than this package; see it with the tools of the database"
            )
            self.future.set_exception(error)


class Batches:
    """Have acts done in one thread, those that are asked for at the same time in one transaction.

    A connection that is lost is made anew for the next act. Acts are done in the order in which
    they were asked for, so that one may take back another whose end is not known.

    Args:
        database: Where.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="apixo_async store")
        self._connection: Connection | None = None
        self._waiting: list[_Asked] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_busy = self._is_closed = False
        self._busy_since = 0.0

    async def do(self, act: Act[T]) -> T:
        """Have an act done.

        Raises:
            StoreError: It was not done, as far as is known.
        """
        loop = asyncio.get_running_loop()
        if self._is_closed:
            raise StoreError("the store was closed: open it anew")
        if self._is_busy and loop.time() - self._busy_since > PATIENCE:
            self._cut()  # What waited for that may have given up earlier.
        if loop is not self._loop:  # What was asked for on a former loop is of no use to anybody.
            self._loop, self._is_busy, self._waiting = loop, False, []
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append(_Asked(act, future))
        if not self._is_busy and len(self._waiting) == 1:
            # Not at once: what else is ready in this turn of the loop goes with it.
            loop.call_soon(self._begin)
        try:
            with bound_after(PATIENCE):
                return await future
        except TimeoutError:
            self._cut()  # It may never answer; the next act has a new connection.
            raise StoreError(
                f"the store has not answered for {PATIENCE:.0f} s: see whether it is reachable, "
                "and how busy it is"
            ) from None

    def _begin(self) -> None:
        if self._is_busy or not self._waiting or self._is_closed:
            return
        # Without those who waited too long, or were cancelled: nothing of theirs was begun.
        waiting = [asked for asked in self._waiting if not asked.future.done()]
        batch, self._waiting = waiting[:MOST], waiting[MOST:]
        if not batch:
            return
        assert self._loop is not None
        self._is_busy, self._busy_since = True, self._loop.time()
        running = self._loop.run_in_executor(self._thread, self._run, batch)
        running.add_done_callback(partial(self._ran, batch, self._loop))

    def _ran(
        self,
        batch: list[_Asked],
        loop: asyncio.AbstractEventLoop,
        running: asyncio.Future[list[list[Done] | StoreError]],
    ) -> None:
        if loop is not self._loop:
            return
        self._is_busy = False
        for asked, done in zip(batch, running.result(), strict=True):
            asked.settle(done)
        self._begin()

    def _run(self, batch: list[_Asked]) -> list[list[Done] | StoreError]:
        """Do a batch; called in the thread. One that fails may do so for one of its acts only."""
        try:
            return [*self._transaction(batch)]
        except Exception as exc:
            if len(batch) == 1 or self._connection is None:
                return [self._database.error(exc) for _ in batch]
        each: list[list[Done] | StoreError] = []
        for asked in batch:
            try:
                each += self._transaction([asked])
            except Exception as exc:
                each.append(self._database.error(exc))
        return each

    def _transaction(self, batch: list[_Asked]) -> list[list[Done]]:
        acts = [asked.act for asked in batch]
        while True:
            is_new = self._connection is None
            if self._connection is None:
                self._connection = self._database.connect()
            try:
                return self._connection.run(acts)
            except Exception as exc:
                if self._database.is_lost(exc):
                    self._drop()
                    # It may have been lost long ago, and what changes nothing can be done twice.
                    if not is_new and not any(act.writes for act in acts):
                        continue
                raise

    def _cut(self) -> None:
        connection = self._connection
        if self._is_busy and connection is not None:
            connection.cut()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def aclose(self) -> None:
        """End what is under way, in bounded time, and close the connection."""
        if self._is_closed:
            return
        self._is_closed = True
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        self._thread.shutdown(wait=False)
        try:
            await asyncio.wait([closing], timeout=CLOSING)
        finally:
            if not closing.done():  # Else the process would wait for the thread when it ends.
                self._cut()
        await asyncio.wait([closing], timeout=CLOSING)
        for asked in self._waiting:
            asked.settle(StoreError("the store was closed: open it anew"))
