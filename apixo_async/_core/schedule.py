"""Who says when to look: a schedule. The one here goes by plans; `learned` has the other."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from typing import ClassVar, NamedTuple, Protocol

from apixo_async._core.plans import Plan, first_look, late_look, next_look, stretching


class Room(NamedTuple):
    """What room looks have at one moment.

    Attributes:
        requests: Requests a second that the limit allows.
        submits: Submits a second of late.
        reserve: Seconds of permits that nobody used, up to those of the burst.
        slots_wanted: Whether submits wait for slots.
        latency: Seconds of an exchange of late.
    """

    requests: float
    submits: float
    reserve: float
    slots_wanted: bool
    latency: float


class Schedule(Protocol):
    """When to look at each task of a client. Times are those of one monotonic clock."""

    #: Whether first looks move as durations are learned.
    learns: ClassVar[bool]

    def opened(self, kind: str, task: Hashable, /) -> None:
        """Note a new task."""
        ...

    def running(self, kind: str, task: Hashable, age: float, /, *, first: bool) -> None:
        """Note that a look found a task running, so many seconds old; say if it is the first."""
        ...

    def closed(self, kind: str, *, waited: bool) -> None:
        """Note that a task is over, and whether a look had found it running before."""
        ...

    def learn(self, kind: str, task: Hashable, lasted: float | None, /) -> bool:
        """Learn how many seconds a task lasted that is over, if anybody knows.

        Returns:
            Whether first looks at tasks of this kind move with it.
        """
        ...

    def first(self, kind: str, created: float) -> float:
        """Return when to look at a task for the first time."""
        ...

    def again(self, kind: str, created: float, now: float, room: Room) -> float:
        """Return when to look again at a task that was running when looked at."""
        ...

    def late(self, kind: str, created: float) -> float:
        """Return when nearly every task is over: a callback that is not here is lost."""
        ...


class Planned:
    """Look by plans, stretched while looks and submits would not fit the limit.

    Args:
        plan_for: Gives the plan of a kind of task.
        rng: The source of the jitter.
    """

    learns: ClassVar[bool] = False

    def __init__(self, plan_for: Callable[[str], Plan], rng: random.Random) -> None:
        self._plan_for = plan_for
        self._rng = rng
        # Looks a second that the tasks past their first look ask for together.
        self.load = 0.0

    def opened(self, *_: object) -> None:
        """Do nothing: a new task asks for no looks yet."""

    def running(self, kind: str, *_: object, first: bool) -> None:
        """Count the task's looks in the load, from the first one on."""
        if first:
            self.load += 1 / self._plan_for(kind).interval

    def closed(self, kind: str, *, waited: bool) -> None:
        """Count the task's looks no longer."""
        if waited:
            self.load -= 1 / self._plan_for(kind).interval

    def learn(self, *_: object) -> bool:
        """Learn nothing: the plan stays."""
        return False

    def first(self, kind: str, created: float) -> float:
        """Return when to look at a task for the first time."""
        return first_look(self._plan_for(kind), created=created, rng=self._rng)

    def again(self, kind: str, created: float, now: float, room: Room) -> float:
        """Return when to look again."""
        stretch = stretching(self.load, room.submits, room.requests)
        plan = self._plan_for(kind)
        return next_look(plan, created=created, now=now, stretch=stretch, rng=self._rng)

    def late(self, kind: str, created: float) -> float:
        """Return when a callback that is not here counts as lost."""
        return late_look(self._plan_for(kind), created)
