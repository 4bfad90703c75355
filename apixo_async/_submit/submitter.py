"""Buying a task: a slot, a permit, one POST, and repeats where none can buy twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from apixo_async import events
from apixo_async._config import Timeouts
from apixo_async._http.api import Api
from apixo_async._http.retry import RetryPolicy, RetryQuota
from apixo_async._http.wire import encode_submit
from apixo_async._limits.limiter import Limiter, Permit, Slot
from apixo_async._limits.priority import Priority
from apixo_async._polling.poller import Poller
from apixo_async._polling.tracked_task import TrackedTask
from apixo_async._reporting import Reporter
from apixo_async._submit.observer import SubmitObserver
from apixo_async._submit.pending import PendingCalls
from apixo_async._submit.requests import SendTurn, SendTurns, SubmitAttempt, SubmitRequests
from apixo_async._submit.retries import RetryProbes, SubmitRetries
from apixo_async._task import Task
from apixo_async._types import Delivery, TaskInput
from apixo_async.errors import APITimeoutError, ApixoError, SubmitUncertainError, reason_of

T = TypeVar("T")


class Submitter:
    """Buy tasks, each at most once.

    Args:
        api: The way to the service.
        requests: Sends the POSTs.
        poller: Polls what was bought; without it nothing is bought.
        report: Where events go.
        timeouts: The budgets of repeats.
        rng: The source of the jitter.
        quota: The retries of the whole client.
        calls: Ends the waits for a turn when the client is closed.
        sends: Ends purchases that have their turn and are not sent; those of `calls` if not given.
    """

    def __init__(
        self,
        api: Api,
        requests: SubmitRequests,
        poller: Poller,
        report: Reporter,
        timeouts: Timeouts,
        rng: random.Random,
        quota: RetryQuota,
        calls: PendingCalls,
        sends: PendingCalls | None = None,
    ) -> None:
        self._api = api
        self._requests = requests
        self._poller = poller
        self._report = report
        self._timeouts = timeouts
        self._rng = rng
        self._quota = quota
        self._calls = calls
        self._sends = sends or calls
        self._probes = RetryProbes()
        # Each task takes a poll, too.
        self._turns = SendTurns(lambda: api.limiter.requests_per_second / 2)

    async def submit(
        self,
        task_input: TaskInput,
        delivery: Delivery,
        timeout: float | None = None,
        *,
        pause: float = 0.0,
        record: SubmitObserver | None = None,
        check: Callable[[], object] = lambda: None,
    ) -> Task:
        """Buy one task, and return its handle.

        Args:
            task_input: What to buy.
            delivery: The options of the submit.
            timeout: Seconds to wait for slot and permit at most; never bounds the POST.
            pause: Seconds before all that.
            record: Where each POST is noted, before and after.
            check: Called before each POST; what it raises prevents it.

        Raises:
            ApixoError: Nothing was bought, or nobody can know: `SubmitUncertainError`.
        """
        try:
            if pause:
                await self._paused(pause)
            self._poller.check()
            now = asyncio.get_running_loop().time()
            deadline = None if timeout is None else now + timeout
            if deadline is None:
                # Written out, as every frame here is kept by each of thousands who wait.
                place = self._calls.queue()
                try:
                    slot = await self._api.limiter.slot(place)
                finally:
                    self._calls.unqueue(place)
                    del place
            else:
                slot = await self._in_time(self._api.limiter.slot, deadline, task_input.model)
            track = await self._with(slot, task_input, delivery, now, deadline, record, check)
            return Task(track, self._poller)
        except ApixoError as error:
            if not isinstance(error, SubmitUncertainError) and not error.bought:
                error.bought = False
            raise

    async def _paused(self, pause: float) -> None:
        async with self._calls.open():
            await asyncio.sleep(pause)

    async def _with(
        self,
        slot: Slot,
        task_input: TaskInput,
        delivery: Delivery,
        called_at: float,
        deadline: float | None,
        record: SubmitObserver | None,
        check: Callable[[], object],
    ) -> TrackedTask:
        attempt: SubmitAttempt | None = None
        try:
            # Nobody who waits for a slot keeps a body.
            body = encode_submit(task_input, delivery)
            attempt = SubmitAttempt(
                task_input, delivery, body, slot, called_at, record, check=check
            )
            return await self._until_settled(attempt, deadline)
        except BaseException:
            # The slot of an orphan stays with its POST; a held or released one is not touched.
            if attempt is None or not attempt.orphaned:
                slot.release()
            raise

    async def _until_settled(self, attempt: SubmitAttempt, deadline: float | None) -> TrackedTask:
        start = asyncio.get_running_loop().time()
        self._quota.earn(start)
        patience = RetryPolicy(
            budget=self._timeouts.retry,
            throttled=self._timeouts.throttled,
            rng=self._rng,
            quota=self._quota,
        )
        repeats = SubmitRetries(self._probes, patience)
        refused: ApixoError | None = None
        model = attempt.input.model
        try:
            while True:
                turn = SendTurn(self._turns)
                admit = partial(self._admit, start, attempt, turn)
                permit = await self._in_time(admit, deadline, model, refused)
                ended = await self._requests.send(attempt, permit, self._sends, turn)
                repeats.note(ended, model)
                if isinstance(ended, TrackedTask):
                    return ended
                if isinstance(ended, SubmitUncertainError):
                    raise ended
                refused = ended.error
                again = partial(repeats.again, ended, partial(self._refused, model))
                if not await self._in_time(again, deadline, model, refused):
                    raise refused
        finally:
            repeats.end()

    async def _admit(self, start: float, attempt: SubmitAttempt, turn: SendTurn) -> Permit:
        try:
            if attempt.kept:
                await turn.begin()
            return await self._api.admit_within(
                Priority.SUBMIT,
                self._timeouts.throttled,
                start=start,
                model=attempt.input.model,
                # Nor is a place kept from others while a disk is waited for.
                with_place=not attempt.kept,
            )
        except BaseException:
            turn.end()
            raise

    async def _in_time(
        self,
        wait_for: Callable[[], Awaitable[T]],
        deadline: float | None,
        model: str,
        refused: ApixoError | None = None,
    ) -> T:
        try:
            async with self._calls.open(deadline):
                return await wait_for()
        except TimeoutError as exc:
            if isinstance(exc, ApixoError):
                raise
            raise _waited_too_long(model, self._api.limiter) from refused

    def _refused(self, model: str, error: ApixoError, again_in: float | None) -> None:
        self._report(events.SubmitRefused(model, reason_of(error), again_in))


def _waited_too_long(model: str, limiter: Limiter) -> APITimeoutError:
    return APITimeoutError(
        f"{model}: no slot and permit in time, nothing was sent "
        f"({limiter.slots_used} of {limiter.limits.concurrent_tasks} slots taken, "
        f"{limiter.permits_waiting} requests waiting); wait longer, or submit less",
        model=model,
    )
