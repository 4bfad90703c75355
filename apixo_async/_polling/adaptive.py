"""Polls that follow how long tasks of a kind took of late, at the price of a request."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import ClassVar, Final

from apixo_async._catalog import timing
from apixo_async._polling.durations import ENOUGH, WATCHED, Durations
from apixo_async._polling.inspection import DurationSample, IntervalBounds
from apixo_async._polling.prices import PriceList, clearing_price
from apixo_async._polling.schedule import POLLS_SHARE, Capacity, FixedSchedule, PollTimes

#: So many kinds are known at once; the oldest one without a task makes room for another.
MOST_KINDS: Final = 256

#: Seconds for which a price that clears the requests stays, since finding it takes work.
_PRICED_FOR: Final = 0.5

#: Slots count as wanted for so many seconds after somebody waited for one: where many become
#: free at once nobody waits for a moment, and as many do in the next.
_WANTED_FOR: Final = 10.0

#: The reserve of permits that prices leave, in seconds, and by how many seconds less it has to
#: be for prices to grow by e. Too eager a correction swings, as polls follow it late; with these
#: two 98 % of the limit were used, without a swing, by tasks of 6 to 30 s.
_RESERVE: Final = 1.0
_YIELDING: Final = 3.0

#: A callback counts as lost after this many times the duration which such a part of the tasks
#: does not exceed. Of the fewest durations, 8, one is beyond it: an outlier moves nothing.
_BEYOND: Final = 1.1
_NEARLY_ALL: Final = 7 / 8


class _LearnedKind:
    """What is known of one kind of task."""

    __slots__ = ("_considered", "_plan", "durations", "prices", "sample", "tracked")

    def __init__(self, plan: PollTimes) -> None:
        self._plan = plan
        self._considered = 0
        self.tracked = 0
        self.durations = Durations()
        self.sample: DurationSample | None = None
        self.prices: PriceList | None = None

    def learn(self, task: Hashable, lasted: float | None, pace: IntervalBounds) -> bool:
        """Learn how long a task lasted; say whether that changes when to poll."""
        durations = self.durations
        if not durations.end(task, lasted):
            return False
        # The more durations there are, the less a new one changes.
        if durations.ended - self._considered < min(durations.ended, WATCHED) // ENOUGH:
            return False
        self._considered = durations.ended
        self.sample = durations.sample()
        if self.sample is not None:
            budget = self.sample.polls_by(self._plan.first, self._plan.interval)
            self.prices = PriceList(self.sample, budget, pace)
        return True


class AdaptiveSchedule:
    """Poll where the expected idle time reaches the price of a request.

    The price of a kind keeps its polls per task at or below those of its plan. Where submits and
    polls together would exceed the limit, all kinds pay the price that makes them fit; and where
    submits wait for slots they pay no more than that, so that slots are free again the sooner.

    Args:
        plan_for: Gives the plan of a kind of task.
        planned: Says when to poll kinds that nothing is known of.
        pace: The bounds of all polls.
    """

    learns: ClassVar[bool] = True

    def __init__(
        self, plan_for: Callable[[str], PollTimes], planned: FixedSchedule, pace: IntervalBounds
    ) -> None:
        self._plan_for = plan_for
        self._planned = planned
        self._pace = pace
        self._kinds: dict[str, _LearnedKind] = {}
        self._slots_wanted = False
        self._wanted_at = -math.inf
        self._latency = 0.0
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
        self._planned.running(kind, first=first)
        self._of(kind).durations.seen(task, age)

    def closed(self, kind: str, *, waited: bool) -> None:
        """Note that a task is over."""
        self._planned.closed(kind, waited=waited)
        self._of(kind).tracked -= 1

    def learn(self, kind: str, task: Hashable, lasted: float | None, /) -> bool:
        """Learn how long a task lasted; say whether that moves first polls."""
        return self._of(kind).learn(task, lasted, self._pace)

    def first(self, kind: str, created: float) -> float:
        """Return when to poll a task for the first time."""
        known = self._of(kind)
        if known.sample is None:
            return created + self._plan_for(kind).first
        return self._due(known, known.sample, created, 0.0)

    def again(self, kind: str, created: float, now: float, room: Capacity) -> float:
        """Return when to poll again."""
        self._consider(room, now)
        known = self._of(kind)
        if known.sample is None:
            due = self._planned.again(kind, created, now, room)
            return created + self._pace.bound(now - created, due - created)
        return self._due(known, known.sample, created, now - created)

    def late(self, kind: str, created: float) -> float:
        """Return when a callback that is not here counts as lost."""
        sample = self._of(kind).sample
        if sample is None:
            late = self._planned.late(kind, created) - created
        else:
            late = _BEYOND * sample.quantile(_NEARLY_ALL)
        return created + max(self._pace.floor, min(late, timing(kind).longest))

    def _due(
        self, known: _LearnedKind, sample: DurationSample, created: float, age: float
    ) -> float:
        due = created + sample.next_poll(age, self._price(known), self._pace)
        # The task counts from the answer to its submit, which took half an exchange to get here,
        # as a poll takes half of one to get there.
        return max(created + age, due - self._latency)

    def _of(self, kind: str) -> _LearnedKind:
        known = self._kinds.get(kind)
        if known is None:
            if len(self._kinds) >= MOST_KINDS:
                self._forget_one()
            known = self._kinds[kind] = _LearnedKind(self._plan_for(kind))
        return known

    def _forget_one(self) -> None:
        idle = next((kind for kind, known in self._kinds.items() if not known.tracked), None)
        if idle is not None:
            del self._kinds[idle]

    def _price(self, known: _LearnedKind) -> float:
        prices = known.prices
        assert prices is not None  # It comes with the sample.
        # While submits wait for slots each second of idle time is a second of a slot: then
        # requests that nobody needs are best spent on polls, be they more than the plan's.
        lowest = 0.0 if self._slots_wanted else prices.planned
        return prices.bound(max(lowest, self._clearing * self._scarcity))

    def _consider(self, room: Capacity, now: float) -> None:
        """Find the price at which polls and submits fit the limit.

        What is known of the tasks gives it at once; what is left of the reserve corrects it.
        """
        self._latency = room.latency
        if room.slots_wanted:
            self._wanted_at = now
        self._slots_wanted = now - self._wanted_at < _WANTED_FOR
        self._scarcity = math.exp((_RESERVE - room.reserve) / _YIELDING)
        if now - self._priced_at < _PRICED_FOR:
            return
        self._priced_at = now
        kinds = self._kinds.values()
        tracked = ((one.tracked, one.prices) for one in kinds if one.prices is not None)
        if self._slots_wanted:
            self._clearing = clearing_price(tracked, room.requests, submits=1)
        else:
            polls = max(room.requests * POLLS_SHARE, room.requests - room.submits)
            self._clearing = clearing_price(tracked, polls, submits=0)
