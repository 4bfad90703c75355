"""Group commit: while one batch is being written, the next one collects.

No thread waits and nothing polls: a batch goes to the journal's thread by `run_in_executor`, and
the next one follows when it is back.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

from apixo_async.errors import JournalError
from apixo_async.journal._failures import JournalRefusal, again, journal_error, unanswered
from apixo_async.journal._store import JournalStore, Operation

T = TypeVar("T")

#: Seconds for which one batch may take: a slow disk takes less than one, and one that takes longer
#: than this, such as a network share that is gone, may never answer.
PATIENCE: Final = 30.0

#: Operations of one transaction: those who wait for them all wake in one turn of the loop, which
#: lasts some 5 ms then. Five times as many gave a tenth more throughput, and turns of 20 ms.
MOST: Final = 200


class Pending(Operation, Protocol):
    """An operation, whatever its value is."""

    @property
    def lost(self) -> JournalRefusal | None:
        """Why it was not done, where no caller waits to learn that."""
        ...

    def settle(self, path: str) -> None:
        """Give the waiting caller what came of it."""
        ...

    def fail(self, error: JournalError) -> None:
        """Give the waiting caller the reason why nothing came of it."""
        ...


class Write(Generic[T]):
    """One operation: done in the thread, settled on the loop.

    Args:
        name: What it is called.
        act: What to do; what it refuses is kept for the caller.
        future: What its caller waits on, or None.

    Attributes:
        refused: Why it was not done, or None.
    """

    __slots__ = ("_act", "_value", "future", "name", "refused")
    _value: T

    def __init__(
        self,
        name: str,
        act: Callable[[sqlite3.Connection], T],
        future: asyncio.Future[T] | None = None,
    ) -> None:
        self.name = name
        self._act = act
        self.future = future
        self.refused: JournalRefusal | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        """Do it."""
        try:
            self._value = self._act(connection)
        except JournalRefusal as exc:
            self.refused = exc

    @property
    def lost(self) -> JournalRefusal | None:
        """Why it was not done, where no caller waits to learn that."""
        return self.refused if self.future is None else None

    def settle(self, path: str) -> None:
        """Give waiting callers what came of it, unless they were cancelled."""
        if self.future is None or self.future.done():
            return
        if self.refused is not None:
            self.future.set_exception(journal_error(path, self.refused))
        else:
            self.future.set_result(self._value)

    def fail(self, error: JournalError) -> None:
        """Give the waiting caller the reason why nothing came of it."""
        if self.future is not None and not self.future.done():
            self.future.set_exception(again(error))


class Writer:
    """Collect operations, and have them written in their order, batch by batch.

    Args:
        store: Where.
        thread: The executor of one thread which alone uses the store.
        on_broken: Called once, when the first write fails or the disk does not answer.
    """

    def __init__(
        self,
        store: JournalStore,
        thread: ThreadPoolExecutor,
        on_broken: Callable[[JournalError], None] | None = None,
    ) -> None:
        self._store = store
        self._thread = thread
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Pending] = []
        self._batches = 0
        self._closing: asyncio.Future[None] | None = None
        self._stuck: JournalError | None = None
        self.broken: JournalError | None = None

    def ask(self, name: str, act: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Have something done; the future resolves when it is durable.

        On a disk that does not answer it fails; what was asked for may still be done later.

        Raises:
            JournalError: An earlier write failed, the disk does not answer, or the journal is
                closed.
        """
        if self._stuck is not None:
            raise again(self._stuck)
        future: asyncio.Future[T] = self._loop.create_future()
        self._add(Write(name, act, future))
        return future

    def tell(self, name: str, act: Callable[[sqlite3.Connection], object]) -> None:
        """Have something done that no caller waits for: if it is refused, the journal is broken.

        Raises:
            JournalError: As `ask` says.
        """
        self._add(Write(name, act))

    def _add(self, write: Pending) -> None:
        if self.broken is not None:
            raise again(self.broken)
        if self._closing is not None:
            raise journal_error(self._store.path, JournalRefusal("it was closed. Open it anew"))
        self._waiting.append(write)
        if not self._batches and len(self._waiting) == 1:
            # Not at once: what else is ready in this turn of the loop goes with it.
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        if not self._waiting:
            return  # Closing has begun it already.
        batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        self._batches += 1
        writing = self._loop.run_in_executor(self._thread, self._store.write, batch)
        # A close queues several at once: each may also take the time of those before it.
        timer = self._loop.call_later(PATIENCE * self._batches, self._stick, batch)
        writing.add_done_callback(partial(self._written, batch, timer))

    def _stick(self, batch: list[Pending]) -> None:
        """Fail waiting callers: the disk does not answer. What is to be written stays queued."""
        error = self._stuck = unanswered(self._store.path, PATIENCE)
        for write in [*batch, *self._waiting]:
            write.fail(error)
        self._tell_once(error)

    def _written(
        self, batch: list[Pending], timer: asyncio.TimerHandle, writing: asyncio.Future[None]
    ) -> None:
        timer.cancel()
        self._stuck = None
        self._batches -= 1
        error = writing.exception()
        if error is not None:
            self._break(error, batch)
            return
        for write in batch:
            write.settle(self._store.path)
        lost = next((write.lost for write in batch if write.lost), None)
        if lost is not None:
            self._break(lost, [])
        elif self._waiting:
            self._begin()

    def _break(self, cause: BaseException, batch: list[Pending]) -> None:
        error = self.broken = self.broken or journal_error(self._store.path, cause)
        waiting, self._waiting = self._waiting, []
        for write in [*batch, *waiting]:
            write.fail(error)
        self._tell_once(error)

    def _tell_once(self, error: JournalError) -> None:
        if self._on_broken is not None:
            on_broken, self._on_broken = self._on_broken, None
            on_broken(again(error))

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is taken."""
        return self._closing is not None

    def close(self) -> asyncio.Future[None]:
        """Write what is queued and close the file; the future resolves when that is done."""
        if self._closing is None:
            while self._waiting:
                self._begin()
            self._closing = self._loop.run_in_executor(self._thread, self._store.close)
            self._thread.shutdown(wait=False)
        return self._closing
