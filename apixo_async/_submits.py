"""Buying a task: a slot, a permit, one POST, and repeats where none can buy twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from apixo_async._calls import Calls
from apixo_async._config import Timeouts
from apixo_async._core import events
from apixo_async._core.errors import (
    APITimeoutError,
    ApixoError,
)
from apixo_async._core.retry import Patience, RetryQuota
from apixo_async._core.task_errors import SubmitUncertainError
from apixo_async._core.turns import Urgency
from apixo_async._core.values import Delivery, TaskInput
from apixo_async._core.wire import encode_submit
from apixo_async._limiter import Limiter, Permit
from apixo_async._line import Line
from apixo_async._posts import Posts, Purchase
from apixo_async._probes import Probes
from apixo_async._repeats import Repeats
from apixo_async._reporting import Reporter
from apixo_async._track import Track

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
        calls: Ends the waits when the client is closed.
    """

    def __init__(
        self,
        line: Line,
        posts: Posts,
        report: Reporter,
        timeouts: Timeouts,
        rng: random.Random,
        quota: RetryQuota,
        calls: Calls,
    ) -> None:
        self._line = line
        self._posts = posts
        self._report = report
        self._timeouts = timeouts
        self._rng = rng
        self._quota = quota
        self._calls = calls
        self._probes = Probes()

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
        slot = await self._in_time(self._line.limiter.slot, deadline, task_input)
        purchase = Purchase(task_input, delivery, body, slot, now)
        try:
            return await self._until_settled(purchase, deadline)
        except BaseException:
            # The slot of an orphan stays with its POST; a held or released one is not touched.
            if not purchase.orphaned:
                slot.release()
            raise

    async def _until_settled(self, purchase: Purchase, deadline: float | None) -> Track:
        start = asyncio.get_running_loop().time()
        self._quota.earn(start)
        patience = Patience(
            budget=self._timeouts.retry,
            throttled=self._timeouts.throttled,
            rng=self._rng,
            quota=self._quota,
        )
        repeats = Repeats(self._probes, patience)
        refused: ApixoError | None = None
        try:
            while True:
                admit = partial(self._admit, start, purchase.input.model)
                permit = await self._in_time(admit, deadline, purchase, refused)
                ended = await self._posts.send(purchase, permit)
                repeats.note(ended, purchase.input.model)
                if isinstance(ended, Track):
                    return ended
                if isinstance(ended, SubmitUncertainError):
                    raise ended
                refused = ended.error
                again = partial(repeats.again, ended, partial(self._refused, purchase))
                if not await self._in_time(again, deadline, purchase, refused):
                    raise refused
        finally:
            repeats.end()

    async def _admit(self, start: float, model: str) -> Permit:
        return await self._line.admit_within(
            Urgency.SUBMIT, self._timeouts.throttled, start=start, model=model
        )

    async def _in_time(
        self,
        wait_for: Callable[[], Awaitable[T]],
        deadline: float | None,
        purchase: Purchase | TaskInput,
        refused: ApixoError | None = None,
    ) -> T:
        model = purchase.input.model if isinstance(purchase, Purchase) else purchase.model
        try:
            async with self._calls.open(deadline):
                return await wait_for()
        except TimeoutError as exc:
            if isinstance(exc, ApixoError):
                raise
            raise _waited_too_long(model, self._line.limiter) from refused

    def _refused(self, purchase: Purchase, error: ApixoError, again_in: float | None) -> None:
        self._report(events.SubmitRefused(purchase.input.model, str(error), again_in))


def _waited_too_long(model: str, limiter: Limiter) -> APITimeoutError:
    return APITimeoutError(
        f"{model}: no slot and permit in time, nothing was sent "
        f"({limiter.slots_used} of {limiter.limits.concurrent_tasks} slots taken, "
        f"{limiter.permits_waiting} requests waiting); wait longer, or submit less",
        model=model,
    )
