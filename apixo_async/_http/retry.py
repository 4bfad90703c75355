"""How long to pause between repeats, inside one elapsed-time budget."""

from __future__ import annotations

import math
import random
from typing import Final, Literal

#: Why a submit was refused in a way that allows to send it again.
Repeat = Literal["throttled", "unavailable", "unsent"]


#: Retries that a client has in any case, and the part of its first attempts that it earns.
RESERVE: Final = 10.0
SHARE: Final = 0.1

#: Retries that it can save up at most.
SAVED: Final = 100.0

#: Seconds that bring back one retry of the reserve.
REGAIN: Final = 10.0


class RetryQuota:
    """The retries of a whole client: about a tenth of its first attempts, and a few in any case.

    Args:
        now: The present.
    """

    __slots__ = ("_at", "_tokens")

    def __init__(self, now: float) -> None:
        self._tokens = RESERVE
        self._at = now

    def earn(self, now: float) -> None:
        """Note a first attempt."""
        self._regain(now)
        self._tokens = min(SAVED, self._tokens + SHARE)

    def spend(self, now: float) -> bool:
        """Take one retry, if there is one."""
        self._regain(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _regain(self, now: float) -> None:
        regained = (now - self._at) / REGAIN
        self._tokens = max(self._tokens, min(RESERVE, self._tokens + regained))
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
        import backoff  # Where nothing is ever repeated, nobody needs it.

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

    @property
    def deadline(self) -> float:
        """When the budget is spent."""
        return self._deadline

    def extend(self, seconds: float) -> None:
        """Leave so many seconds out of the budget."""
        self._deadline += seconds


class RetryPolicy:
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
        if repeat is None:
            return None
        return self._begun(now).pause(now, at_least=retry_after or 0.0)

    def until(self, now: float) -> float:
        """Return when the budget is spent that begins with the first refusal."""
        return self._begun(now).deadline

    def _begun(self, now: float) -> Backoff:
        if self._backoff is None:
            self._backoff = Backoff(
                now, budget=self._budget, rng=self._rng, quota=self._quota, ceiling=16.0
            )
        elif self._throttled_since is not None:
            self._backoff.extend(now - self._throttled_since)
        self._throttled_since = None
        return self._backoff
