"""The permits that a process has taken ahead, in the place of the account's window.

It uses nothing once its lease is over, by its own clock from the moment at which it last asked for
the shared value. The other processes take what it had as sent by then.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, NamedTuple

from apixo_async._catalog import WINDOW
from apixo_async._limits.breaker import LimitScope, PauseReport
from apixo_async._limits.priority import RateMeter
from apixo_async._limits.shared import (
    AHEAD,
    DRIFT,
    INTERVAL,
    TICK,
    Grant,
    Report,
    SharedLimits,
    exchange,
    leave,
)
from apixo_async._limits.window import MARGIN, SLACK, PermitOutcome, SlidingWindow
from apixo_async._types import Limits

#: Seconds without an exchange after which a process counts as dead. Shorter than a stall costs a
#: pause; longer, and the permits of a killed one are missing for as long.
LEASE: Final = 10.0

#: Permits that are taken ahead, relative to the recent use: enough for a use that grows by 30 %
#: until the next exchange.
RESERVE: Final = 1.3

#: The fewest seconds between two exchanges: for all that wait then.
SOONEST: Final = 0.04

#: The bounds of the random factor of the time between two exchanges. In step, the process that
#: comes right after a permit is free would always get it.
JITTER: Final = (0.7, 1.3)

#: Requests a second below which a process is idle.
IDLE: Final = 0.05


class Asked(NamedTuple):
    """When the shared value was read.

    Attributes:
        now: The time of the store.
        sent: When it was asked for, on the clock of this process.
        received: When it came, on the same clock.
        other_clock: See `SharedValue`.
    """

    now: float
    sent: float
    received: float
    other_clock: float = 0.0


@dataclass(slots=True)
class _Unsettled:
    """An exchange of which it is not known whether it was kept."""

    report: Report
    grant: Grant | None
    asked: Asked
    ended: list[float]


class LeasedWindow(SlidingWindow):
    """The exact log of this process's requests, and the permits that it has taken ahead.

    Args:
        limits: The limits of the account, as this process was given them.
        rng: The source of the jitter between exchanges.
        name: Makes a name that no other process has, and another one after it was taken for dead.
        lease: Seconds for which it may use what it has without an exchange, at least 1.
    """

    def __init__(
        self,
        limits: Limits,
        rng: random.Random,
        name: Callable[[], str],
        *,
        lease: float = LEASE,
    ) -> None:
        self.grant: Grant | None = None
        super().__init__(limits.requests_per_minute)
        self.lease = lease
        self.limits = limits
        self._exchanged_at = -math.inf
        self._rng = rng
        self._jitter = 1.0
        self._name = name
        #: When each permit in reserve may be used.
        self._reserve: list[float] = []
        #: When each request that was not reported yet leaves the window.
        self._ended: list[float] = []
        self._use = RateMeter(memory=2.0)
        self._spends_burst = False
        self._wanted_tasks = 0
        self._unsettled: _Unsettled | None = None
        self._join()

    def _join(self) -> None:
        self.member = self._name()
        self.usable_until = -math.inf
        self._number = self._asked = 0
        self._offset = (-math.inf, math.inf)
        self._offset_at = -math.inf
        self._reserve.clear()
        self._unsettled = None

    # --- as the window of a whole account ------------------------------------------------

    def ready_at(self, now: float) -> float:
        """Return when a permit may be taken: `now`, a later time, or infinity.

        Infinity means that it depends on the requests in flight, or on an exchange.
        """
        if not self._reserve or now >= self.usable_until:
            return math.inf
        if self.used(now) >= self.limit:
            return self._first_expiry()
        return max(now, self._reserve[0])

    def worth_waking_at(self, now: float, waiting: int) -> float:
        """Return when to serve waiters: as `ready_at`, or a little later to serve several."""
        ready = self.ready_at(now)
        if now < ready < math.inf:
            ready = max(ready, self._reserve[min(waiting, len(self._reserve), self._a_tick) - 1])
        return ready

    @property
    def _a_tick(self) -> int:
        return max(1, int(self.rate * TICK))

    def reserve(self, now: float) -> float:
        """Return how many permits may be taken at once."""
        if now >= self.usable_until:
            return 0.0
        return float(bisect_right(self._reserve, now))

    def take(self, now: float) -> None:
        """Count one request as in flight. Only after `ready_at` has returned `now`."""
        del self._reserve[0]
        self._use.count(now)
        super().take(now)

    def report(self, outcome: PermitOutcome, now: float) -> None:
        """Stamp a request that has just ended, or take back a permit that was not used."""
        super().report(outcome, now)
        match outcome:
            case PermitOutcome.UNUSED:
                self._reserve.insert(0, now)
            case PermitOutcome.UNANSWERED:
                self._ended.append(now + MARGIN + WINDOW + SLACK)
            case _:
                self._ended.append(now + WINDOW + SLACK)

    def resize(self, limit: int) -> None:
        """Change how many requests of this process may lie in one window."""
        super().resize(limit)
        self.rate = min(self.rate, self.grant.rate) if self.grant is not None else 0.0

    def rebind(self, now: float) -> None:
        """Go on with another event loop; requests that the former one left may still arrive."""
        is_other_clock = now < self._filled_at
        # By another name: what that loop did not come to is taken over like that of a dead process.
        self._join()
        super().rebind(now)
        if is_other_clock:
            self._ended.clear()

    def drain(self, now: float) -> None:
        """Give back what is in reserve, and let permits come evenly from here on."""
        super().drain(now)
        self._spends_burst = True
        self._give_back(len(self._reserve), now)

    def _give_back(self, count: int, now: float) -> None:
        for _ in range(count):
            self._ended.append(max(now, self._reserve.pop()))

    # --- the exchange --------------------------------------------------------------------

    def exchange_at(self, waiting: int, wants_tasks: int = 0) -> float:
        """Return when the next exchange is due, on the clock of this process.

        At once where somebody waits for what was not asked for yet.

        Args:
            waiting: Its requests that wait for a permit.
            wants_tasks: Its submits that wait for a slot.
        """
        if self.grant is None:
            return self._exchanged_at + SOONEST
        if waiting and not self._reserve and not self.grant.is_short:
            return self._exchanged_at + SOONEST
        if wants_tasks and not self._wanted_tasks:
            return self._exchanged_at + SOONEST
        if (
            waiting
            or wants_tasks
            or self._use.per_second(self._exchanged_at + self.grant.interval) > IDLE
        ):
            return self._exchanged_at + self.grant.interval * self._jitter
        return self._exchanged_at + self.lease / 4

    def exchange(
        self,
        shared: SharedLimits,
        asked: Asked,
        *,
        waiting: int,
        tasks: int = 0,
        wants_tasks: int = 0,
        open_tasks: int = 0,
        pauses: Mapping[LimitScope, PauseReport] = MappingProxyType({}),
    ) -> None:
        """Put the shared value through an exchange, and call `kept` once it was kept.

        Without that call the next exchange finds out by itself whether it was.

        Args:
            shared: The value as it was read; it is changed, and is to be kept.
            asked: When it was read.
            waiting: Requests of this process that wait for a permit.
            tasks: Tasks of this process.
            wants_tasks: Its submits that wait for a slot.
            open_tasks: The tasks of all processes, those of dead ones included.
            pauses: What this process has to say of 429s.
        """
        self._settle(shared)
        self._asked += 1
        self._exchanged_at = asked.received
        self._jitter = self._rng.uniform(*JITTER)
        interval = INTERVAL if self.grant is None else self.grant.interval
        now = asked.sent
        # Nearly rounded up; what was used long ago leaves a trace that wants no permit.
        ahead = int(RESERVE * self._use.per_second(now) * AHEAD * interval + 0.9)
        wants = waiting + ahead
        self._give_back(max(0, len(self._reserve) - wants), now)
        report = replace(
            self._report(asked),
            wants=wants - len(self._reserve),
            tasks=tasks,
            wants_tasks=wants_tasks,
            spends_burst=self._spends_burst,
            clock_was_set=self._clock_was_set(asked),
            pauses=pauses,
            other_clock=asked.other_clock,
        )
        self._wanted_tasks = wants_tasks
        grant = exchange(shared, report, asked.now, open_tasks)
        ended, self._ended = self._ended, []
        self._unsettled = _Unsettled(report, grant, asked, ended)

    def leave(self, shared: SharedLimits, asked: Asked) -> None:
        """Put the shared value through the last exchange: what is in reserve is given back."""
        self._settle(shared)
        self._give_back(len(self._reserve), asked.sent)
        leave(shared, self._report(asked), asked.now)

    def _report(self, asked: Asked) -> Report:
        """Return who this is, and what it has."""
        return Report(
            member=self.member,
            number=self._number + 1,
            asked=self._asked,
            lease=self.lease,
            limits=(self.limits.requests_per_minute, self.limits.concurrent_tasks),
            held=len(self._reserve) + self.in_flight,
            free_in=[at - asked.sent for at in self._ended],
        )

    def kept(self) -> None:
        """Note that the value was kept, and take what was granted."""
        unsettled, self._unsettled = self._unsettled, None
        assert unsettled is not None
        grant, asked = unsettled.grant, unsettled.asked
        if grant is None:
            # Others count what it had as sent. So it is not reported again, and what is in flight
            # is counted twice for a window.
            self._join()
            return
        self._number = unsettled.report.number
        self._spends_burst = False
        self.usable_until = asked.sent + self.lease
        self.grant, self.rate = grant, grant.rate
        self._reserve += [asked.received + seconds for seconds in grant.permits]
        self._reserve.sort()
        self._note_offset(asked)

    def _not_kept(self) -> None:
        """Note that another process kept a value first, so that nothing was reported or granted."""
        unsettled, self._unsettled = self._unsettled, None
        assert unsettled is not None
        self._ended += unsettled.ended

    def _settle(self, shared: SharedLimits) -> None:
        """Find out whether the last exchange was kept, where the answer to that was lost."""
        if self._unsettled is None:
            return
        member = shared.members.get(self.member)
        if member is not None and member.asked == self._unsettled.report.asked:
            self.kept()
        else:
            self._not_kept()

    # --- the clock of the store ----------------------------------------------------------

    def _bounds(self, asked: Asked) -> tuple[float, float]:
        """Return between which bounds the store's clock is ahead of that of this process."""
        low, high = self._offset
        drift = DRIFT * (asked.received - self._offset_at) if self._offset_at > -math.inf else 0.0
        return (
            max(low - drift, asked.now - asked.received),
            min(high + drift, asked.now - asked.sent),
        )

    def _clock_was_set(self, asked: Asked) -> bool:
        low, high = self._bounds(asked)
        return low > high + SLACK

    def _note_offset(self, asked: Asked) -> None:
        self._offset, self._offset_at = self._bounds(asked), asked.received
