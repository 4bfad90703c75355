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

    def throttled_until(self, priority: Priority, began: float, patience: float) -> float:
        """Return when a wait for a permit is over because of 429s; later while there are none.

        Args:
            priority: The class of the request.
            began: When the wait began, on the loop's clock.
            patience: Seconds under 429s in a row that are waited for.
        """
        since = self.limiter.throttled_since(priority)
        if since is None:
            return asyncio.get_running_loop().time() + patience
        return max(since, began) + patience

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


def throttled_too_long(model: str | None, seconds: float) -> RateLimitError:
    """Return the error of a request for which `seconds` of 429s in a row were waited."""
    return RateLimitError(
        f"{model or 'the API'}: the service answered 429 for {seconds:.0f} s on end; lower "
        "`limits` to what the account has, or try again later",
        status=429,
        model=model,
    )
