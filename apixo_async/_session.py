"""What a client has beside the tasks it buys: an account, counts, and an end."""

from __future__ import annotations

import random
from collections.abc import Iterable
from decimal import Decimal
from typing import Self

from apixo_async._balance import ask_balance
from apixo_async._checks import check_input
from apixo_async._core.values import Estimate, Limits, Statistics, TaskRef, estimate
from apixo_async._life import Life
from apixo_async._settings import Settings
from apixo_async.inputs import Input


class Session:
    """The base of `AsyncClient`, which makes the three parts that this needs."""

    _settings: Settings
    _rng: random.Random
    _life: Life

    # --- account and counts --------------------------------------------------------------

    async def balance(self) -> Decimal:
        """Return the USD left on the key.

        Raises:
            APIStatusError: The service refused.
            APIConnectionError: No readable answer came within `Timeouts.retry` seconds.
            ClientClosedError: The client was closed, before or meanwhile.
        """
        engine = self._life.engine()
        async with engine.calls.open():
            return await ask_balance(engine.line, self._settings.timeouts, self._rng, engine.quota)

    def estimate(self, inputs: Iterable[Input]) -> Estimate:
        """Add up the documents' prices of inputs, and count those without one."""
        return estimate([check_input(one).price for one in inputs])

    def statistics(self) -> Statistics:
        """Return the counts of this instant."""
        if (engine := self._life.engine_here) is not None:
            return engine.statistics()
        tasks, requests = self.limits.concurrent_tasks, self.limits.requests_per_minute
        return Statistics(tasks, requests, slots_ceiling=tasks, requests_ceiling=requests)

    @property
    def limits(self) -> Limits:
        """The limits of the account, for all clients of the limiter; may be set while they run.

        Higher ones serve those who wait at once; lower ones let nothing out until there is room.
        """
        return self._settings.limiter.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._settings.limiter.limits = limits

    @property
    def unfinished(self) -> tuple[TaskRef, ...]:
        """The tasks that are not over: those in flight, or after `aclose` those it left."""
        return self._life.unfinished

    # --- life ----------------------------------------------------------------------------

    async def aclose(self, drain: float = 0.0) -> None:
        """Close the client, in bounded time; the refs of unfinished tasks stay in `unfinished`.

        Nothing new is bought; POSTs under way end by themselves, within `Timeouts.exchange`.
        Closing twice does nothing more.

        Args:
            drain: Seconds in which looks go on, so that tasks may still finish.
        """
        await self._life.aclose(drain)

    async def __aenter__(self) -> Self:
        self._life.engine()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        if not hasattr(self, "_life"):
            return "<AsyncClient that was refused its settings>"  # Seen in tracebacks only.
        state = "closed" if self._life.closed else f"{len(self.unfinished)} tasks in flight"
        return f"<AsyncClient {self._settings.base_url} {state}>"
