"""What 429s hold back, for how long, and how a single probe ends that (invariant 4)."""

from __future__ import annotations

import math
import random
from typing import Final, Literal, NamedTuple

from apixo_async._backoff import growing_pause

#: The first pause without a `Retry-After`, and the longest pause at all, in seconds.
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0

#: The bounds of the random factor of a pause without a `Retry-After`.
JITTER: Final = (0.8, 1.2)


#: What a 429 holds back.
LimitScope = Literal["submits", "everything"]


class PauseReport(NamedTuple):
    """What a process tells of its breaker.

    Attributes:
        number: The pause that it takes part in; 0 for none.
        probe_in: Seconds until its own probe; None where it has none to send.
        is_wanted: Whether requests wait that it holds back.
    """

    number: int = 0
    probe_in: float | None = None
    is_wanted: bool = False


class PauseGrant(NamedTuple):
    """What a process is to do in a pause.

    Attributes:
        number: Which pause.
        probe_in: Seconds until the next probe.
        is_prober: Whether it sends that.
    """

    number: int
    probe_in: float
    is_prober: bool


class CircuitBreaker:
    """Hold requests back after a 429 until a probe is answered.

    Closed, as an electric circuit is: every request passes. A 429 opens it: no request passes for
    a pause. Then one request, the probe, passes. Its answer closes the breaker; another 429 makes
    a longer pause. An episode lasts from the first 429 to the answered probe.

    Where processes share an account they pause together, and one of them probes.

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
        self._is_probing = self._is_held = False
        self._number: int = 0

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
        if self._is_probing or self._is_held:
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
        self._close()
        return True

    def _close(self) -> None:
        self.since, self._pauses, self._is_probing = None, 0, False

    def lost(self, *, sent_at: float) -> None:
        """Note the end of a request without an answer: a lost probe lets another one pass."""
        if self.since is not None and sent_at >= self.probe_at:
            self._is_probing = False

    # --- where processes pause together --------------------------------------------------

    def report(self, now: float, *, is_wanted: bool) -> PauseReport:
        """Return what the other processes have to know of it.

        Args:
            now: The time.
            is_wanted: Whether requests wait that it holds back.
        """
        if self.since is None or self._is_held:
            return PauseReport(self._number, None, is_wanted)
        return PauseReport(
            self._number, max(0.0, self.probe_at - now), is_wanted or self._is_probing
        )

    def follow(self, pause: PauseGrant | None, now: float) -> bool:
        """Take part in a pause of all processes, or in none; return True if that closed it."""
        if pause is None:
            was_held, self._is_held, self._number = self._is_held, False, 0
            if was_held:
                self._close()
            return was_held
        probes_already = pause.is_prober and not self._is_held
        is_closed_here = self.since is None and pause.number == self._number
        self._number, self._is_held = pause.number, not pause.is_prober
        if probes_already and (is_closed_here or self.since is not None):
            return False  # The others follow this one.
        if self.since is None:
            self.since = now
        if pause.is_prober:
            self.probe_at = max(self.probe_at, now + min(pause.probe_in, self._longest))
            self._is_probing = False
        return False
