"""When a task is polled next: at the documented times, with jitter, less often under load."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from typing import ClassVar, Final, NamedTuple, Protocol

from apixo_async._backoff import growing_pause

#: Each poll is delayed by a random part of its interval, at most this one, so that tasks which
#: were submitted together are not polled together for ever.
JITTER: Final = 0.1

#: A poll that failed is repeated after its interval, which doubles up to this many seconds.
LONGEST_PAUSE: Final = 60.0

#: Intervals after the documented first poll at which a callback counts as lost. By the documents
#: nearly every task is over then: 50 s for gpt-image-1, 210 s for videos.
LATE: Final = 10

#: Consecutive 404s, and the seconds that they must span, before a task counts as gone (invariant
#: 5). The span is short where no poll ever found the task, since its id may be mistyped, and
#: long where the task is known to exist.
MISSES: Final = 5
MISSES_SPAN: Final = 10.0
SEEN_SPAN: Final = 120.0

#: Seconds between the polls of a task that was never found: five of them, with jitter, take less
#: than 15 s, so that the user of a mistyped id is not kept waiting.
MISSES_PAUSE: Final = 2.6

#: This many tasks missing at the same time mean an outage of the service, not lost tasks.
CROWD: Final = 5

#: The part of all requests that polls may use, however many submits there are (invariant 3).
POLLS_SHARE: Final = 0.25


class PollTimes(NamedTuple):
    """When to poll one task by a fixed schedule.

    Attributes:
        first: Seconds from creation to the first poll.
        interval: Seconds from one poll to the next.
    """

    first: float
    interval: float


def next_poll(
    times: PollTimes, *, created: float, now: float, stretch: float, rng: random.Random
) -> float:
    """Return when to poll a running task next; never before its documented first poll.

    Args:
        times: The schedule of the task.
        created: When the task was created.
        now: The time of the poll that found it running.
        stretch: From `stretching`; 1 or more.
        rng: The source of the jitter.
    """
    interval = times.interval * stretch
    late = interval * JITTER * rng.random()
    return max(created + times.first, now + interval) + late


def first_poll(times: PollTimes, *, created: float, rng: random.Random) -> float:
    """Return when to poll a task for the first time."""
    return created + times.first + times.interval * JITTER * rng.random()


def late_poll(times: PollTimes, created: float) -> float:
    """Return when to poll a task for the first time although its callback has not come."""
    return created + times.first + LATE * times.interval


def late_again(times: PollTimes, *, age: float, now: float) -> float:
    """Return when to poll a task again whose callback is overdue and which still runs.

    The pause grows with the task's age, since the callback is still the likelier messenger.
    """
    return now + max(times.interval, age / 2)


def after_fault(times: PollTimes, *, faults: int, now: float, rng: random.Random) -> float:
    """Return when to poll again after `faults` consecutive polls without a usable answer."""
    longest = max(LONGEST_PAUSE, times.interval)
    jitter = (1.0, 1.0 + JITTER)
    return now + growing_pause(faults, rng, first=times.interval, longest=longest, jitter=jitter)


def stretching(load: float, submits: float, requests: float) -> float:
    """Return the factor by which intervals grow so that polls and submits fit the limit.

    Args:
        load: Polls a second that the schedules of all tasks ask for, the sum of 1 / interval.
        submits: Submits a second recently.
        requests: Requests a second that the limit allows.
    """
    available = max(requests * POLLS_SHARE, requests - submits)
    return max(1.0, load / available)


def after_miss(
    times: PollTimes, *, misses: int, seen: bool, now: float, rng: random.Random
) -> float:
    """Return when to poll again after `misses` consecutive polls that answered 404."""
    if seen:
        return after_fault(times, faults=misses, now=now, rng=rng)
    if misses >= MISSES:
        return after_fault(times, faults=misses - MISSES + 1, now=now, rng=rng)
    # The schedule of the model does not matter here: how long its tasks take has no bearing on
    # whether this one exists.
    return now + MISSES_PAUSE * (1 + JITTER * rng.random())


def is_gone(misses: int, span: float, *, seen: bool, crowd: bool) -> bool:
    """Return True if a task that answered 404 counts as gone.

    Args:
        misses: Consecutive 404s.
        span: Seconds from the first of them to the last.
        seen: Whether the task is known to exist: bought here, or found by a poll.
        crowd: Whether `CROWD` tasks are missing at the same time, which is an outage.
    """
    if seen and crowd:
        return False
    return misses >= MISSES and span >= (SEEN_SPAN if seen or crowd else MISSES_SPAN)


class Capacity(NamedTuple):
    """How many requests polls may use at one moment.

    Attributes:
        requests: Requests a second that the limit allows.
        submits: Submits a second recently.
        reserve: Seconds of unused permits, up to those of the burst.
        slots_wanted: Whether submits wait for slots.
        latency: Mean seconds of recent exchanges.
        lost: The share of callbacks that do not come, above zero; 1 where none are awaited.
    """

    requests: float
    submits: float
    reserve: float
    slots_wanted: bool
    latency: float
    lost: float = 1.0


class Schedule(Protocol):
    """When to poll each task of a client. Times are those of one monotonic clock."""

    #: Whether first polls move as durations are learned.
    learns: ClassVar[bool]

    def opened(self, kind: str, task: Hashable, /) -> None:
        """Note a new task."""
        ...

    def running(self, kind: str, task: Hashable, age: float, /, *, first: bool) -> None:
        """Note that a poll found a task running at an age in seconds; `first` for the first one."""
        ...

    def closed(self, kind: str, *, waited: bool) -> None:
        """Note that a task is over, and whether a poll had found it running before."""
        ...

    def learn(self, kind: str, task: Hashable, lasted: float | None, /) -> bool:
        """Learn how many seconds a finished task took; None if that is unknown.

        Returns:
            Whether first polls of tasks of this kind move with it.
        """
        ...

    def first(self, kind: str, created: float) -> float:
        """Return when to poll a task for the first time."""
        ...

    def again(self, kind: str, created: float, now: float, capacity: Capacity) -> float:
        """Return when to poll a task again that a poll found running."""
        ...

    def silent(
        self, kind: str, created: float, age: float, now: float, capacity: Capacity
    ) -> float:
        """Return when to poll a task next whose callback has not come.

        Args:
            kind: The kind of the task.
            created: When it was created.
            age: Its age in seconds when a poll last found it running, or 0.
            now: The time.
            capacity: How many requests polls may use.
        """
        ...

    def late(self, kind: str, created: float) -> float:
        """Return when the word of another process counts as lost: nearly every task is over."""
        ...

    def median(self, kind: str, /) -> float | None:
        """Return the median of the durations that were learned, in seconds, or None."""
        ...


class FixedSchedule:
    """Poll at fixed times, stretched while polls and submits would exceed the limit.

    Args:
        times_for: Gives the polling times of a kind of task.
        rng: The source of the jitter.
    """

    learns: ClassVar[bool] = False

    def __init__(self, times_for: Callable[[str], PollTimes], rng: random.Random) -> None:
        self._times_for = times_for
        self._rng = rng
        # Polls a second that all tasks past their first poll ask for. Kept as a running sum, so
        # that a poll costs O(1) with 1,000 tasks in flight.
        self.load = 0.0

    def opened(self, *_: object) -> None:
        """Do nothing: a new task asks for no polls yet."""

    def running(self, kind: str, *_: object, first: bool) -> None:
        """Count the task's polls in the load, from the first one on."""
        if first:
            self.load += 1 / self._times_for(kind).interval

    def closed(self, kind: str, *, waited: bool) -> None:
        """Count the task's polls no longer."""
        if waited:
            self.load -= 1 / self._times_for(kind).interval

    def learn(self, *_: object) -> bool:
        """Learn nothing: the times are fixed."""
        return False

    def first(self, kind: str, created: float) -> float:
        """Return when to poll a task for the first time."""
        return first_poll(self._times_for(kind), created=created, rng=self._rng)

    def again(self, kind: str, created: float, now: float, capacity: Capacity) -> float:
        """Return when to poll again."""
        stretch = stretching(self.load, capacity.submits, capacity.requests)
        times = self._times_for(kind)
        return next_poll(times, created=created, now=now, stretch=stretch, rng=self._rng)

    def silent(
        self, kind: str, created: float, age: float, now: float, capacity: Capacity
    ) -> float:
        """Return when to poll a task whose callback has not come: as late as possible."""
        del capacity
        late = self.late(kind, created)
        return max(late, late_again(self._times_for(kind), age=age, now=now)) if age else late

    def late(self, kind: str, created: float) -> float:
        """Return when the word of another process counts as lost."""
        return late_poll(self._times_for(kind), created)

    def median(self, kind: str, /) -> None:
        """Return None: nothing is learned."""
