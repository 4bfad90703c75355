"""What 429s hold back, for how long, and how a single probe ends that (invariant 4)."""

from __future__ import annotations

import math
import random
from typing import Final

from apixo_async._backoff import growing_pause

#: The first pause without a `Retry-After`, and the longest pause at all, in seconds.
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0

#: The bounds of the random factor of a pause without a `Retry-After`.
JITTER: Final = (0.8, 1.2)


class CircuitBreaker:
    """Hold requests back after a 429 until a probe is answered.

    Closed, as an electric circuit is: every request passes. A 429 opens it: no request passes for
    a pause. Then one request, the probe, passes. Its answer closes the breaker; another 429 makes
    a longer pause. An episode lasts from the first 429 to the answered probe.

    Args:
        rng: The source of the jitter.
        longest: Seconds of the longest pause.

    Attributes:
        since: When the episode began, or None while the breaker is closed.
        probe_at: When the next probe may go, while the breaker is open.
    """

    def __init__(self, rng: random.Random, *, longest: float = LONGEST_PAUSE) -> None:
        self._rng = rng
        self._longest = longest
        self.since: float | None = None
        self.probe_at = -math.inf
        self._pauses = 0
        self._is_probing = False

    @property
    def is_closed(self) -> bool:
        """Whether every request passes."""
        return self.since is None

    @property
    def refused_probes(self) -> int:
        """How many probes of this episode were refused."""
        return max(0, self._pauses - 1)

    def ready_at(self, now: float) -> float:
        """Return when a request may pass: `now`, a later time, or infinity during a probe."""
        if self.since is None:
            return now
        if self._is_probing:
            return math.inf
        return max(now, self.probe_at)

    def passed(self, now: float) -> None:
        """Note that a request passes now; once the pause is over it is the probe."""
        if self.since is not None and now >= self.probe_at:
            self._is_probing = True

    def refused(self, now: float, *, sent_at: float, retry_after: float | None) -> float:
        """Note a 429 to a request sent at `sent_at`; return the pause that it makes, or 0.

        Requests that were in flight when the breaker opened belong to the same episode: they may
        lengthen the pause by what the service asks for, and never count as a second 429.
        """
        asked = min(retry_after, self._longest) if retry_after is not None else 0.0
        if sent_at < self.probe_at:
            # While a probe is in flight its own answer decides: were `probe_at` moved beyond the
            # time at which it was sent, that answer would count as one from before the pause.
            settled = self.since is None or self._is_probing
            if settled or now + asked <= self.probe_at:
                return 0.0
            self.probe_at = now + asked
            return asked
        self._pauses += 1
        # The bound applies after the jitter, so that the longest pauses are all equal.
        longest = self._longest / JITTER[0]
        grown = growing_pause(
            self._pauses, self._rng, first=FIRST_PAUSE, longest=longest, jitter=JITTER
        )
        pause = asked or min(grown, self._longest)
        self.probe_at, self._is_probing = now + pause, False
        if self.since is None:
            self.since = now
        return pause

    def answered(self, *, sent_at: float) -> bool:
        """Note any other answer; return True if it closed the breaker."""
        # The answer to a request from before the pause proves nothing of the time since.
        if self.since is None or sent_at < self.probe_at:
            return False
        self.since, self._pauses, self._is_probing = None, 0, False
        return True

    def lost(self, *, sent_at: float) -> None:
        """Note the end of a request without an answer: a lost probe lets another one pass."""
        if self.since is not None and sent_at >= self.probe_at:
            self._is_probing = False
