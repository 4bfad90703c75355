"""Buying a task: a slot, a permit, one POST, and repeats where they cannot buy twice."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import Final

from apixo_async._budget import Budget
from apixo_async._config import Timeouts
from apixo_async._http.api import Api, throttled_too_long
from apixo_async._http.concurrency import ConcurrencyLimit, ConcurrencyLimiter
from apixo_async._http.retry import RetryPolicy, RetryQuota
from apixo_async._limits.limiter import Permit
from apixo_async._limits.priority import Priority
from apixo_async._polling.poller import Poller
from apixo_async._polling.tracked_task import TrackedTask
from apixo_async._reporting import Reporter
from apixo_async._submit.images import ImagesInUse
from apixo_async._submit.observer import NoSlotError, SubmitObserver
from apixo_async._submit.pending import PendingCalls
from apixo_async._submit.requests import SubmitAttempt, SubmitRequests
from apixo_async._submit.retries import RetryProbes, SubmitRetries
from apixo_async._sync import Turns, fresh
from apixo_async._task import Task
from apixo_async._types import Delivery, TaskInput
from apixo_async.errors import (
    APITimeoutError,
    ApixoError,
    BudgetExceededError,
    SubmitUncertainError,
    reason_of,
)
from apixo_async.events import SubmitRefused

#: The fewest places for journalled POSTs between their intent and their first byte. A crash makes
#: those uncertain although they were never sent, so that there should be few.
FEWEST: Final = 4

#: Submits that begin in one turn of the loop, each in some 50 µs.
_IN_A_TURN: Final = 100


class Submitter:
    """Buy tasks, each at most once (invariant 1).

    Args:
        api: The way to the service.
        requests: Sends the POSTs.
        poller: Polls what was bought; nothing is bought if it has died.
        report: Where events go.
        timeouts: The budgets of repeats.
        rng: The source of the jitter.
        quota: The retries of the whole client.
        calls: Ends the waits for a slot and a permit when the client is closed.
        sends: Ends purchases that have a permit and are not sent yet; by default `calls`.
        prices: USD of a task by model, where the documents give no price.
        budget: What all purchases of the client may cost; None for no bound.
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
        prices: Mapping[str, Decimal] = MappingProxyType({}),
        budget: Budget | None = None,
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
        self._prices = prices
        self._budget = Budget(None) if budget is None else budget
        self._probes = RetryProbes()
        self._turns = Turns(_IN_A_TURN)
        # How many journalled POSTs may be between their intent and their first byte: the rate of
        # submits times the shortest time measured. So a slow disk does not limit throughput, and
        # a crash leaves as few uncertain as the disk allows: 4 at 2 ms a commit, 21 at 100 ms.
        # Half of the rate of requests, since each task takes a poll, too.
        self._journal_places = ConcurrencyLimiter(
            lambda: api.limiter.requests_per_second / 2, ConcurrencyLimit(FEWEST, least=True)
        )

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
            timeout: Seconds to wait for a slot and a permit at most; never bounds the POST.
            pause: Seconds to wait before that.
            record: Where each POST is noted, before and after.
            check: Called before each POST; an exception prevents it.

        Raises:
            SubmitUncertainError: A task may have been bought.
            ApixoError: Nothing was bought.
        """
        try:
            await self._begun(pause)
            self._poller.check()
            cost = self._budget.price_of(task_input, self._prices)
            # Before the queue: what cannot be paid for now need not wait for a slot.
            self._budget.check(cost, task_input.model)
            images = self._requests.images.of(task_input)
            now = asyncio.get_running_loop().time()
            deadline = math.inf if timeout is None else now + timeout
            while True:
                try:
                    with self._calls.open(self._slot_until(deadline)):
                        # Before the permit (invariant 2): one held meanwhile would be wasted.
                        slot = await self._api.limiter.slot()
                except TimeoutError:
                    raise self._gave_up(task_input.model, deadline) from None
                attempt = SubmitAttempt(task_input, delivery, slot, now, record, check=check)
                attempt.cost, attempt.images = cost, images
                attempt.reserve = partial(self._budget.reserve, cost, task_input.model)
                attempt.slot_at = asyncio.get_running_loop().time()
                try:
                    return Task(await self._until_settled(attempt, deadline), self._poller)
                except NoSlotError:
                    self._api.limiter.slots_are_taken()
                    attempt.release()
                except BaseException:
                    if not attempt.orphaned:  # Else its POST goes on, and the slot stays with it.
                        attempt.release()
                    raise
        except ApixoError as error:
            # Bought, refused or uncertain (invariant 1): everything else here was refused.
            if not isinstance(error, SubmitUncertainError) and not error.bought:
                error.bought = False
            error.tag = delivery.tag
            if isinstance(error, BudgetExceededError):
                refusal = SubmitRefused(
                    task_input.model, str(error), None, delivery.tag, category=error.category
                )
                self._report(refusal)
            raise

    async def _begun(self, pause: float) -> None:
        """Wait for a turn of the loop, and for the pause."""
        if not self._turns.try_pass():
            with self._calls.open():
                await self._turns.wait()
        if pause:
            with self._calls.open():
                await asyncio.sleep(pause)

    def _slot_until(self, deadline: float) -> float | Callable[[], float]:
        limiter, now = self._api.limiter, asyncio.get_running_loop().time()
        if limiter.gives_up_at(now) == math.inf:
            return deadline  # Thousands may wait: no closure for each where nothing can fail.
        return lambda: min(deadline, limiter.gives_up_at(now))

    async def _until_settled(self, attempt: SubmitAttempt, deadline: float) -> TrackedTask:
        start = asyncio.get_running_loop().time()
        self._quota.earn(start)
        retries = SubmitRetries(
            self._probes,
            RetryPolicy(
                budget=self._timeouts.retry,
                throttled=self._timeouts.throttled,
                rng=self._rng,
                quota=self._quota,
            ),
        )
        model = attempt.input.model
        refused: ApixoError | None = None

        def report(error: ApixoError, again_in: float | None) -> None:
            self._report(attempt.refusal(error, again_in))

        try:
            if attempt.images is not None:
                await self._begin(attempt.images, model, deadline)
            while True:
                permit = await self._permit(attempt, start, deadline, refused)
                attempt.permit_at = permit.taken_at
                ended = await self._requests.send(attempt, permit, self._sends)
                retries.note(ended, model)
                if isinstance(ended, TrackedTask):
                    return ended
                if isinstance(ended, SubmitUncertainError):
                    raise ended
                refused = ended.error
                try:
                    with self._calls.open(deadline if deadline < math.inf else None):
                        is_repeated = await retries.again(ended, report)
                except TimeoutError:
                    raise self._gave_up(model, deadline, refused) from refused
                if not is_repeated:
                    raise refused
        finally:
            # Also if it is cancelled while it probes: others wait for the result.
            retries.end()

    async def _begin(self, images: ImagesInUse, model: str, deadline: float) -> None:
        try:
            with self._calls.open(deadline if deadline < math.inf else None):
                await images.begin()
        except TimeoutError:
            raise self._gave_up(model, deadline) from None

    async def _permit(
        self, attempt: SubmitAttempt, start: float, deadline: float, refused: ApixoError | None
    ) -> Permit:
        """Wait for a permit until the caller's deadline, the bound on 429s or the close."""
        loop, patience = asyncio.get_running_loop(), self._timeouts.throttled
        now = loop.time()
        model = attempt.input.model

        # Evaluated again while it waits: a 429 on another request moves the bound.
        def ends_at() -> float:
            throttled = self._api.throttled_until(Priority.SUBMIT, start, patience)
            return min(deadline, throttled, self._api.limiter.gives_up_at(now))

        try:
            with self._calls.open(ends_at):
                if not attempt.kept:
                    return await self._api.admit(Priority.SUBMIT)
                await self._journal_places.enter(for_submit=True)
                attempt.journal_places = self._journal_places
                # No place for a request in flight yet: others use it while the disk is awaited.
                return await self._api.admit(Priority.SUBMIT, with_place=False)
        except TimeoutError:
            attempt.leave_journal()
            if loop.time() >= deadline or self._api.limiter.failure is not None:
                raise self._gave_up(model, deadline, refused) from refused
            raise throttled_too_long(model, patience) from refused
        except BaseException:
            attempt.leave_journal()
            raise

    def _gave_up(
        self, model: str, deadline: float, refused: ApixoError | None = None
    ) -> ApixoError:
        limiter = self._api.limiter
        if limiter.failure is not None and asyncio.get_running_loop().time() < deadline:
            failure = fresh(limiter.failure)
            failure.model = model
            return failure
        if refused is not None:
            return APITimeoutError(
                f"{model}: every try within the timeout was refused, the last one with "
                f"{reason_of(refused)}; nothing was bought: wait longer, or try again later",
                model=model,
            )
        return APITimeoutError(
            f"{model}: no slot and permit within the timeout, nothing was sent "
            f"({limiter.slots_used} of {limiter.limits.concurrent_tasks} slots taken, "
            f"{limiter.permits_waiting} requests waiting); wait longer, or submit less",
            model=model,
        )
