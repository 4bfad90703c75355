"""Submits with a key: bought once, by any number of processes, and however often.

The rules of one look are in `_known`: an entry says what became of its key, and without an entry
the key may be bought. Whatever happens between the look and the intent is found by the intent.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, Self

from apixo_async._canonical import canonical, short_forms
from apixo_async._config import Timeouts
from apixo_async._limits.leased import LEASE
from apixo_async._limits.limiter import Limiter
from apixo_async._limits.shared_limiter import SharedLimiter
from apixo_async._polling.poller import Poller
from apixo_async._reporting import Reporter
from apixo_async._submit.callbacks import SubmitCallbacks
from apixo_async._submit.entries import UNKEYED, EntryRecord, EntryWriter, purchase_of
from apixo_async._submit.following import FOLLOW, Following
from apixo_async._submit.observer import KeyTakenError, SubmitObserver
from apixo_async._submit.pending import PendingCalls
from apixo_async._submit.submitter import Submitter
from apixo_async._sync import bound_after
from apixo_async._task import Task
from apixo_async._types import Delivery, TaskInput, TaskRef
from apixo_async.errors import (
    APITimeoutError,
    ApixoError,
    ConfigurationError,
    KeyConflictError,
    StoreError,
    SubmitUncertainError,
)
from apixo_async.journal._forms import input_of
from apixo_async.stores._account import AccountStore, resolve
from apixo_async.stores._protocol import Purchase, State, StoreEntry

#: Seconds after which it is looked again at an intent of another process, at first.
_LOOK: Final = 0.25

#: Seconds from the end of a lease until every process has noticed it.
_NOTICED: Final = 2.0


class KeyedSubmits:
    """Buy with entries in a store, and find what was bought under a key.

    Args:
        submitter: Buys.
        writer: Writes entries.
        following: Knows what other processes poll.
        calls: Ends waits when the client is closed.
        prices: USD of a task by model, where the documents give no price.
    """

    def __init__(
        self,
        submitter: Submitter,
        writer: EntryWriter,
        following: Following,
        calls: PendingCalls,
        prices: Mapping[str, Decimal],
    ) -> None:
        self._submitter = submitter
        self._writer = writer
        self._following = following
        self._calls = calls
        self._prices = prices

    @classmethod
    def wired(
        cls,
        account: AccountStore,
        limiter: Limiter,
        submitter: Submitter,
        poller: Poller,
        report: Reporter,
        timeouts: Timeouts,
        rng: random.Random,
        calls: PendingCalls,
        callbacks: SubmitCallbacks | None,
        prices: Mapping[str, Decimal],
    ) -> Self:
        """Wire the parts, and take part in the account. Needs a running loop."""
        assert isinstance(limiter, SharedLimiter)  # A client with a store has one.
        writer = EntryWriter(account, limiter, rng, timeouts.exchange, report.traceparent)
        following = Following(writer, poller, report, callbacks)
        following.start()
        return cls(submitter, writer, following, calls, prices)

    def record(
        self, task_input: TaskInput, delivery: Delivery, inner: SubmitObserver | None = None
    ) -> EntryRecord:
        """Return where a submit without a key is noted."""
        return EntryRecord(
            self._writer, purchase_of(task_input, delivery, "", self._prices), inner=inner
        )

    def reopened(
        self, task_input: TaskInput, delivery: Delivery, intent_id: str, inner: SubmitObserver
    ) -> EntryRecord:
        """Return where an uncertain submit of an earlier process is noted, which had no key."""
        purchase = purchase_of(task_input, delivery, f"{UNKEYED}{intent_id}", self._prices)
        return EntryRecord(self._writer, purchase, inner=inner, attempt=intent_id)

    async def submit(
        self,
        task_input: TaskInput,
        delivery: Delivery,
        timeout: float | None = None,
        *,
        key: str | None = None,
        instead_of: str | None = None,
        check: Callable[[], object] = lambda: None,
    ) -> Task:
        """Buy a task, unless the key has one.

        Args:
            task_input: What to buy.
            delivery: The options of the submit.
            timeout: Seconds to wait at most before the POST.
            key: What stands for it; None for nothing.
            instead_of: By the word of the caller: the POST in whose place it is bought anew.
            check: Called before the POST; an exception prevents it.

        Raises:
            KeyConflictError: The key stands for another input.
            SubmitUncertainError: A task may have been bought under the key, now or earlier.
            ApixoError: Nothing was bought.
        """
        deadline = math.inf
        if timeout is not None:
            deadline = asyncio.get_running_loop().time() + timeout
        try:
            return await self._submit(task_input, delivery, deadline, key, instead_of, check)
        except ApixoError as error:
            if not isinstance(error, SubmitUncertainError) and not error.bought:
                error.bought = False
            error.tag = delivery.tag
            raise

    async def _submit(
        self,
        task_input: TaskInput,
        delivery: Delivery,
        deadline: float,
        key: str | None,
        instead_of: str | None,
        check: Callable[[], object],
    ) -> Task:
        if key is None:
            record, purchase = self.record(task_input, delivery), None
        else:
            purchase = purchase_of(task_input, delivery, key, self._prices)
            record = EntryRecord(self._writer, purchase, instead_of=instead_of)
        while True:
            if purchase is not None and instead_of is None:
                task = await self._known(purchase.key, deadline, purchase, delivery.tag)
                if task is not None:
                    return task
            left = None if deadline == math.inf else _left(deadline)
            try:
                return await self._submitter.submit(
                    task_input, delivery, left, record=record, check=check
                )
            except KeyTakenError:
                # Another submit of the key was first, or another's word on it.
                instead_of = None
                record = EntryRecord(self._writer, record.purchase)

    async def find(self, key: str) -> Task | None:
        """Return the task of a key, or None where the key has no entry.

        Raises:
            SubmitUncertainError: A task may have been bought under it.
            StoreError: The store cannot be used.
        """
        return await self._known(key, math.inf, None)

    async def _known(
        self, key: str, deadline: float, purchase: Purchase | None, tag: str | None = None
    ) -> Task | None:
        """Return the task of a key, once a POST for it that is under way has ended.

        Returns:
            None where the key has no entry.
        """
        store, pause = await self._writer.account.opened(), _LOOK
        while (entry := await store.find(key)) is not None:
            if purchase is not None and purchase.digest != entry.purchase.digest:
                raise _conflict(purchase, entry.purchase)
            if entry.state is not State.INTENT:
                return self._task(entry, tag)
            if entry.read_at >= entry.slot_until:
                # Its POST is over, and no process has said what came of it.
                await store.uncertain(entry.attempt, hold=0.0)
                continue
            await self._look_again(entry, pause, deadline)
            pause = min(2 * pause, FOLLOW)
        return None

    def _task(self, entry: StoreEntry, tag: str | None) -> Task:
        """Return the task of an entry, or raise that it is uncertain."""
        try:
            if entry.state is not State.UNCERTAIN:
                return self._following.task(entry, tag)
            doubt = self._uncertain(entry)
        except Exception as exc:  # What is in a row may be anybody's.
            raise StoreError(
                f"{entry.purchase.model}: what the store has of key {entry.purchase.key!r} cannot "
                f"be read ({type(exc).__name__}): see `client.entries()`; nothing was sent"
            ) from None
        raise doubt

    async def _look_again(self, entry: StoreEntry, pause: float, deadline: float) -> None:
        """Wait for a change of an entry, by this process or by another one."""
        loop = asyncio.get_running_loop()
        until = min(loop.time() + pause, deadline)
        try:
            with self._calls.open(until):
                self._following.listen()
                await self._writer.change_of(entry.purchase.key)
        except TimeoutError:
            if loop.time() >= deadline:
                raise APITimeoutError(
                    f"{entry.purchase.model}: key {entry.purchase.key!r} is being bought, and how "
                    "that ends was not known within the timeout: wait longer; the same key buys "
                    "nothing twice",
                    model=entry.purchase.model,
                ) from None

    def _uncertain(self, entry: StoreEntry) -> SubmitUncertainError:
        purchase = entry.purchase
        error = SubmitUncertainError(
            f"{purchase.model}: a task may have been bought under key {purchase.key!r}, by a "
            "process that does not know its answer: look at your account, then "
            "`client.resolve(key, …)` says what it made, or `client.resubmit(error)` buys anew",
            model=purchase.model,
            input=input_of(purchase.model, purchase.payload),
            sent_at=_moment(entry.intent_at),
            delivery=Delivery(provider=purchase.provider, tag=purchase.tag),
        )
        error.tag, error.key = purchase.tag, purchase.key
        error.attempt = entry.attempt
        error.task = self._following.doubted(entry)
        return error

    async def resolve(self, key: str, task_id: str | None) -> Task | None:
        """Note what somebody says of an uncertain entry.

        Args:
            key: The key.
            task_id: The task that was bought; None for nothing.

        Raises:
            ConfigurationError: The key has no such entry, or the task is that of another one.
        """
        store = await self._writer.account.opened()
        try:
            await resolve(store, key, task_id, owner=self._writer.limiter.member)
        except BaseException:
            self._following.look_at_own()  # It may be done, and this process owns the task.
            raise
        self._writer.wrote(key)
        await self._following.look_at_doubts()
        return None if task_id is None else await self.find(key)

    async def recover(self, timeout: float | None) -> list[Task]:
        """Take over all that processes left which are dead by now.

        They are known to be dead once their lease is over.

        Args:
            timeout: Seconds to wait for that at most.
        """
        loop, tasks = asyncio.get_running_loop(), dict[TaskRef, Task]()
        await self._writer.account.opened()  # Raises where it cannot be used.
        until = loop.time() + LEASE + _NOTICED
        self._following.collecting.append(tasks)
        try:
            with bound_after(timeout), self._calls.open():
                while loop.time() < until:
                    taken = await self._following.take_over()
                    await asyncio.sleep(0.0 if taken else 0.5)
        except TimeoutError:
            pass
        finally:
            self._following.collecting.remove(tasks)
        return [*tasks.values()]

    async def aclose(self) -> None:
        """Write what is known, and leave: others poll what goes on, at once."""
        await self._following.aclose()
        await self._writer.aclose()
        await self._writer.leave()

    async def entries(self, state: State | str | None) -> AsyncIterator[StoreEntry]:
        """Iterate over the entries of the namespace, or those in one state, oldest first."""
        try:
            wanted = None if state is None else State(state)
        except ValueError:
            states = ", ".join(each.value for each in State)
            raise ConfigurationError(f"entries: state {state!r} is none of {states}") from None
        store = await self._writer.account.opened()
        async for entry in store.entries(wanted):
            yield entry


def _left(deadline: float) -> float:
    return max(0.0, deadline - asyncio.get_running_loop().time())


def _moment(seconds: float) -> datetime:
    """Return a time of the store's clock, which need not be a date."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=min(max(0.0, seconds), 1e11))


def _conflict(asked: Purchase, kept: Purchase) -> KeyConflictError:
    one, other = short_forms(
        *(canonical(each.model, each.provider, each.payload) for each in (asked, kept))
    )
    return KeyConflictError(
        f"{asked.model}: key {asked.key!r} stands for another input: {other} was bought, or is "
        f"being bought, and {one} was asked for; a key of its own buys that. Nothing was sent",
        key=asked.key,
        model=asked.model,
    )
