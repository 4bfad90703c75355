"""How much of a limit the service really grants: repeated 429s lower it, use raises it again."""

from __future__ import annotations

import math
from typing import Final

#: Seconds after a pause in which a second episode of 429s makes the first one more than a stray.
MEMORY: Final = 60.0

#: Seconds for which a wall is believed at first, and at most.
FIRST_BELIEF: Final = 15.0
LONGEST_BELIEF: Final = 300.0

#: A try that failed costs a pause; so many pauses later, the next one may cost as much again.
PAUSES_BETWEEN_TRIES: Final = 20

#: One step up is an eighth; one cut goes to a hundredth at the most, whatever the evidence.
STEP: Final = 8
DEEPEST_CUT: Final = 100


class AdaptiveLimit:
    """The part of a configured limit that may be used now: never above it, never below 1.

    A single 429 may be anybody's fault and lowers nothing. Where a probe is refused too, or a
    second episode follows within a minute, the ceiling falls, once an episode, to the use that the
    service is known to have granted meanwhile: that is the best evidence of the real limit.
    There it stays until it has been believed for a while, and rises only under pressure: while
    all of it is used and somebody waits for more. The first step beyond the wall is a try. If one
    is refused, the wall stands, and is believed for twice as long; if more than the wall is seen
    in use, the wall is gone, and the ceiling rises step by step.

    Args:
        limit: The configured limit, at least 1.
        interval: Seconds between two steps; 0 where use proves each step at once.
    """

    def __init__(self, limit: int, *, interval: float = 0.0) -> None:
        self._interval = interval
        self._start(limit)

    def _start(self, limit: int) -> None:
        self.limit = self.value = limit
        self._wall: int | None = None
        self._belief = FIRST_BELIEF
        self._next_step = -math.inf
        self._episode = self._paused_until = -math.inf
        self._is_cut = self._is_repeated = False

    def resize(self, limit: int) -> None:
        """Begin anew with another limit: whoever sets one knows what the account was given."""
        if limit != self.limit:
            self._start(limit)

    def pressed(self, now: float, use: int) -> bool:
        """Raise the ceiling by a step if it is time; say whether it was raised.

        Args:
            now: The time.
            use: What the service is known to grant. Only while somebody waits for more than the
                ceiling allows.
        """
        if self._wall is not None and self.value > self._wall:
            if use <= self._wall:
                return False  # A try is on, and nothing is known of it yet.
            self._wall, self._belief = None, FIRST_BELIEF
        if self.value >= self.limit or now < self._next_step:
            return False
        self.value = min(self.limit, self.value + max(1, self.value // STEP))
        self._next_step = now + self._interval
        return True

    def refused(
        self, now: float, *, use: int, episode: float, probed: bool, pause: float = 0.0
    ) -> bool:
        """Note a 429; say whether it lowered the ceiling.

        Args:
            now: The time.
            use: What the service was known to grant when it refused more.
            episode: When the first 429 of this episode came.
            probed: Whether a probe of this episode was refused.
            pause: Seconds of the pause that the 429 makes.
        """
        if episode != self._episode:
            self._episode, self._is_cut = episode, False
            self._is_repeated = now - self._paused_until <= MEMORY
        self._paused_until = max(self._paused_until, now + pause)
        before = self.value
        if self._wall is not None and self.value > self._wall:
            self._believe(self._wall, now, least=PAUSES_BETWEEN_TRIES * pause)
        elif not self._is_cut and (probed or self._is_repeated):
            self._is_cut = True
            found = max(1, self.value // DEEPEST_CUT, use)
            if found < self.value:
                self._believe(found, now)
        return self.value < before

    def _believe(self, wall: int, now: float, *, least: float = 0.0) -> None:
        """Stay at a wall: for longer each time that it is found again, or nearly."""
        known = self._wall is not None and abs(wall - self._wall) <= max(1, wall // STEP)
        self._belief = min(2 * self._belief, LONGEST_BELIEF) if known else FIRST_BELIEF
        self.value = self._wall = wall
        self._next_step = now + max(self._belief, least)
