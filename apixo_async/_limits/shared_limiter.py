"""The limiter of an account that other processes use as well: it takes permits ahead from them."""

from __future__ import annotations

import asyncio
import contextvars
import math
import random
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from apixo_async._backoff import growing_pause
from apixo_async._limits.allowance import Permit, Throttle
from apixo_async._limits.leased import LEASE, Asked, LeasedWindow
from apixo_async._limits.limiter import Limiter
from apixo_async._limits.priority import Priority
from apixo_async._limits.shared import SharedLimits
from apixo_async._limits.window import PermitOutcome, SlidingWindow
from apixo_async._reporting import logger
from apixo_async._sync import Alarm, bound_after
from apixo_async._types import Limits
from apixo_async.errors import StoreError
from apixo_async.stores._protocol import LimitsStore, SharedValue

#: Seconds for which the store may take to answer in an exchange, before the next one is tried.
PATIENCE: Final = 2.0

#: Seconds without the store after which what waits for a slot or a permit is given up.
GIVEN_UP: Final = 10.0

#: Exchanges in a row that another process may be faster than, before this one pauses.
_CONFLICTS: Final = 5


class SharedLimiter(Limiter):
    """Share the limits of an account with the other processes that use it.

    In any 60 s, and at any time, all of them together stay within the limits. Permits are taken
    ahead in the background, so that a request waits for none while there are any. A process that
    cannot reach the store sends nothing once its lease is over.

    Args:
        store: Where the processes keep what they know together.
        limits: The limits of the account; where processes differ, the lowest hold.
        seed: Seeds every jitter, for replays.
        lease: Seconds after which the others take a silent process for dead.
    """

    def __init__(
        self,
        store: LimitsStore,
        limits: Limits | None = None,
        *,
        seed: int | None = None,
        lease: float = LEASE,
    ) -> None:
        self._rng, self._lease = random.Random(seed), lease
        super().__init__(limits, seed=seed)
        self._allowance.share_tasks(0)  # Until the first exchange says how many.
        self.fence = self._check_lease
        self._store = store
        self._alarm = Alarm()
        self._runner: asyncio.Task[None] | None = None
        self._failures = 0
        self._failing_since = self._pauses_until = -math.inf
        self._is_closed = self._is_throttled = False
        self._has_warned = False
        self.exchanges = 0

    # --- as any other limiter ------------------------------------------------------------

    def _window(self, limits: Limits) -> SlidingWindow:
        def name() -> str:
            return secrets.token_hex(8)

        self._leased = LeasedWindow(limits, self._rng, name, lease=self._lease)
        return self._leased

    def _limits_changed(self) -> None:
        self._leased.limits = self.limits
        super()._limits_changed()

    def _check_lease(self) -> None:
        # What its permits are, the others take for theirs by now.
        if asyncio.get_running_loop().time() >= self._leased.usable_until:
            raise StoreError(
                "nothing was sent: this process was stopped, or without its store, for longer "
                f"than {self._lease:.0f} s, and others have taken its part of the limits"
            )

    @property
    def member(self) -> str:
        """By what name the others know this process; another one after it was taken for dead."""
        return self._leased.member

    @property
    def living(self) -> frozenset[str] | None:
        """The processes that live, by the last exchange; None where that is not known."""
        grant, now = self._leased.grant, asyncio.get_running_loop().time()
        return None if grant is None or now >= self._leased.usable_until else grant.living

    @property
    def slots_of_all(self) -> int:
        """How many tasks all processes may have at once.

        What this one has learned from 429s is a limit of its own tasks only.
        """
        grant = self._leased.grant
        return self.limits.concurrent_tasks if grant is None else grant.concurrent_tasks

    def gives_up_at(self, began: float) -> float:
        """See `Limiter.gives_up_at`."""
        if self.failure is None:
            return asyncio.get_running_loop().time() + GIVEN_UP
        return max(began, self._failing_since) + GIVEN_UP

    def slots_are_taken(self) -> None:
        """See `Limiter.slots_are_taken`; the next exchange says how many there are."""
        self._allowance.share_tasks(self._tasks)

    @property
    def _tasks(self) -> int:
        """Its tasks at the service. A submit that has a slot and waits for a permit has none yet.

        Else what several processes hold for such submits would leave no room to any of them.
        """
        return self.table.existing + self._allowance.submits_in_flight

    @property
    def _wants_tasks(self) -> int:
        return self.slots_waiting + self.slots_used - self._tasks

    def serve(self) -> None:
        """Hand out what there is room for, and see to more where somebody waits."""
        super().serve()
        self._take_ahead()

    def try_permit(self, priority: Priority) -> Permit | None:
        """See `Limiter.try_permit`; others are taken ahead in its place."""
        permit = super().try_permit(priority)
        self._take_ahead()
        return permit

    def _take_ahead(self) -> None:
        if self._is_closed:
            return
        if self._runner is None:
            # In an empty context: what its first caller traces is not what all others do.
            self._runner = asyncio.get_running_loop().create_task(
                self._run(), name="apixo_async limits", context=contextvars.Context()
            )
        self._alarm.need(self._due())

    def report(
        self, permit: Permit, outcome: PermitOutcome, *, retry_after: float | None = None
    ) -> Throttle | None:
        """See `Limiter.report`; the other processes hear of a 429 at once."""
        throttle = super().report(permit, outcome, retry_after=retry_after)
        if throttle is not None and throttle.pause:
            self._is_throttled = True
            self._alarm.need(self._due())
        return throttle

    def _rebound(self) -> None:
        # They ended with their event loop.
        self._runner, self._alarm = None, Alarm()
        self._pauses_until = -math.inf

    # --- the exchanges -------------------------------------------------------------------

    def _due(self) -> float:
        if self._is_throttled:
            return self._pauses_until
        due = self._leased.exchange_at(self.permits_waiting, self._wants_tasks)
        return max(self._pauses_until, due)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while (due := self._due()) > loop.time():
                await self._alarm.sleep(due)
            try:
                with bound_after(PATIENCE):
                    await self._exchange()
            except Exception as exc:  # A store may be anybody's: what it raises ends nothing here.
                self._failed(exc, loop.time())
                continue
            if self._failures:
                logger.warning("the store of the limits is back")
                self._failures, self.failure = 0, None
            self.serve()

    def _failed(self, exc: Exception, now: float) -> None:
        self._failures += 1
        longest = self._lease / 4
        pause = growing_pause(
            self._failures, self._rng, first=0.1, longest=longest, jitter=(0.8, 1.2)
        )
        self._pauses_until = now + pause
        if isinstance(exc, StoreError):
            self.failure = exc
        else:  # Only the text of an error of ours is known to hold no password.
            timed_out = isinstance(exc, TimeoutError)
            said = f"no answer in {PATIENCE:.0f} s" if timed_out else type(exc).__name__
            self.failure = StoreError(f"the store of the limits cannot be used: {said}")
        if self._failures == 1:
            self._failing_since = now
            logger.warning(
                "%s; requests go on for at most %.0f s, then wait until it is back",
                self.failure,
                self._lease,
            )

    async def _change(self, change: Callable[[SharedLimits, Asked, int], None]) -> None:
        """Read the value, change it, keep it; and once more where another process was first."""
        loop, conflicts = asyncio.get_running_loop(), 0
        while True:
            self.exchanges += 1
            sent = loop.time()
            value = await self._store.load()
            self.uncertain_entries = value.uncertain
            shared = self._read(value)
            change(shared, Asked(value.now, sent, loop.time(), value.other_clock), value.open_tasks)
            if await self._store.save(shared.dump(), value.version):
                return
            conflicts += 1
            if conflicts % _CONFLICTS == 0:
                await asyncio.sleep(self._rng.uniform(0.0, 0.05))

    async def _exchange(self) -> None:
        def exchange(shared: SharedLimits, asked: Asked, open_tasks: int) -> None:
            self._is_throttled = False
            submits, asked_polls, scheduled = map(len, self._queues.values())
            self._leased.exchange(
                shared,
                asked,
                waiting=self.permits_waiting,
                tasks=self._tasks,
                wants_tasks=self._wants_tasks,
                open_tasks=open_tasks,
                pauses=self._allowance.pauses(
                    asked.received,
                    submits=submits,
                    polls=asked_polls + scheduled,
                ),
            )

        await self._change(exchange)
        self._leased.kept()
        grant = self._leased.grant
        if grant is None:
            return
        self._allowance.share_tasks(grant.tasks)
        self._allowance.pause_with(grant.pauses, asyncio.get_running_loop().time())
        lowest = Limits(grant.concurrent_tasks, grant.requests_per_minute)
        if lowest != self.limits and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "processes of this account were given different limits: the lowest hold, %s; give "
                "all of them the same `limits`",
                lowest,
            )

    def _read(self, value: SharedValue) -> SharedLimits:
        if value.body is not None:
            try:
                return SharedLimits.load(value.body)
            except ValueError:
                logger.error("what the store has for the limits cannot be read; it begins anew")
        elif not value.is_lost:
            return SharedLimits.fresh(value.now)
        return SharedLimits.lost(value.now, self.limits.requests_per_minute)

    async def aclose(self) -> None:
        """Give back what is in reserve and leave, in bounded time; the others go on at once.

        What waits for a slot or a permit then gets none any more.
        """
        self._is_closed = True
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        runner.cancel()
        await asyncio.wait([runner])
        # Without it, the others take its lease for over in time.
        with suppress(Exception), bound_after(PATIENCE):
            await self._change(lambda shared, asked, _: self._leased.leave(shared, asked))
