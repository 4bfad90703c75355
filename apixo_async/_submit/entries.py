"""The entry of a submit in the store: an intent before its POST, then what came of it.

The intent is awaited, and without it nothing is sent. All that follows is written in the
background until it is written: it is known here, and a store that is away comes back.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Final
from weakref import WeakValueDictionary

from apixo_async._backoff import growing_pause
from apixo_async._canonical import identity
from apixo_async._catalog import timing
from apixo_async._limits.leased import LEASE
from apixo_async._limits.shared_limiter import SharedLimiter
from apixo_async._reporting import logger
from apixo_async._submit.observer import KeyTakenError, NoSlotError, SubmitObserver
from apixo_async._submit.requests import kind_of
from apixo_async._sync import Signal, bound_after
from apixo_async._types import Delivery, Result, TaskInput, price_of
from apixo_async.errors import (
    PresumedNotBoughtError,
    StoreError,
    SubmitUncertainError,
    TaskAbandonedError,
    TaskError,
    TaskFailedError,
    TaskNotFoundError,
)
from apixo_async.journal._error_forms import error_text
from apixo_async.journal._forms import result_text
from apixo_async.stores._account import AccountStore, EntryChange
from apixo_async.stores._protocol import LATE, EndState, Purchase, State, Store, StoreEntry

#: Seconds for which a submit waits at most until what came of it is written.
WRITTEN: Final = 10.0

#: The bounds of the pause after a write that failed, in seconds.
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0

#: What the key of a submit without one begins with.
UNKEYED: Final = "unkeyed-"


def purchase_of(
    task_input: TaskInput, delivery: Delivery, key: str, prices: Mapping[str, Decimal]
) -> Purchase:
    """Return what is bought under a key."""
    what = identity(task_input, delivery.provider)
    price = price_of(task_input, prices)
    return Purchase(
        key=key,
        digest=what.digest,
        model=what.model,
        provider=what.provider,
        kind=kind_of(task_input, what.provider),
        payload=what.payload,
        price=None if price is None else str(price),
        tag=delivery.tag,
    )


class _Change(Signal):
    """Lives for as long as somebody waits for it."""

    __slots__ = ("__weakref__",)


class EntryWriter:
    """Write entries for one client.

    Args:
        account: The store.
        limiter: Knows by what name this process owns entries, and how many slots there are.
        rng: The source of every jitter.
        exchange: The most seconds that a POST takes.
        traceparent: Returns what is kept of the span in whose context it is called.
    """

    def __init__(
        self,
        account: AccountStore,
        limiter: SharedLimiter,
        rng: random.Random,
        exchange: float,
        traceparent: Callable[[], str | None],
    ) -> None:
        self.account = account
        self.limiter = limiter
        self.exchange = exchange
        self.traceparent = traceparent
        self._rng = rng
        #: Those of keys for whose change somebody waits, by key.
        self._changes: WeakValueDictionary[str, _Change] = WeakValueDictionary()
        #: What notes the present submit, or task, of each key of this process.
        self.records: WeakValueDictionary[str, EntryRecord] = WeakValueDictionary()
        self._writing: set[asyncio.Task[None]] = set()
        self._later: set[asyncio.Task[None]] = set()
        last: asyncio.Task[None] | None = None
        for key, write in account.take_unwritten():  # Of an event loop that has ended.
            last = self.begin(key, write, last)

    async def change_of(self, key: str) -> None:
        """Wait until this process, or another one, has written something about a key."""
        signal = self._changes.get(key)
        if signal is None:
            signal = self._changes[key] = _Change()
        await signal.wait()

    def wrote(self, key: str | None) -> None:
        """Wake those who wait for a change of a key; None for one of any."""
        keys = [*self._changes] if key is None else [key]
        for each in keys:
            if (signal := self._changes.get(each)) is not None:
                signal.fire()

    def begin(
        self, key: str, write: EntryChange, after: asyncio.Task[None] | None
    ) -> asyncio.Task[None]:
        """Write something about a key in the background, once another write is done."""
        number = self.account.note_unwritten(key, write)
        task = asyncio.get_running_loop().create_task(
            self._until_written(number, key, write, after)
        )
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return task

    def later(self, key: str, write: EntryChange) -> None:
        """Write something once more, when what was under way in the store is over."""

        async def again() -> None:
            await asyncio.sleep(LATE)
            self.begin(key, write, None)

        task = asyncio.get_running_loop().create_task(again())
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _until_written(
        self, number: int, key: str, write: EntryChange, after: asyncio.Task[None] | None
    ) -> None:
        if after is not None:
            await asyncio.wait([after])
        failures = 0
        while True:
            try:
                await write(await self.account.opened())
                break
            except Exception as exc:  # A store may be anybody's.
                failures += 1
                if failures == 1:
                    said = str(exc) if isinstance(exc, StoreError) else type(exc).__name__
                    logger.warning("what became of a submit is not written yet: %s", said)
            await asyncio.sleep(
                growing_pause(
                    failures,
                    self._rng,
                    first=_FIRST_PAUSE,
                    longest=_LONGEST_PAUSE,
                    jitter=(0.8, 1.2),
                )
            )
        self.account.unwritten.pop(number, None)
        self.wrote(key)

    async def aclose(self, timeout: float = WRITTEN) -> None:
        """Wait at most that long until everything is written."""
        for task in self._later:
            task.cancel()
        if self._writing:
            await asyncio.wait(self._writing, timeout=timeout)
        if left := [*self._writing]:
            logger.error(
                "%d changes could not be written to the store: what they are about is doubted or "
                "polled again by the next process that uses it",
                len(left),
            )
            for task in left:
                task.cancel()
            await asyncio.wait(left)
        self.account.unwritten.clear()

    async def leave(self) -> None:
        """Own nothing any more, leave the account, and close the store, in bounded time."""
        # Without it, others find out when the lease is over.
        with suppress(Exception), bound_after(WRITTEN):
            if self.account.is_open:
                await (await self.account.opened()).leave(self.limiter.member)
        await self.limiter.aclose()
        with suppress(Exception), bound_after(WRITTEN):  # A store may be anybody's.
            await self.account.aclose()


class EntryRecord:
    """Note one submit, and its repeats where nothing was bought, in the store.

    Args:
        writer: Writes.
        purchase: What is bought; with an empty key each POST has one of its own.
        inner: Where it is noted beside that, such as in the journal of a map.
        instead_of: By the word of somebody: the POST in whose place it is bought anew.
        attempt: Its POST, where that was sent already.
        is_in_store: Whether it has an entry.
    """

    kept = True

    def __init__(
        self,
        writer: EntryWriter,
        purchase: Purchase,
        *,
        inner: SubmitObserver | None = None,
        instead_of: str | None = None,
        attempt: str = "",
        is_in_store: bool = False,
    ) -> None:
        self.purchase = purchase
        self.attempt = attempt
        self._writer = writer
        self._inner = inner
        self._instead_of = instead_of
        self._is_unkeyed = not purchase.key
        self._last: asyncio.Task[None] | None = None
        self._is_bought = False
        self.is_in_store = is_in_store
        if attempt:
            writer.records[purchase.key] = self

    async def intend(self, intent_id: str | None) -> None:
        """See `SubmitObserver.intend`.

        Raises:
            StoreError: The store cannot be used; nothing is sent.
        """
        if self._inner is not None:
            await self._inner.intend(intent_id)
        try:
            await self._intend(intent_id)
        except BaseException:
            if self._inner is not None:
                self._inner.refused()
            raise

    async def _intend(self, intent_id: str | None) -> None:
        # What an earlier POST of this submit came to is written first.
        await self.written()
        self.attempt = intent_id or secrets.token_hex(16)
        self.purchase = replace(
            self.purchase,
            key=f"{UNKEYED}{self.attempt}" if self._is_unkeyed else self.purchase.key,
            traceparent=self._writer.traceparent(),
        )
        writer, longest = self._writer, timing(self.purchase.kind).longest
        try:
            intended = await (await writer.account.opened()).intend(
                self.purchase,
                self.attempt,
                writer.limiter.member,
                slots=writer.limiter.slots_of_all,
                # A task that its POST makes at the last moment runs for as long as any.
                hold=LEASE + writer.exchange + longest,
                instead_of=self._instead_of,
            )
        except BaseException:
            # It may be there all the same, or get there late.
            self._take_back()
            writer.later(self.purchase.key, self._refusal())
            raise
        if intended.done:
            writer.records[self.purchase.key] = self
            self.is_in_store = True
            return
        entry = intended.entry
        if entry is None and self._instead_of is not None:
            self._instead_of = None  # Somebody has said meanwhile that it bought nothing.
            await self._intend(intent_id)
        elif entry is None or (
            entry.attempt == self._instead_of and entry.state in {State.UNCERTAIN, State.LOST}
        ):
            raise NoSlotError
        else:
            raise KeyTakenError(entry)

    def _refusal(self) -> EntryChange:
        attempt = self.attempt
        return lambda store: store.refused(attempt)

    def _take_back(self) -> None:
        self._write(self._refusal())

    def refused(self) -> None:
        """See `SubmitObserver.refused`."""
        if self._inner is not None:
            self._inner.refused()
        self._take_back()

    def bought(self, task_id: str) -> None:
        """See `TaskRecord.bought`."""
        if self._inner is not None:
            self._inner.bought(task_id)
        self._is_bought = True
        purchase, attempt, writer = self.purchase, self.attempt, self._writer

        async def bought(store: Store) -> None:
            hold = timing(purchase.kind).age_limit
            entry = await store.bought(purchase, attempt, writer.limiter.member, task_id, hold=hold)
            if entry.attempt != attempt:
                logger.error(
                    "%s: key %r was bought twice, since it was resubmitted while its first POST "
                    "was under way: the tasks are %s and %s",
                    purchase.model,
                    purchase.key,
                    task_id,
                    entry.task_id or "one under way",
                )

        self._write(bought)

    def uncertain(self, reason: str, error: SubmitUncertainError, /) -> None:
        """See `SubmitObserver.uncertain`."""
        if self._inner is not None:
            self._inner.uncertain(reason, error)
        error.key, error.attempt = self.purchase.key, self.attempt
        attempt, hold = self.attempt, timing(self.purchase.kind).longest
        self._write(lambda store: store.uncertain(attempt, hold=hold))

    async def claimed(self, intent_id: str, task_id: str | None) -> bool:
        """See `SubmitObserver.claimed`."""
        if self._inner is not None and not await self._inner.claimed(intent_id, task_id):
            return False
        await self.written()
        if self._last is not None and not self._last.done():
            raise StoreError("what is known of the task is not written yet: send it again")
        if self._is_bought:
            return True  # The store has its task.
        store = await self._writer.account.opened()
        await store.called(intent_id, task_id)
        other = None if task_id is None else await store.named(task_id)
        return other is None or other.attempt == intent_id

    def over(self, outcome: Result | TaskError) -> None:
        """See `TaskRecord.over`."""
        if self._inner is not None:
            self._inner.over(outcome)
        attempt = self.attempt
        if isinstance(outcome, PresumedNotBoughtError) and outcome.bought is False:
            self._take_back()
        elif (ended := _ended(outcome)) is not None:
            state, text = ended
            self._write(lambda store: store.over(attempt, state, text))

    def _write(self, write: EntryChange) -> None:
        self._last = self._writer.begin(self.purchase.key, write, self._last)

    async def written(self) -> None:
        """See `SubmitObserver.written`."""
        if self._last is not None:
            with suppress(TimeoutError), bound_after(WRITTEN):
                await asyncio.wait([self._last])


def _ended(outcome: Result | TaskError) -> tuple[EndState, str] | None:
    match outcome:
        case Result():
            return State.SUCCESS, result_text(outcome)
        case TaskFailedError():
            return State.FAILED, error_text(outcome)
        case TaskNotFoundError() | TaskAbandonedError():
            return State.LOST, error_text(outcome)
        case _:
            return None


def record_of(writer: EntryWriter, entry: StoreEntry) -> EntryRecord:
    """Return what notes the end of a task that an entry has."""
    return EntryRecord(writer, entry.purchase, attempt=entry.attempt, is_in_store=True)
