"""How long to pause between repeats, inside one elapsed-time budget."""

from __future__ import annotations

import math
import random
from typing import Literal

import backoff

#: Why a submit was refused in a way that allows to send it again.
Repeat = Literal["throttled", "unavailable", "unsent"]


class Backoff:
    """Growing, jittered pauses which together stay inside an elapsed-time budget.

    The pauses are drawn evenly between zero and `base`, 2 `base`, 4 `base`, ... up to `ceiling`.

    Args:
        now: The present, on the clock of every later call.
        budget: Seconds from now in which a repeat may still begin.
        rng: The source of the jitter.
        base: Seconds of the first pause at most.
        ceiling: Seconds of any pause at most.
    """

    __slots__ = ("_deadline", "_rng", "_spans")

    def __init__(
        self,
        now: float,
        *,
        budget: float,
        rng: random.Random,
        base: float = 0.5,
        ceiling: float = 8.0,
    ) -> None:
        self._deadline = now + budget
        self._rng = rng
        self._spans = backoff.expo(base=2, factor=base, max_value=ceiling)
        next(self._spans)  # The first value is a placeholder, by the generator's own protocol.

    def pause(self, now: float, *, at_least: float = 0.0) -> float | None:
        """Return the seconds to wait before the next repeat, or None when the budget is spent.

        Args:
            now: The present.
            at_least: What the service asked for in `Retry-After`, in seconds.
        """
        pause = max(at_least, self._rng.uniform(0, next(self._spans)))
        return pause if now + pause <= self._deadline else None

    def extend(self, seconds: float) -> None:
        """Leave so many seconds out of the budget."""
        self._deadline += seconds


class Patience:
    """How long one submit goes on being repeated, after refusals that allow it.

    Args:
        budget: Seconds, from the first refusal, for all but 429s.
        throttled: Seconds under 429 in a row; they spend nothing of the budget.
        rng: The source of the jitter.
    """

    __slots__ = ("_backoff", "_budget", "_rng", "_throttled", "_throttled_since")

    def __init__(self, *, budget: float, throttled: float, rng: random.Random) -> None:
        self._budget = budget
        self._throttled = throttled
        self._rng = rng
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
            self._backoff = Backoff(now, budget=self._budget, rng=self._rng)
        else:
            self._backoff.extend(under_429)
        return self._backoff.pause(now, at_least=retry_after or 0.0)
