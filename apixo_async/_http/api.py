"""Requests to the API: each with a permit and a place, which its answer gives back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from apixo_async._http.channel import Channel, Unanswered
from apixo_async._http.concurrency import ConcurrencyLimiter
from apixo_async._http.verdicts import says_throttled
from apixo_async._http.wire import Answer
from apixo_async._limits.limiter import Limiter, Permit, PermitOutcome
from apixo_async._limits.priority import Priority
from apixo_async._reporting import Reporter, logger
from apixo_async._sync import bound_after
from apixo_async.errors import RateLimitError
from apixo_async.events import LimitReached


class Api:
    """Send submits, polls and questions for the balance; results are fetched elsewhere.

    Args:
        channel: Does the exchanges.
        limiter: Gives the permits.
        concurrency: Stands in front of the connection pool.
        report: Is told of every 429.
    """

    def __init__(
        self, channel: Channel, limiter: Limiter, concurrency: ConcurrencyLimiter, report: Reporter
    ) -> None:
        self.channel = channel
        self.limiter = limiter
        self.concurrency = concurrency
        self._report = report
        self.throttled = 0

    async def admit(self, priority: Priority, *, with_place: bool = True) -> Permit:
        """Wait for a permit and a place; both are given back by `get` or `post`."""
        permit = await self.limiter.permit(priority)
        if with_place:
            try:
                await self.take_place(permit)
            except BaseException:
                self.limiter.report(permit, PermitOutcome.UNUSED)
                raise
        return permit

    async def take_place(self, permit: Permit) -> None:
        """Wait for a place, unless the permit has one."""
        if not permit.has_place:
            await self.concurrency.enter(for_submit=permit.priority is Priority.SUBMIT)
            permit.has_place = True

    async def admit_within(
        self,
        priority: Priority,
        patience: float,
        *,
        start: float | None = None,
        model: str | None = None,
        with_place: bool = True,
    ) -> Permit:
        """Wait for a permit and a place, but not for ever under 429s.

        Args:
            priority: The class of the request.
            patience: Seconds under 429s on end after which waiting is over.
            start: When the waiting began, if that was before now.
            model: For the error.
            with_place: Whether to wait for a place now; else `take_place` does so later.

        Raises:
            RateLimitError: The service refused for so long.
        """
        loop = asyncio.get_running_loop()
        began = loop.time() if start is None else start
        timer: asyncio.TimerHandle

        def due() -> float:
            since = self.limiter.closed_since(priority)
            return patience + (loop.time() if since is None else max(since, began))

        def check() -> None:
            nonlocal timer
            if due() > loop.time():
                timer = loop.call_at(due(), check)
            elif not bound.expired():
                bound.reschedule(loop.time())

        timer = loop.call_at(due(), check)
        try:
            async with bound_after(None) as bound:
                return await self.admit(priority, with_place=with_place)
        except TimeoutError:
            raise _throttled_too_long(model, patience) from None
        finally:
            timer.cancel()

    def dismiss(self, permit: Permit) -> None:
        """Give back what `admit` gave, unless that was done already: nothing will be sent."""
        self.limiter.report(permit, PermitOutcome.UNUSED)
        self._leave(permit, None)

    def _leave(self, permit: Permit, took: float | None) -> None:
        if permit.has_place:
            permit.has_place = False
            self.concurrency.leave(took)

    async def get(self, permit: Permit, path: str) -> Answer:
        """Send a GET.

        Raises:
            Unanswered: No answer came.
        """
        answer = await self._carry(permit, lambda: self.channel.get(path))
        self._account(permit, answer)
        return answer

    async def post(
        self,
        permit: Permit,
        path: str,
        body: bytes,
        when_sending: Callable[[], None] | None = None,
    ) -> Answer:
        """Send a POST; `when_sending` is called before its first byte, and may prevent it.

        Raises:
            Unanswered: No answer came.
        """
        answer = await self._carry(permit, lambda: self.channel.post(path, body, when_sending))
        try:
            self._account(permit, answer)
        except Exception:
            # The answer may hold the id of a paid task: no defect of the counting loses it.
            logger.exception("the answer to a submit could not be counted; the client goes on")
        return answer

    async def _carry(self, permit: Permit, exchange: Callable[[], Awaitable[Answer]]) -> Answer:
        loop = asyncio.get_running_loop()
        started, took = loop.time(), None
        try:
            answer = await exchange()
            took = loop.time() - started
        except Unanswered as exc:
            sent = PermitOutcome.UNANSWERED if exc.maybe_sent else PermitOutcome.UNUSED
            self.limiter.report(permit, sent)
            raise
        except BaseException:
            self.limiter.report(permit, PermitOutcome.UNANSWERED)
            raise
        finally:
            self._leave(permit, took)
        return answer

    def _account(self, permit: Permit, answer: Answer) -> None:
        if not says_throttled(answer):
            self.limiter.report(permit, PermitOutcome.ANSWERED)
            return
        self.throttled += 1
        closed = self.limiter.report(
            permit, PermitOutcome.THROTTLED, retry_after=answer.retry_after
        )
        if closed is not None and closed.pause:
            self._report(LimitReached(*closed))


def _throttled_too_long(model: str | None, seconds: float) -> RateLimitError:
    return RateLimitError(
        f"{model or 'the API'}: the service answered 429 for {seconds:.0f} s on end; lower "
        "`limits` to what the account has, or try again later",
        status=429,
        model=model,
    )
