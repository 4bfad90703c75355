"""How long to pause between repeats, inside one elapsed-time budget."""

from __future__ import annotations

import math
import random
from typing import Final, Literal

import backoff

#: Why a submit was refused in a way that allows to send it again.
Repeat = Literal["throttled", "unavailable", "unsent"]


#: Retries that a client has in any case, and the part of its first attempts that it has beyond.
RESERVE: Final = 10.0
SHARE: Final = 0.1

#: Retries that it can save up at most.
SAVED: Final = 100.0

#: Each so many seconds without any attempt bring back one retry of the reserve.
_REST: Final = 60.0


class RetryQuota:
    """The retries of a whole client: at most a tenth of its first attempts, and ten in any case.

    A service that is down is not asked eleven times by everybody who waits for it.

    Args:
        now: The present.
    """

    __slots__ = ("_advance", "_at", "_tokens")

    def __init__(self, now: float) -> None:
        self._tokens = RESERVE
        # The reserve is an advance: the first hundred attempts pay it back.
        self._advance = RESERVE
        self._at = now

    def earn(self, now: float) -> None:
        """Note a first attempt."""
        self._rest(now)
        if self._advance > 0:
            self._advance -= SHARE
        else:
            self._tokens = min(SAVED, self._tokens + SHARE)

    def spend(self, now: float) -> bool:
        """Take one retry, if there is one."""
        self._rest(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _rest(self, now: float) -> None:
        minutes = (now - self._at) // _REST
        self._tokens = max(self._tokens, min(RESERVE, self._tokens + minutes))
        self._at = now


class Backoff:
    """Growing, jittered pauses which together stay inside an elapsed-time budget.

    The pauses are drawn evenly between zero and `base`, 2 `base`, 4 `base`, ... up to `ceiling`.

    Args:
        now: The present, on the clock of every later call.
        budget: Seconds from now in which a repeat may still begin.
        rng: The source of the jitter.
        quota: The retries of the whole client; None where they are not counted.
        base: Seconds of the first pause at most.
        ceiling: Seconds of any pause at most.
    """

    __slots__ = ("_deadline", "_quota", "_rng", "_spans")

    def __init__(
        self,
        now: float,
        *,
        budget: float,
        rng: random.Random,
        quota: RetryQuota | None = None,
        base: float = 0.5,
        ceiling: float = 8.0,
    ) -> None:
        self._deadline = now + budget
        self._rng = rng
        self._quota = quota
        self._spans = backoff.expo(base=2, factor=base, max_value=ceiling)
        next(self._spans)  # The first value is a placeholder, by the generator's own protocol.

    def pause(self, now: float, *, at_least: float = 0.0) -> float | None:
        """Return the seconds to wait before the next repeat, or None when there is none.

        Args:
            now: The present.
            at_least: What the service asked for in `Retry-After`, in seconds.
        """
        pause = max(at_least, self._rng.uniform(0, next(self._spans)))
        if now + pause > self._deadline:
            return None
        return pause if self._quota is None or self._quota.spend(now) else None

    def extend(self, seconds: float) -> None:
        """Leave so many seconds out of the budget."""
        self._deadline += seconds


class Patience:
    """How long one submit goes on being repeated, after refusals that allow it.

    Args:
        budget: Seconds, from the first refusal, for all but 429s.
        throttled: Seconds under 429 in a row; they spend nothing of the budget.
        rng: The source of the jitter.
        quota: The retries of the whole client.
    """

    __slots__ = ("_backoff", "_budget", "_quota", "_rng", "_throttled", "_throttled_since")

    def __init__(
        self,
        *,
        budget: float,
        throttled: float,
        rng: random.Random,
        quota: RetryQuota | None = None,
    ) -> None:
        self._budget = budget
        self._throttled = throttled
        self._rng = rng
        self._quota = quota
        self._backoff: Backoff | None = None
        self._throttled_since: float | None = None

    @property
    def ends_at(self) -> float:
        """When the patience with 429s ends; infinity while there are none."""
        if self._throttled_since is None:
            return math.inf
        return self._throttled_since + self._throttled

    def pause(self, repeat: Repeat | None, now: float, retry_after: float | None) -> float | None:
        """Return the seconds until the submit is repeated, or None when it is not.

        Zero after a 429: there the limiter's gate does the waiting.
        """
        if repeat == "throttled":
            if self._throttled_since is None:
                self._throttled_since = now
            return 0.0 if now < self.ends_at else None
        under_429 = 0.0 if self._throttled_since is None else now - self._throttled_since
        self._throttled_since = None
        if repeat is None:
            return None
        if self._backoff is None:
            self._backoff = Backoff(now, budget=self._budget, rng=self._rng, quota=self._quota)
        else:
            self._backoff.extend(under_429)
        return self._backoff.pause(now, at_least=retry_after or 0.0)
