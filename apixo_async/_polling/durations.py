"""How long the tasks of one kind took of late, and what that says of the next ones."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterator
from typing import Final

from apixo_async._polling.inspection import GROWTH, DurationSample

#: So many tasks are watched at once, and so many of the newest durations are kept: the service
#: as it is, and not as it was.
WATCHED: Final = 128

#: With fewer durations than this nothing is known.
ENOUGH: Final = 8

#: Nor is it while more than this part of the tasks was seen running at an age at which none was
#: over: in a crowd that starts together, the quick ones end first.
UNSEEN: Final = 0.2

#: A duration stands for others nearby: these parts of the distance to its neighbours away.
_SPREAD: Final = (-0.42, -0.14, 0.14, 0.42)


class Durations:
    """The newest durations of one kind of task, in seconds.

    Only watched tasks count, each until its end. Whichever tasks are over at some moment are the
    quick ones of those that began with them; but when a task is watched says nothing of how long
    it will take.
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
        """Watch a task no longer that is over; say whether its duration counts."""
        if self._running.pop(task, None) is None or seconds is None:
            return False
        self._newest.append(seconds)
        self.ended += 1
        return True

    def sample(self) -> DurationSample | None:
        """Return what the next tasks may last, or None while too little is known.

        Polls that fit the very durations that were seen would be too sure of themselves: with
        128 of them the news would come up to a tenth later. So each is spread over the distance
        to its neighbours, the square root of their number, on the side where they are nearer:
        little where they are close together, more in the tails, and nothing across the gap
        between two clusters.
        """
        if len(self._newest) < ENOUGH:
            return None
        longest = max(self._newest)
        older = sum(age > longest for age in self._running.values())
        if older > UNSEEN * (older + len(self._newest)):
            return None
        unseen = (longest * (1 + 4 * GROWTH * (rank + 0.5) / older) for rank in range(older))
        return DurationSample(_spread([*sorted(self._newest), *unseen]))


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
