"""What a 429 closes, for how long, and how it opens again: by one probe."""

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
    """A gate that 429s close and one successful probe opens.

    Open: everything passes. Closed: nothing, until a time. Then one probe passes; its success
    opens the gate, another 429 closes it for longer.

    Args:
        rng: The source of the jitter.
        longest: Seconds of the longest pause.
    """

    def __init__(self, rng: random.Random, *, longest: float = LONGEST_PAUSE) -> None:
        self._rng = rng
        self._longest = longest
        self._closed_at: float | None = None
        self._since: float | None = None
        self._opens_at = -math.inf
        self._pauses = 0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether everything passes."""
        return self._closed_at is None

    @property
    def since(self) -> float | None:
        """When the episode began in which the gate is closed, or None while it is open."""
        return self._since

    @property
    def opens_at(self) -> float:
        """When the next probe may go, while the gate is closed."""
        return self._opens_at

    @property
    def refused_probes(self) -> int:
        """How many probes of this episode were refused."""
        return max(0, self._pauses - 1)

    def ready_at(self, now: float) -> float:
        """Return when a request may pass: `now`, a later time, or infinity during a probe."""
        if self._closed_at is None:
            return now
        if self._probing:
            return math.inf
        return max(now, self._opens_at)

    def passed(self, now: float) -> None:
        """Note that a request passes now; once the pause is over it is the probe."""
        if self._closed_at is not None and now >= self._opens_at:
            self._probing = True

    def refused(self, now: float, *, sent_at: float, retry_after: float | None) -> float:
        """Note a 429 to a request sent at `sent_at`; return the pause that it makes, or 0.

        Requests which were on their way when the gate closed belong to the same episode: they
        may lengthen the pause by what the service asks for, and never count as a second one.
        """
        asked = min(retry_after, self._longest) if retry_after is not None else 0.0
        if sent_at < self._opens_at:
            # While a probe is out, its own answer decides: moving the time would disown it.
            settled = self._closed_at is None or self._probing
            if settled or now + asked <= self._opens_at:
                return 0.0
            self._opens_at = now + asked
            return asked
        self._pauses += 1
        # The bound applies after the jitter, so that pauses of that length are all equal.
        longest = self._longest / JITTER[0]
        grown = growing_pause(
            self._pauses, self._rng, first=FIRST_PAUSE, longest=longest, jitter=JITTER
        )
        pause = asked or min(grown, self._longest)
        self._closed_at, self._opens_at, self._probing = now, now + pause, False
        if self._since is None:
            self._since = now
        return pause

    def answered(self, *, sent_at: float) -> bool:
        """Note any other answer; say whether it opened the gate."""
        if self._closed_at is None or sent_at < self._opens_at:
            return False
        self._closed_at, self._since, self._pauses, self._probing = None, None, 0, False
        return True

    def lost(self, *, sent_at: float) -> None:
        """Note the end of a request without an answer: a lost probe lets another one pass."""
        if self._closed_at is not None and sent_at >= self._opens_at:
            self._probing = False
