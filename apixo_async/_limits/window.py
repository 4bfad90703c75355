"""When a request may go: an exact log of one window, paced beyond a burst (invariant 3).

A permit is stamped when its *answer* arrives, which is no earlier than the server counted it. So no
window on the server's clock holds more answered requests than the limit, whatever the latency does.
A request that ended without an answer may arrive later; it is stamped at its end plus a margin.
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum
from typing import Final

from apixo_async._catalog import WINDOW

#: Seconds added to the window against drift between the two clocks; 0.02 s in 60 s is 333 ppm.
SLACK: Final = 0.02

#: Seconds after its end in which an unanswered request may still reach the server.
MARGIN: Final = 5.0

#: The part of the limit that may go at once; beyond it, permits come evenly.
BURST: Final = 0.1

#: Seconds of permits that are handed out together where many requests wait: one timer for several,
#: instead of one for each.
TICK: Final = 0.05


class PermitOutcome(Enum):
    """How the request of a permit ended.

    ANSWERED: by anything but a 429. THROTTLED: by a 429; no document says whether the service
    counts such a request, so it counts here. UNANSWERED: without an answer; it may still arrive.
    UNUSED: it was never sent.
    """

    ANSWERED = "answered"
    THROTTLED = "throttled"
    UNANSWERED = "unanswered"
    UNUSED = "unused"


class SlidingWindow:
    """The exact log of the requests that may lie in one window, and their pace.

    Every method is O(1), amortised. Times are those of one monotonic clock. Queries drop old stamps
    and fill the burst up to `now` first; that changes no later answer.

    Args:
        limit: Requests in any window, at least 1.
        window: The window's length in seconds.
    """

    def __init__(self, limit: int, *, window: float = WINDOW) -> None:
        self.in_flight = 0
        self._length = window
        self._window = window + SLACK
        # Three logs, because stamps of unanswered requests lie in the future: so each log is in the
        # order of its stamps. Throttled ones are no evidence of what the service grants.
        self._answered: deque[float] = deque()
        self._unanswered: deque[float] = deque()
        self._throttled: deque[float] = deque()
        self._logs = (self._answered, self._unanswered, self._throttled)
        self._tokens = math.inf
        self._filled_at = self._expired_at = -math.inf
        self.resize(limit)

    def resize(self, limit: int) -> None:
        """Change the limit; requests that were sent count against the new one as well."""
        self.limit = limit
        self.rate = limit / self._length
        self._burst = max(1.0, limit * BURST)
        self._tokens = min(self._tokens, self._burst)

    def used(self, now: float) -> int:
        """Return how many requests count against the limit now."""
        self._expire(now)
        return self.in_flight + len(self._answered) + len(self._unanswered) + len(self._throttled)

    @property
    def is_stamped(self) -> bool:
        """Whether a stamp is left that makes room when it leaves the window."""
        return any(self._logs)

    def granted(self, now: float) -> int:
        """Return how many requests of one window the service answered, 429s not counted."""
        self._expire(now)
        return len(self._answered)

    def reserve(self, now: float) -> float:
        """Return how many permits may be taken at once."""
        self._refill(now)
        return max(0.0, min(self._tokens, self.limit - self.used(now)))

    def ready_at(self, now: float) -> float:
        """Return when a permit may be taken: `now`, a later time, or infinity.

        Infinity means that it depends on when the requests in flight end.
        """
        if self.used(now) >= self.limit:
            return self._first_expiry()
        self._refill(now)
        # A hair's breadth below one token counts as one, else rounding could spin a timer.
        if self._tokens >= 1 - 1e-9:
            return now
        return now + (1 - self._tokens) / self.rate

    def worth_waking_at(self, now: float, waiting: int) -> float:
        """Return when to serve waiters: as `ready_at`, or up to `TICK` later to serve several.

        Args:
            now: The time.
            waiting: The number of waiters, at least 1.
        """
        if waiting == 1 or self.rate * TICK < 2:
            return self.ready_at(now)
        if self.used(now) >= self.limit:
            return self._first_expiry() + TICK
        self._refill(now)
        return now + max(0.0, min(waiting, self.rate * TICK) - self._tokens) / self.rate

    def take(self, now: float) -> None:
        """Count one request as in flight. Only after `ready_at` has returned `now`."""
        self._refill(now)
        self._tokens -= 1
        self.in_flight += 1

    def report(self, outcome: PermitOutcome, now: float) -> None:
        """Stamp a request that has just ended, or take back a permit that was not used."""
        self.in_flight -= 1
        match outcome:
            case PermitOutcome.ANSWERED:
                self._answered.append(now)
            case PermitOutcome.THROTTLED:
                self._throttled.append(now)
            case PermitOutcome.UNANSWERED:
                self._unanswered.append(now + MARGIN)
            case PermitOutcome.UNUSED:
                self._tokens = min(self._burst, self._tokens + 1)

    def drain(self, now: float) -> None:
        """Spend the burst, so that permits come evenly from here on."""
        self._refill(now)
        self._tokens = min(self._tokens, 1.0)

    def rebind(self, now: float) -> None:
        """Go on with another event loop; requests that the former one left may still arrive.

        All event loops read the system's monotonic clock, so stamps stay valid. Only where the
        clock went backwards, as that of another virtual loop may, they mean nothing.
        """
        if now < self._filled_at:
            for stamps in self._logs:
                stamps.clear()
            self._filled_at = now
        while self.in_flight:
            self.report(PermitOutcome.UNANSWERED, now)

    def _expire(self, now: float) -> None:
        if now == self._expired_at:
            return  # No stamp grows old within an instant, in which many permits are handed out.
        self._expired_at = now
        for stamps in self._logs:
            while stamps and stamps[0] + self._window <= now:
                stamps.popleft()

    def _first_expiry(self) -> float:
        heads = [stamps[0] for stamps in self._logs if stamps]
        return min(heads) + self._window if heads else math.inf

    def _refill(self, now: float) -> None:
        if now == self._filled_at:
            return
        gained = max(0.0, now - self._filled_at) * self.rate
        self._tokens = min(self._burst, self._tokens + gained)
        self._filled_at = now
