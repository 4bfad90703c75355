"""Buying a task: a slot, a permit, one POST, and repeats where none can buy twice."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from apixo_async._config import Timeouts
from apixo_async._core import events
from apixo_async._core.errors import (
    APIStatusError,
    APITimeoutError,
    ApixoError,
    ClientClosedError,
    RateLimitError,
)
from apixo_async._core.retry import Patience, RetryQuota
from apixo_async._core.task_errors import SubmitUncertainError
from apixo_async._core.turns import Urgency
from apixo_async._core.values import Delivery, TaskInput
from apixo_async._core.verdicts import Refused
from apixo_async._core.wire import encode_submit
from apixo_async._limiter import Limiter, Permit
from apixo_async._line import Line
from apixo_async._posts import Posts, Purchase
from apixo_async._reporting import Reporter
from apixo_async._track import Track, fresh

T = TypeVar("T")


class Submitter:
    """Buy tasks, each at most once.

    Args:
        line: The way to the service.
        posts: Sends the POSTs.
        report: Where events go.
        timeouts: The budgets of repeats.
        rng: The source of the jitter.
        quota: The retries of the whole client.
    """

    def __init__(
        self,
        line: Line,
        posts: Posts,
        report: Reporter,
        timeouts: Timeouts,
        rng: random.Random,
        quota: RetryQuota,
    ) -> None:
        self._line = line
        self._posts = posts
        self._report = report
        self._timeouts = timeouts
        self._rng = rng
        self._quota = quota
        self._waits: set[asyncio.Timeout] = set()
        self._closed: ClientClosedError | None = None

    async def submit(
        self, task_input: TaskInput, delivery: Delivery, timeout: float | None
    ) -> Track:
        """Buy one task.

        Args:
            task_input: What to buy.
            delivery: The options of the submit.
            timeout: Seconds to wait for slot and permit at most; never bounds the POST.

        Raises:
            ApixoError: Nothing was bought, or nobody can know: `SubmitUncertainError`.
        """
        now = asyncio.get_running_loop().time()
        deadline = None if timeout is None else now + timeout
        body = encode_submit(task_input, delivery)
        slot = await self._in_time(self._line.limiter.slot, deadline, task_input.model)
        purchase = Purchase(task_input, delivery, body, slot, now)
        try:
            return await self._until_settled(purchase, deadline)
        except BaseException:
            # The slot of an orphan stays with its POST; a held or released one is not touched.
            if not purchase.orphaned:
                slot.release()
            raise

    def close(self, reason: ClientClosedError) -> None:
        """Send those away who still wait for a slot or a permit."""
        self._closed = reason
        for wait in self._waits:
            wait.reschedule(0.0)

    async def _until_settled(self, purchase: Purchase, deadline: float | None) -> Track:
        loop = asyncio.get_running_loop()
        patience = Patience(
            budget=self._timeouts.retry,
            throttled=self._timeouts.throttled,
            rng=self._rng,
            quota=self._quota,
        )
        self._quota.earn(asyncio.get_running_loop().time())
        while True:
            permit = await self._permit(purchase, deadline, patience)
            ended = await self._posts.send(purchase, permit)
            if isinstance(ended, Track):
                return ended
            if isinstance(ended, SubmitUncertainError):
                raise ended
            pause = patience.pause(ended.repeat, loop.time(), _retry_after(ended))
            if pause is None or ended.repeat != "throttled":
                self._refused(purchase, ended.error, pause)
            if pause is None:
                raise ended.error
            await self._in_time(partial(asyncio.sleep, pause), deadline, purchase.input.model)

    async def _permit(
        self, purchase: Purchase, deadline: float | None, patience: Patience
    ) -> Permit:
        model, until = purchase.input.model, patience.ends_at
        try:
            async with asyncio.timeout_at(until if until < math.inf else None):
                return await self._in_time(
                    partial(self._line.admit, Urgency.SUBMIT), deadline, model
                )
        except APITimeoutError:
            raise
        except TimeoutError:
            raise _throttled_too_long(model, self._timeouts.throttled) from None

    async def _in_time(
        self, wait_for: Callable[[], Awaitable[T]], deadline: float | None, model: str
    ) -> T:
        self._check_open()
        try:
            async with asyncio.timeout_at(deadline) as wait:
                self._waits.add(wait)
                try:
                    return await wait_for()
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            self._check_open()
            raise _waited_too_long(model, self._line.limiter) from None

    def _check_open(self) -> None:
        if self._closed is not None:
            raise fresh(self._closed)

    def _refused(self, purchase: Purchase, error: ApixoError, pause: float | None) -> None:
        self._report(events.SubmitRefused(purchase.input.model, str(error), pause))


def _waited_too_long(model: str, limiter: Limiter) -> APITimeoutError:
    return APITimeoutError(
        f"{model}: no slot and permit in time, nothing was sent "
        f"({limiter.slots_used} of {limiter.limits.concurrent_tasks} slots taken, "
        f"{limiter.permits_waiting} requests waiting); wait longer, or submit less",
        model=model,
    )


def _retry_after(refused: Refused) -> float | None:
    error = refused.error
    return error.retry_after if isinstance(error, APIStatusError) else None


def _throttled_too_long(model: str, seconds: float) -> RateLimitError:
    return RateLimitError(
        f"{model}: the service answered 429 for {seconds:.0f} s, nothing was bought; lower "
        "`limits` to what the account has, or try again later",
        status=429,
        model=model,
    )
