"""When a task is polled next: by the documented times, with jitter, stretched under load."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from typing import ClassVar, Final, NamedTuple, Protocol

from apixo_async._backoff import growing_pause

#: Polls come up to this share of the interval later than planned, so that crowds disperse.
JITTER: Final = 0.1

#: A poll that failed is repeated after its interval, doubled up to this many seconds.
LONGEST_PAUSE: Final = 60.0

#: Intervals beyond the plan's first poll after which a callback counts as lost. By the documents
#: nearly every task is over then: 50 s for gpt-image-1, 210 s for videos.
LATE: Final = 10

#: Polls in a row that answer 404, and the seconds that they must span, until a task counts as
#: gone: a short time where no poll ever found it, since its id may be mistyped, and a long one
#: where it is known to exist.
MISSES: Final = 5
MISSES_SPAN: Final = 10.0
SEEN_SPAN: Final = 120.0

#: Seconds from one such poll to the next while the short time runs: it ends within 15 s.
MISSES_PAUSE: Final = 2.6

#: So many tasks that are missing at once are an outage of the service.
CROWD: Final = 5

#: The part of all requests that polls may use, however many submits there are.
POLLS_SHARE: Final = 0.25


class PollTimes(NamedTuple):
    """When to poll one task.

    Attributes:
        first: Seconds from creation to the first poll.
        interval: Seconds from one poll to the next.
    """

    first: float
    interval: float


def next_poll(
    plan: PollTimes, *, created: float, now: float, stretch: float, rng: random.Random
) -> float:
    """Return when to poll a task next that still runs.

    Args:
        plan: The plan of the task.
        created: When the task was created.
        now: The present.
        stretch: From `stretching`; 1 or more.
        rng: The source of the jitter.
    """
    interval = plan.interval * stretch
    late = interval * JITTER * rng.random()
    return max(created + plan.first, now + interval) + late


def first_poll(plan: PollTimes, *, created: float, rng: random.Random) -> float:
    """Return when to poll a task for the first time."""
    return created + plan.first + plan.interval * JITTER * rng.random()


def late_poll(plan: PollTimes, created: float) -> float:
    """Return when to poll a task for the first time of which a callback is to tell."""
    return created + plan.first + LATE * plan.interval


def late_again(plan: PollTimes, *, age: float, now: float) -> float:
    """Return when to poll such a task again that was running, so many seconds old."""
    return now + max(plan.interval, age / 2)


def after_fault(plan: PollTimes, *, faults: int, now: float, rng: random.Random) -> float:
    """Return when to poll again after `faults` polls in a row whose answers said nothing."""
    longest = max(LONGEST_PAUSE, plan.interval)
    jitter = (1.0, 1.0 + JITTER)
    return now + growing_pause(faults, rng, first=plan.interval, longest=longest, jitter=jitter)


def stretching(load: float, submits: float, requests: float) -> float:
    """Return the factor by which intervals grow so that polls and submits fit the limit.

    Args:
        load: Polls a second that all plans together ask for, the sum of 1 / interval.
        submits: Submits a second of late.
        requests: Requests a second that the limit allows.
    """
    room = max(requests * POLLS_SHARE, requests - submits)
    return max(1.0, load / room)


def after_miss(
    plan: PollTimes, *, misses: int, seen: bool, now: float, rng: random.Random
) -> float:
    """Return when to poll again after `misses` polls in a row that were answered 404."""
    if seen:
        return after_fault(plan, faults=misses, now=now, rng=rng)
    if misses >= MISSES:
        return after_fault(plan, faults=misses - MISSES + 1, now=now, rng=rng)
    # Whatever its plan: what such tasks take says nothing of one that may not be there.
    return now + MISSES_PAUSE * (1 + JITTER * rng.random())


def is_gone(misses: int, span: float, *, seen: bool, crowd: bool) -> bool:
    """Return True if a task that answered 404 counts as gone.

    Args:
        misses: How often it did, in a row.
        span: Seconds from the first of these answers to the last.
        seen: Whether it is known to exist: bought here, or found by a poll.
        crowd: Whether so many tasks are missing with it that it is an outage.
    """
    if seen and crowd:
        return False
    return misses >= MISSES and span >= (SEEN_SPAN if seen or crowd else MISSES_SPAN)


class Capacity(NamedTuple):
    """What room polls have at one moment.

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
    """When to poll each task of a client. Times are those of one monotonic clock."""

    #: Whether first polls move as durations are learned.
    learns: ClassVar[bool]

    def opened(self, kind: str, task: Hashable, /) -> None:
        """Note a new task."""
        ...

    def running(self, kind: str, task: Hashable, age: float, /, *, first: bool) -> None:
        """Note that a poll found a task running, so many seconds old; say if it is the first."""
        ...

    def closed(self, kind: str, *, waited: bool) -> None:
        """Note that a task is over, and whether a poll had found it running before."""
        ...

    def learn(self, kind: str, task: Hashable, lasted: float | None, /) -> bool:
        """Learn how many seconds a task lasted that is over, if anybody knows.

        Returns:
            Whether first polls of tasks of this kind move with it.
        """
        ...

    def first(self, kind: str, created: float) -> float:
        """Return when to poll a task for the first time."""
        ...

    def again(self, kind: str, created: float, now: float, room: Capacity) -> float:
        """Return when to poll a task again that was running when polled."""
        ...

    def late(self, kind: str, created: float) -> float:
        """Return when nearly every task is over: a callback that is not here is lost."""
        ...


class FixedSchedule:
    """Poll by plans, stretched while polls and submits would not fit the limit.

    Args:
        plan_for: Gives the plan of a kind of task.
        rng: The source of the jitter.
    """

    learns: ClassVar[bool] = False

    def __init__(self, plan_for: Callable[[str], PollTimes], rng: random.Random) -> None:
        self._plan_for = plan_for
        self._rng = rng
        # Polls a second that the tasks past their first poll ask for together.
        self.load = 0.0

    def opened(self, *_: object) -> None:
        """Do nothing: a new task asks for no polls yet."""

    def running(self, kind: str, *_: object, first: bool) -> None:
        """Count the task's polls in the load, from the first one on."""
        if first:
            self.load += 1 / self._plan_for(kind).interval

    def closed(self, kind: str, *, waited: bool) -> None:
        """Count the task's polls no longer."""
        if waited:
            self.load -= 1 / self._plan_for(kind).interval

    def learn(self, *_: object) -> bool:
        """Learn nothing: the plan stays."""
        return False

    def first(self, kind: str, created: float) -> float:
        """Return when to poll a task for the first time."""
        return first_poll(self._plan_for(kind), created=created, rng=self._rng)

    def again(self, kind: str, created: float, now: float, room: Capacity) -> float:
        """Return when to poll again."""
        stretch = stretching(self.load, room.submits, room.requests)
        plan = self._plan_for(kind)
        return next_poll(plan, created=created, now=now, stretch=stretch, rng=self._rng)

    def late(self, kind: str, created: float) -> float:
        """Return when a callback that is not here counts as lost."""
        return late_poll(self._plan_for(kind), created)
