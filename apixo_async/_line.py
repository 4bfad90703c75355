"""The one way to the service: permit, gate, exchange, and what the answer means for both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from apixo_async._core.events import LimitReached
from apixo_async._core.turns import Urgency
from apixo_async._core.verdicts import says_throttled
from apixo_async._core.wire import Answer
from apixo_async._gate import Gate
from apixo_async._limiter import Limiter, Permit
from apixo_async._reporting import Reporter
from apixo_async._transport import Channel, Unanswered


class Line:
    """Everything that is sent goes through here.

    Args:
        channel: Does the exchanges.
        limiter: Gives the permits.
        gate: Stands in front of the connection pool.
        report: Is told of every 429.
    """

    def __init__(self, channel: Channel, limiter: Limiter, gate: Gate, report: Reporter) -> None:
        self.channel = channel
        self.limiter = limiter
        self.gate = gate
        self._report = report
        self.throttled = 0

    async def admit(self, urgency: Urgency) -> Permit:
        """Wait for a permit and a place; both are given back by `get` or `post`."""
        permit = await self.limiter.permit(urgency)
        try:
            await self.gate.enter(for_submit=urgency is Urgency.SUBMIT)
        except BaseException:
            permit.unused()
            raise
        return permit

    def dismiss(self, permit: Permit) -> None:
        """Give back what `admit` gave: nothing will be sent."""
        permit.unused()
        self.gate.leave(None)

    async def get(self, permit: Permit, path: str) -> Answer:
        """Send a GET.

        Raises:
            Unanswered: No answer came.
        """
        return await self._carry(permit, lambda: self.channel.get(path))

    async def post(self, permit: Permit, path: str, body: bytes) -> Answer:
        """Send a POST.

        Raises:
            Unanswered: No answer came.
        """
        return await self._carry(permit, lambda: self.channel.post(path, body))

    async def _carry(self, permit: Permit, exchange: Callable[[], Awaitable[Answer]]) -> Answer:
        loop = asyncio.get_running_loop()
        started, took = loop.time(), None
        try:
            answer = await exchange()
            took = loop.time() - started
        except Unanswered as exc:
            if exc.maybe_sent:
                permit.unanswered()
            raise
        except asyncio.CancelledError:
            permit.unanswered()
            raise
        finally:
            self.gate.leave(took)
            if took is None:
                permit.unused()  # Unless it was said to have been sent: the first word counts.
        self._account(permit, answer)
        return answer

    def _account(self, permit: Permit, answer: Answer) -> None:
        if not says_throttled(answer):
            permit.answered()
            return
        self.throttled += 1
        scope, pause = permit.throttled(answer.retry_after)
        if pause:
            self._report(LimitReached(scope, pause))
