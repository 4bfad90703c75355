"""Where a map buys: the parts of its client that it uses, and purchases that it can end."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from apixo_async._catalog import timing
from apixo_async._config import Timeouts
from apixo_async._polling.callback_health import CLOCK_ERROR
from apixo_async._polling.tracked_task import SubmitTimes
from apixo_async._runtime import Lifecycle
from apixo_async._submit.callbacks import reopened
from apixo_async._submit.observer import SubmitObserver
from apixo_async._submit.pending import PendingCalls
from apixo_async._submit.requests import CANCELLING
from apixo_async._submit.submitter import Submitter
from apixo_async._sync import bound_after
from apixo_async._task import Task
from apixo_async._types import Delivery, Result, TaskInput
from apixo_async.errors import ApixoError, ClientClosedError, SubmitUncertainError
from apixo_async.events import TaskOrphaned
from apixo_async.journal._forms import input_of

if TYPE_CHECKING:
    from apixo_async._downloads.names import Naming
    from apixo_async.journal._entry import Entry

#: What was paid for, or may have been, and no caller holds.
Orphan: TypeAlias = Task | SubmitUncertainError


#: Seconds for which the balance is waited for at most, before a run buys.
_BALANCE: Final = 5.0


class MapClient(NamedTuple):
    """What a map needs of its client.

    Attributes:
        life: Gives the engine.
        timeouts: The budgets of repeats.
        rng: The source of every jitter.
        orphan: Handed what was paid for and no caller holds.
    """

    life: Lifecycle
    timeouts: Timeouts
    rng: random.Random
    orphan: Callable[[Orphan], None]


class StoppedError(ClientClosedError):
    """The map was stopped while a purchase waited to be sent; never leaves the map."""


class Buyer:
    """Buy for one map, until it is stopped.

    Args:
        map_client: Where.
        delivery: The options of every submit.
        prices: USD of a task by model, where the documents give no price.

    Raises:
        ApixoError: The client is closed, or cannot be used here.
    """

    def __init__(
        self,
        map_client: MapClient,
        delivery: Delivery,
        prices: Mapping[str, Decimal] = MappingProxyType({}),
    ) -> None:
        engine = self._engine = map_client.life.engine()
        self.limiter = engine.api.limiter
        self._client = map_client
        self._delivery = delivery
        self._patience = map_client.timeouts.exchange
        self._orphan = map_client.orphan
        self._report = engine.report
        self._sends = PendingCalls(engine.calls)
        self._queued = PendingCalls(self._sends)
        self._submitter = Submitter(
            api=engine.api,
            requests=engine.requests,
            poller=engine.poller,
            report=engine.report,
            timeouts=map_client.timeouts,
            rng=map_client.rng,
            quota=engine.quota,
            calls=self._queued,
            sends=self._sends,
            prices=prices,
            budget=engine.budget,
        )

    def buy(
        self, task_input: TaskInput, pause: float, record: SubmitObserver | None = None
    ) -> Coroutine[object, object, Task]:
        """Buy one task after `pause` seconds, and note it in `record`.

        Raises:
            StoppedError: The map was stopped; nothing was bought.
            ApixoError: As `AsyncClient.submit` says.
        """
        if self._engine.keyed is not None:
            record = self._engine.keyed.record(task_input, self._delivery, record)
        return self._submitter.submit(task_input, self._delivery, pause=pause, record=record)

    def attach(self, model: str, task_id: str) -> Task:
        """Return the handle of a task that an earlier run bought."""
        return self._engine.attach(model, task_id, seen=True, tag=self._delivery.tag)

    def reopen(self, entry: Entry, record: SubmitObserver, *, await_callback: bool) -> Task | None:
        """Take up an uncertain submit of an earlier run, with a slot while its task may run.

        Args:
            entry: The submit.
            record: Notes the task that is found.
            await_callback: Whether to wait for a callback, if there are webhooks; one that came
                already is followed up in any case.

        Returns:
            What stands for its task, or None where no callback can name it.
        """
        model, intent_id, claim = entry.model, entry.intent_id, entry.claim
        now, noted_at, age = asyncio.get_running_loop().time(), None, 0.0
        if entry.intent_at is not None:
            noted_at = entry.intent_at.timestamp()
            age = max(0.0, time.time() - noted_at)
            if noted_at > time.time() + CLOCK_ERROR:
                noted_at = 0.0  # The clock was set back since: its time says nothing.
        if self._engine.keyed is not None and intent_id is not None:
            task_input = input_of(model, entry.payload)
            record = self._engine.keyed.reopened(task_input, self._delivery, intent_id, record)
        times = SubmitTimes(now - age, now - max(0.0, age - self._patience), noted_at)
        slot, poller = self.limiter.slot_above(), self._engine.poller
        callbacks = self._engine.callbacks if await_callback else None
        if intent_id is None or (callbacks is None and claim is None):
            slot.hold(max(0.0, times.ended_at + timing(model).longest - now))
            return None
        claims = [] if claim is None else [claim]
        track = reopened(poller, callbacks, model, slot, intent_id, times, record, claims)
        return Task(track, poller)

    async def download(self, result: Result, target: Path, naming: Naming | None) -> list[Path]:
        """Save every file of a result, named as `naming` says.

        Raises:
            DownloadError: A file could not be saved.
            ClientClosedError: The client was closed.
        """
        async with self._engine.downloading(result):
            # With a separator at its end: else "run.2026" would be taken for a file's name.
            folder = os.path.join(target, "")  # noqa: PTH118  # a Path drops it
            paths = await self._engine.downloader.download(result, folder, naming=naming)
        self._engine.downloaded(result, len(paths))
        return paths

    async def balance(self) -> Decimal:
        """Return the USD left on the key.

        Raises:
            ApixoError: It could not be had.
        """
        return await self._engine.balance(self._client.timeouts, self._client.rng)

    async def balance_now(self) -> Decimal | None:
        """Return the balance if it can be had within 5 s: a map goes on without it."""
        with suppress(ApixoError, TimeoutError), bound_after(_BALANCE):
            return await self.balance()
        return None

    async def posts_ended(self) -> None:
        """Wait for the POSTs under way, this map's among them, for as long as one may take."""
        # The timeout is of a transport that ignores its own.
        with suppress(TimeoutError), bound_after(self._patience + CANCELLING):
            await self._engine.requests.ended()

    def is_crowded(self, queue: int) -> bool:
        """Return True if `queue` submits and polls, of any caller, wait for a slot or permit."""
        return self.limiter.slots_waiting + self.limiter.permits_waiting >= queue

    def stop(self, *, queue_only: bool = False) -> None:
        """End purchases that are not sent yet; POSTs that were sent get their answers.

        Args:
            queue_only: Whether purchases go on that have a permit, and their money reserved.
        """
        calls = self._queued if queue_only else self._sends
        calls.end(StoppedError("the map was stopped before it was sent"))

    def hand_over(self, orphan: Orphan) -> None:
        """Give `on_orphan` what was paid for and no caller will take."""
        if isinstance(orphan, Task):
            self._report(TaskOrphaned(orphan.model, orphan.id, orphan.tag))
        self._orphan(orphan)
