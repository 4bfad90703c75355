"""Polls that follow how long recent tasks took; `apixo docs polling` explains the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import ClassVar, Final

from apixo_async._catalog import timing
from apixo_async._polling.durations import ENOUGH, WATCHED, Durations
from apixo_async._polling.inspection import DurationSample, IntervalBounds
from apixo_async._polling.prices import PriceList, clearing_price
from apixo_async._polling.schedule import POLLS_SHARE, Capacity, FixedSchedule, PollTimes

#: Kinds that are remembered at once; the oldest one without a task in flight is dropped first.
MOST_KINDS: Final = 256

#: Seconds for which a clearing price is kept, since finding one walks over all kinds.
_PRICED_FOR: Final = 0.5

#: Seconds for which slots count as wanted after a submit waited for one. Where many slots become
#: free at once the queue of submits is empty for a moment, and as long as before in the next.
_WANTED_FOR: Final = 10.0

#: The reserve of permits, in seconds, at which prices need no correction, and the shortfall at
#: which they grow by the factor e. A stronger correction oscillates, since polls follow it late;
#: these two values used 98 % of the limit, without oscillation, with tasks of 6 to 30 s.
_RESERVE: Final = 1.0
_YIELDING: Final = 3.0

#: A callback counts as lost after this many times the duration that 7 of 8 tasks do not exceed.
#: Of the smallest sample, 8 durations, one is longer than that: one outlier changes nothing.
_BEYOND: Final = 1.1
_NEARLY_ALL: Final = 7 / 8

#: The delay target is this part of the result delay that 99 of 100 tasks would not exceed at the
#: documented times: a sample is never exact.
_P99: Final = 0.99
_TARGET: Final = 0.75


class _LearnedKind:
    """What is known of one kind of task."""

    __slots__ = ("_considered", "_times", "bounds", "durations", "prices", "sample", "tracked")

    def __init__(self, times: PollTimes, bounds: IntervalBounds) -> None:
        self._times = times
        self._considered = 0
        self.tracked = 0
        self.bounds = bounds
        self.durations = Durations()
        self.sample: DurationSample | None = None
        self.prices: PriceList | None = None

    def learn(self, task: Hashable, lasted: float | None, lost: float) -> bool:
        """Learn how long a task lasted; return True if that changes when to poll."""
        durations = self.durations
        if not durations.end(task, lasted):
            return False
        # Pricing a sample of 128 durations takes some 20 ms of the event loop, and the more there
        # are, the less a new one changes: then every sixteenth is enough.
        if durations.ended - self._considered < min(durations.ended, WATCHED) // ENOUGH:
            return False
        self._considered = durations.ended
        self.sample = durations.sample()
        if self.sample is not None:
            budget = self.sample.polls_by(*self._times)
            target = _TARGET * self.sample.delay_by(*self._times, _P99)
            self.bounds = self.bounds._replace(delay_target=target)
            self.prices = PriceList(self.sample, budget, self.bounds, lost)
        return True


class AdaptiveSchedule:
    """Poll where the expected idle time of a finished task reaches the price of a request.

    By default the price of a kind keeps its polls per task at or below those of its documented
    times. Where submits and polls together would exceed the limit, all kinds pay the one price at
    which they fit. Where submits wait for slots, kinds pay no more than that price: an earlier
    poll then frees a slot earlier.

    Args:
        times_for: Gives the documented polling times of a kind of task.
        fixed: Says when callbacks count as lost of kinds of which too little is known.
        bounds: The bounds of all polls.
    """

    learns: ClassVar[bool] = True

    def __init__(
        self, times_for: Callable[[str], PollTimes], fixed: FixedSchedule, bounds: IntervalBounds
    ) -> None:
        self._times_for = times_for
        self._fixed = fixed
        self._bounds = bounds
        self._kinds: dict[str, _LearnedKind] = {}
        self._slots_wanted = False
        self._wanted_at = -math.inf
        self._latency = 0.0
        self._lost = 1.0
        self._clearing = 0.0
        self._scarcity = 1.0
        self._priced_at = -math.inf

    def opened(self, kind: str, task: Hashable, /) -> None:
        """Note a new task, and watch it."""
        known = self._of(kind)
        known.tracked += 1
        known.durations.watch(task)

    def running(self, kind: str, task: Hashable, age: float, /, *, first: bool) -> None:
        """Note that a poll found a task running."""
        del first
        self._of(kind).durations.seen(task, age)

    def closed(self, kind: str, *, waited: bool) -> None:
        """Note that a task is over."""
        del waited
        self._of(kind).tracked -= 1

    def learn(self, kind: str, task: Hashable, lasted: float | None, /) -> bool:
        """Learn how long a task lasted; return True if that moves first polls."""
        return self._of(kind).learn(task, lasted, self._lost)

    def first(self, kind: str, created: float) -> float:
        """Return when to poll a task for the first time."""
        known = self._of(kind)
        if known.sample is None:
            return created + self._times_for(kind).first
        return self._due(known, known.sample, created, 0.0, known.bounds)

    def again(self, kind: str, created: float, now: float, capacity: Capacity) -> float:
        """Return when to poll again."""
        self._update_price(capacity, now)
        known = self._of(kind)
        if known.sample is None:
            # Without jitter, and not stretched: where permits are short, polls wait for theirs in
            # turn, and the latest results of a crowd come earlier than at longer intervals.
            first, interval = self._times_for(kind)
            age = now - created
            return created + self._bounds.bound(age, max(first, age + interval))
        return self._due(known, known.sample, created, now - created, known.bounds)

    def silent(
        self, kind: str, created: float, age: float, now: float, capacity: Capacity
    ) -> float:
        """Return when to poll a task whose callback has not come."""
        self._update_price(capacity, now)
        known = self._of(kind)
        if known.sample is None:
            return self._fixed.silent(kind, created, age, now, capacity)
        # The ceiling is for polls that find a task running, and not for the wait for a callback.
        bounds = known.bounds._replace(ceiling=timing(kind).longest)
        return self._due(known, known.sample, created, age, bounds, capacity.lost)

    def late(self, kind: str, created: float) -> float:
        """Return when the word of another process counts as lost."""
        sample = self._of(kind).sample
        if sample is None:
            late = self._fixed.late(kind, created) - created
        else:
            late = _BEYOND * sample.quantile(_NEARLY_ALL)
        return created + max(self._bounds.floor, min(late, timing(kind).longest))

    def median(self, kind: str, /) -> float | None:
        """Return the median of the durations that were learned, in seconds, or None."""
        known = self._kinds.get(kind)
        return None if known is None or known.sample is None else known.sample.quantile(0.5)

    def _price(self, known: _LearnedKind) -> float:
        prices = known.prices
        assert prices is not None  # It is made with the sample.
        # While submits wait for slots, each second of idle time is a second of a slot: requests
        # that nothing else needs are best spent on polls, even beyond the documented number.
        lowest = 0.0 if self._slots_wanted else prices.scheduled
        return prices.bound(max(lowest, self._clearing * self._scarcity))

    def _due(
        self,
        known: _LearnedKind,
        sample: DurationSample,
        created: float,
        age: float,
        bounds: IntervalBounds,
        lost: float = 1.0,
    ) -> float:
        # The age counts from the answer to the submit, which took half an exchange to arrive, as
        # a poll takes half of one to reach the service: one latency earlier hits the same age.
        due = created + sample.next_poll(age, self._price(known), bounds, lost)
        return max(created + age, due - self._latency)

    def _of(self, kind: str) -> _LearnedKind:
        known = self._kinds.get(kind)
        if known is None:
            if len(self._kinds) >= MOST_KINDS:
                idle = next((one for one, its in self._kinds.items() if not its.tracked), None)
                if idle is not None:
                    del self._kinds[idle]
            known = self._kinds[kind] = _LearnedKind(self._times_for(kind), self._bounds)
        return known

    def _update_price(self, capacity: Capacity, now: float) -> None:
        """Find the price at which polls and submits fit the limit.

        What is known of the tasks predicts that price at once; the reserve of permits, which is
        measured, corrects it.
        """
        self._latency, self._lost = capacity.latency, capacity.lost
        if capacity.slots_wanted:
            self._wanted_at = now
        self._slots_wanted = now - self._wanted_at < _WANTED_FOR
        self._scarcity = math.exp((_RESERVE - capacity.reserve) / _YIELDING)
        if now - self._priced_at < _PRICED_FOR:
            return
        self._priced_at = now
        kinds = self._kinds.values()
        tracked = ((one.tracked, one.prices) for one in kinds if one.prices is not None)
        if self._slots_wanted:
            # Each finished task makes a waiting submit possible, which takes a request itself.
            self._clearing = clearing_price(tracked, capacity.requests, submits=1)
        else:
            polls = max(capacity.requests * POLLS_SHARE, capacity.requests - capacity.submits)
            self._clearing = clearing_price(tracked, polls, submits=0)
