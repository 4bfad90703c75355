"""How much of a limit the service really grants: repeated 429s lower it, use raises it again."""

from __future__ import annotations

import math
from typing import Final

#: Seconds after a pause within which a second episode of 429s proves that the first was no stray.
MEMORY: Final = 60.0

#: Seconds for which a limit that was found stands before more is tried: at first, and at most.
FIRST_REST: Final = 15.0
LONGEST_REST: Final = 300.0

#: A trial that fails costs a pause. As many pauses pass until the next trial, so that trials cost
#: a twentieth of the time at most.
PAUSES_BETWEEN_TRIALS: Final = 20

#: A step up is an eighth. A cut leaves a hundredth at least, since the use that is seen is only a
#: lower bound of what the service grants.
STEP: Final = 8
DEEPEST_CUT: Final = 100


class AdaptiveLimit:
    """The part of a configured limit that is used now: never above it, never below 1.

    A single 429 lowers nothing: another client of the account may have caused it. Where a probe is
    refused too, or a second episode of 429s follows within a minute, the value falls, once an
    episode, to the use that the service is known to have granted: the best evidence of its limit.

    The limit found stands for a while. Then the value rises, but only while all of it is used and
    more requests wait. The first step above the limit found is a trial. If the service refuses it,
    the value falls back, and stays there for twice as long. If more than the limit found is seen in
    use, that limit is forgotten, and the value rises step by step.

    Args:
        limit: The configured limit, at least 1.
        interval: Seconds between two steps; 0 where use proves each step at once.
    """

    def __init__(self, limit: int, *, interval: float = 0.0) -> None:
        self._interval = interval
        self._start(limit)

    def _start(self, limit: int) -> None:
        self.limit = self.value = limit
        self._found: int | None = None
        self._rest = FIRST_REST
        self._next_step = -math.inf
        self._episode = self._paused_until = -math.inf
        self._is_cut = self._is_repeated = False

    def resize(self, limit: int) -> None:
        """Begin anew with another limit: its caller knows better than old 429s."""
        if limit != self.limit:
            self._start(limit)

    def step_up(self, now: float, use: int) -> bool:
        """Raise the value by a step if it is time; return True if it was raised.

        Args:
            now: The time.
            use: What the service is known to grant. To be called only while more requests wait
                than the value allows.
        """
        if self._found is not None and self.value > self._found:
            if use <= self._found:
                return False  # The trial has not shown anything yet.
            self._found, self._rest = None, FIRST_REST
        if self.value >= self.limit or now < self._next_step:
            return False
        self.value = min(self.limit, self.value + max(1, self.value // STEP))
        self._next_step = now + self._interval
        return True

    def refused(
        self, now: float, *, use: int, episode: float, probed: bool, pause: float = 0.0
    ) -> bool:
        """Note a 429; return True if it lowered the value.

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
        if self._found is not None and self.value > self._found:
            self._fall(self._found, now, rest=PAUSES_BETWEEN_TRIALS * pause)
        elif not self._is_cut and (probed or self._is_repeated):
            self._is_cut = True
            found = max(1, self.value // DEEPEST_CUT, use)
            if found < self.value:
                self._fall(found, now)
        return self.value < before

    def _fall(self, found: int, now: float, *, rest: float = 0.0) -> None:
        # The same limit found again, within a step, was no accident: it stands for longer.
        known = self._found is not None and abs(found - self._found) <= max(1, found // STEP)
        self._rest = min(2 * self._rest, LONGEST_REST) if known else FIRST_REST
        self.value = self._found = found
        self._next_step = now + max(self._rest, rest)
