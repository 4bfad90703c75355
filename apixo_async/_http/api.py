"""Requests to the API: each needs a permit and a place, and its end gives both back."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from apixo_async._http.channel import Channel, Unanswered
from apixo_async._http.concurrency import ConcurrencyLimiter
from apixo_async._http.verdicts import says_throttled
from apixo_async._http.wire import Answer, parse_speed
from apixo_async._limits.limiter import Limiter, Permit, PermitOutcome
from apixo_async._limits.priority import Priority
from apixo_async._reporting import Reporter, guarded, logger
from apixo_async._sync import Bound
from apixo_async.errors import RateLimitError
from apixo_async.events import LimitReached


class Api:
    """Send submits, polls and requests for the balance; downloads have a way of their own.

    Args:
        channel: Does the exchanges.
        limiter: Gives the permits.
        concurrency: Gives the places, of which there is one for each request in flight.
        report: Gets an event for every 429 that makes a pause.

    Attributes:
        on_speed: Called with the speed that a simulator announces; None where none is believed.
    """

    on_speed: Callable[[float], None] | None = None

    def __init__(
        self, channel: Channel, limiter: Limiter, concurrency: ConcurrencyLimiter, report: Reporter
    ) -> None:
        self.channel = channel
        self.limiter = limiter
        self.concurrency = concurrency
        self._report = report
        self.throttled = 0

    def try_admit(self, priority: Priority) -> Permit | None:
        """Take a permit and a place as `admit` does, if none of it takes any waiting."""
        for_submit = priority is Priority.SUBMIT
        if not self.concurrency.has_place(for_submit=for_submit):
            return None
        permit = self.limiter.try_permit(priority)
        if permit is not None:
            self.concurrency.limit.enter()
            permit.has_place = True
        return permit

    async def admit(self, priority: Priority, *, with_place: bool = True) -> Permit:
        """Wait for a permit and a place; `get`, `post` and `dismiss` give both back."""
        permit = await self.limiter.permit(priority)
        if with_place:
            try:
                await self.take_place(permit)
            except BaseException:
                self.limiter.report(permit, PermitOutcome.UNUSED)
                raise
        return permit

    async def admit_asked(self, patience: float, deadline: float = math.inf) -> Permit:
        """Wait for a permit and a place of a request that a caller asked for.

        Args:
            patience: Seconds of 429s in a row after which the wait ends.
            deadline: When it ends at the latest, on the loop's clock.

        Raises:
            RateLimitError: 429s held it back for too long.
            TimeoutError: The deadline has passed.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()

        def ends_at() -> float:
            return min(deadline, self.throttled_until(Priority.ASKED, began, patience))

        try:
            with Bound(ends_at):
                return await self.admit(Priority.ASKED)
        except TimeoutError:
            if loop.time() >= deadline:
                raise
            raise throttled_too_long(None, patience) from None

    async def take_place(self, permit: Permit) -> None:
        """Wait for a place, unless the permit has one."""
        if not permit.has_place:
            await self.concurrency.enter(for_submit=permit.priority is Priority.SUBMIT)
            permit.has_place = True

    def throttled_until(self, priority: Priority, began: float, patience: float) -> float:
        """Return when a wait for a permit ends because of 429s (invariant 4).

        While no 429 holds the request back, that is `patience` from now; ask again then.

        Args:
            priority: The class of the request.
            began: When the wait began, on the loop's clock.
            patience: Seconds of 429s in a row after which the wait ends.
        """
        since = self.limiter.throttled_since(priority)
        if since is None:
            return asyncio.get_running_loop().time() + patience
        return max(since, began) + patience

    def dismiss(self, permit: Permit) -> None:
        """Give back what `admit` gave, if it is still held, because nothing will be sent."""
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
        answer = await self._carry(permit, lambda: self.channel.get(path, self.limiter.fence))
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
        fence = self.limiter.fence

        def first_byte() -> None:
            if fence is not None:
                fence()
            if when_sending is not None:
                when_sending()

        answer = await self._carry(permit, lambda: self.channel.post(path, body, first_byte))
        try:
            self._account(permit, answer)
        except Exception:
            # The answer may hold the id of a paid task, which no defect of counting may lose
            # (invariant 1).
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
            # A cancelled request may have reached the service, where it counts.
            self.limiter.report(permit, PermitOutcome.UNANSWERED)
            raise
        finally:
            self._leave(permit, took)
        return answer

    def _account(self, permit: Permit, answer: Answer) -> None:
        if self.on_speed is not None and (speed := parse_speed(answer.speed_header)):
            guarded("the polls of a simulator", self.on_speed, speed)
        if not says_throttled(answer):
            self.limiter.report(permit, PermitOutcome.ANSWERED)
            return
        self.throttled += 1
        outcome, retry_after = PermitOutcome.THROTTLED, answer.retry_after
        throttle = self.limiter.report(permit, outcome, retry_after=retry_after)
        if throttle is not None and throttle.pause:
            self._report(LimitReached(*throttle))


def throttled_too_long(model: str | None, seconds: float) -> RateLimitError:
    """Return the error of a request that 429s held back for `seconds`."""
    return RateLimitError(
        f"{model or 'the API'}: the service answered 429 for {seconds:.0f} s on end; lower "
        "`limits` to what the account has, or try again later",
        status=429,
        model=model,
    )
