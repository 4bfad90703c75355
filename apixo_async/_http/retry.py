"""Whether and when a request is repeated: a budget of time for each, a quota for the client."""

from __future__ import annotations

import math
import random
from typing import Final, Literal

from apixo_async._backoff import growing_pause

#: Why a request that was refused may be sent again (invariant 1): after a 429, after a 503, or
#: because no byte of it was written.
Repeat = Literal["throttled", "unavailable", "unsent"]

#: Seconds of the first pause at most.
FIRST_PAUSE: Final = 0.5

#: Retries that a client has in any case, and the part of its first attempts that it earns.
RESERVE: Final = 10.0
SHARE: Final = 0.1

#: Retries that it can save up at most.
SAVED: Final = 100.0

#: Seconds that bring back one retry of the reserve.
REGAIN: Final = 10.0


class RetryQuota:
    """The retries of a whole client: about a tenth of its first attempts, and a few in any case.

    Without it, an outage would multiply the requests of a busy client by its repeats.

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


class RetryPolicy:
    """How long one request goes on being repeated, after refusals that allow it.

    Pauses are drawn evenly between zero and 0.5 s, 1 s, 2 s, ... up to `longest`: that disperses
    best the requests that one outage has refused together.

    Args:
        budget: Seconds from the first refusal in which a repeat may begin; time under 429s is
            left out, since the limiter bounds it by `throttled`.
        rng: The source of the jitter.
        throttled: Seconds under 429s in a row.
        quota: The retries of the whole client, of which 429s cost none; None for no bound.
        longest: Seconds of any pause at most.
    """

    __slots__ = (
        *("_budget", "_deadline", "_longest", "_quota"),
        *("_repeats", "_rng", "_throttled", "_throttled_since"),
    )

    def __init__(
        self,
        *,
        budget: float,
        rng: random.Random,
        throttled: float = math.inf,
        quota: RetryQuota | None = None,
        longest: float = 16.0,
    ) -> None:
        self._budget = budget
        self._rng = rng
        self._throttled = throttled
        self._quota = quota
        self._longest = longest
        self._deadline: float | None = None
        self._throttled_since: float | None = None
        self._repeats = 0

    def pause(
        self, repeat: Repeat | None, now: float, retry_after: float | None = None
    ) -> float | None:
        """Note a refusal; return the seconds until the request is repeated, or None if it is not.

        Args:
            repeat: What it may be repeated for, or None. After a 429 the pause is zero: there the
                limiter does the waiting.
            now: The present.
            retry_after: What the service asked for in `Retry-After`, in seconds.
        """
        if repeat is None:
            return None
        if repeat == "throttled":
            if self._throttled_since is None:
                self._throttled_since = now
            return 0.0 if now < self._throttled_since + self._throttled else None
        deadline = self.refused(now)
        self._repeats += 1
        grown = growing_pause(
            self._repeats, self._rng, first=FIRST_PAUSE, longest=self._longest, jitter=(0.0, 1.0)
        )
        pause = max(retry_after or 0.0, grown)
        if now + pause > deadline:
            return None
        return pause if self._quota is None or self._quota.spend(now) else None

    def refused(self, now: float) -> float:
        """Note a refusal other than a 429; return when the budget of repeats ends."""
        if self._deadline is None:
            self._deadline = now + self._budget
        elif self._throttled_since is not None:
            self._deadline += now - self._throttled_since
        self._throttled_since = None
        return self._deadline
