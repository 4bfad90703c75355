"""How long recent tasks of one kind took, as a sample of how long the next ones will take."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Hashable, Iterator
from typing import Final

from apixo_async._polling.inspection import BEYOND_LONGEST, DurationSample

#: Tasks that are watched at once, and newest durations that are kept: few enough that the sample
#: follows the service when it becomes slower or faster.
WATCHED: Final = 128

#: The fewest durations that make a sample.
ENOUGH: Final = 8

#: There is no sample while more than this part of the tasks is running at an age beyond every
#: known duration: of tasks that start together the quick ones end first, and would be taken for
#: all.
UNSEEN: Final = 0.2

#: Each duration becomes four points, at these parts of its local spacing around it.
_SPREAD: Final = (-0.42, -0.14, 0.14, 0.42)


class Durations:
    """The newest durations of one kind of task, in seconds.

    Only watched tasks count, each until its end. The tasks that are over at any moment are the
    quick ones of those that began with them, so that counting every finished task would be biased;
    which tasks are watched is decided at their start, which does not depend on how long they take.
    """

    __slots__ = ("_newest", "_running", "ended")

    def __init__(self) -> None:
        self._newest: deque[float] = deque(maxlen=WATCHED)
        self._running: dict[Hashable, float] = {}
        self.ended = 0

    def watch(self, task: Hashable) -> None:
        """Watch a task that has just begun, unless enough of them are watched."""
        if len(self._running) < WATCHED:
            self._running[task] = 0.0

    def seen(self, task: Hashable, age: float) -> None:
        """Note that a task was running at an age."""
        if task in self._running:
            self._running[task] = age

    def end(self, task: Hashable, seconds: float | None) -> bool:
        """Watch a finished task no longer; return True if its duration counts."""
        if self._running.pop(task, None) is None or seconds is None:
            return False
        self._newest.append(seconds)
        self.ended += 1
        return True

    def sample(self) -> DurationSample | None:
        """Return what the next tasks may last, or None while too little is known.

        The empirical distribution is smoothed: polling exactly at observed durations overfits,
        and delays results by up to 10 % with 128 samples. Each duration becomes four points
        within its local spacing, which is taken from the square root of the sample's size in
        neighbours, on the side where they are nearer. So points stay close where durations are,
        spread in the tails, and never bridge the gap between two clusters.
        """
        if len(self._newest) < ENOUGH:
            return None
        known, running = sorted(self._newest), sorted(self._running.values())
        unseen = _part_beyond(known, running)
        older = round(len(known) * unseen / (1 - unseen))
        if older > UNSEEN * (older + len(known)):
            return None
        # Of tasks that run beyond every known duration only a lower bound is known: they are
        # spread evenly up to where polls no longer expect their end.
        span = (BEYOND_LONGEST - 1) / older if older else 0.0
        beyond = (known[-1] * (1 + span * (rank + 0.5)) for rank in range(older))
        return DurationSample(_spread([*known, *beyond]))


def _part_beyond(known: list[float], running: list[float]) -> float:
    """Return the part of the tasks that last longer than all known ones, by Kaplan and Meier.

    Args:
        known: Durations of finished tasks, ascending.
        running: Ages at which the others were seen running, ascending.
    """
    part = 1.0
    for over, duration in enumerate(known):
        at_risk = len(known) - over + len(running) - bisect_left(running, duration)
        part *= 1 - 1 / at_risk
    return part


def _spread(durations: list[float]) -> Iterator[float]:
    last, reach = len(durations) - 1, max(2, math.isqrt(len(durations)))
    for index, duration in enumerate(durations):
        below, above = min(reach, index), min(reach, last - index)
        spans = [
            abs(durations[index + sign * count] - duration) * reach / count
            for sign, count in ((-1, below), (1, above))
            if count > 1
        ]
        for part in _SPREAD:
            yield max(0.0, duration + part * min(spans))
