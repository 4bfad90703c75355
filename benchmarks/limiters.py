"""The limiters that are compared, ours and the peers', behind one call."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from apixo_async import Limiter, Limits
from apixo_async._limits.priority import Priority
from apixo_async._limits.window import PermitOutcome

LIMIT: Final = 10_000
WINDOW: Final = 60.0

#: Gives a permit back, and is told whether an answer came.
Release: TypeAlias = Callable[[bool], None]
Acquire: TypeAlias = Callable[[], Awaitable[Release]]


def ours() -> Acquire:
    limiter = Limiter(Limits(requests_per_minute=LIMIT))

    async def acquire() -> Release:
        permit = await limiter.permit(Priority.SCHEDULED)

        def release(answered: bool) -> None:
            ended = PermitOutcome.ANSWERED if answered else PermitOutcome.UNANSWERED
            limiter.report(permit, ended)

        return release

    return acquire


def _forget(_: bool) -> None:
    """Do nothing: the peers do not ask how a request ended."""


def aiolimiter() -> Acquire:
    from aiolimiter import AsyncLimiter

    limiter = AsyncLimiter(LIMIT, WINDOW)

    async def acquire() -> Release:
        await limiter.acquire()
        return _forget

    return acquire


def pyrate() -> Acquire:
    from pyrate_limiter import InMemoryBucket, Rate
    from pyrate_limiter import Limiter as Pyrate
    from pyrate_limiter.limiter import SingleBucketFactory

    class VirtualBucket(InMemoryBucket):
        """Its log on the loop's clock, and leaked every 10 s like its thread would in real time."""

        leaked_at = -math.inf

        def now(self) -> int:
            now = int(asyncio.get_running_loop().time() * 1000)
            if now >= self.leaked_at + 10_000:
                self.leaked_at = now
                self.leak(now)
            return now

    bucket = VirtualBucket([Rate(LIMIT, int(WINDOW * 1000))])
    limiter = Pyrate(SingleBucketFactory(bucket, schedule_leak=False))

    async def acquire() -> Release:
        await limiter.try_acquire_async()
        return _forget

    return acquire


PEERS: Final[Mapping[str, tuple[str, Callable[[], Acquire]]]] = {
    "aiolimiter": ("aiolimiter", aiolimiter),
    "pyrate-limiter": ("pyrate_limiter", pyrate),
}
