"""Polls that are held back: of models that are down, and of models with their share in flight."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from typing import Final

from apixo_async._http import verdicts
from apixo_async._http.concurrency import ConcurrencyLimit, has_share
from apixo_async._limits.breaker import CircuitBreaker
from apixo_async._polling.queue import PollQueue
from apixo_async._polling.schedule import CROWD, is_gone
from apixo_async._polling.tracked_task import PollState, TrackedTask
from apixo_async._reporting import Reporter
from apixo_async.errors import reason_of
from apixo_async.events import ServiceDown, ServiceRecovered

#: Consecutive polls without a usable answer, of any tasks of a model, after which it counts as
#: down.
FAILURES: Final = 5

#: The longest pause between two probes, in seconds: the end of an outage is noticed at most this
#: late.
LONGEST_PROBE_PAUSE: Final = 5.0


class Outage:
    """Let scheduled polls pass; during an outage only one probe at a time.

    Args:
        rng: The source of the jitter.
    """

    def __init__(self, rng: random.Random) -> None:
        self._breaker = CircuitBreaker(rng, longest=LONGEST_PROBE_PAUSE)
        self._failures = 0

    @property
    def is_on(self) -> bool:
        """Whether the service counts as down."""
        return not self._breaker.is_closed

    def ready_at(self, now: float) -> float:
        """Return when a scheduled poll may go: `now`, a later time, or infinity."""
        return self._breaker.ready_at(now)

    def passed(self, now: float) -> None:
        """Note that a poll goes out now: during an outage, after its pause, that is the probe."""
        self._breaker.passed(now)

    def failed(self, now: float, *, sent_at: float) -> bool:
        """Note a poll without a usable answer; return True if the outage begins with it."""
        self._failures += 1
        begins = self._breaker.is_closed
        # During an outage every failed probe counts, even if a late answer to an older poll has
        # just set the count back to 0.
        if begins and self._failures < FAILURES:
            return False
        self._breaker.refused(now, sent_at=sent_at, retry_after=None)
        return begins and self.is_on

    def answered(self, *, sent_at: float) -> bool:
        """Note a poll with a usable answer; return True if that ends the outage."""
        self._failures = 0
        return self._breaker.answered(sent_at=sent_at)

    def unclear(self, *, sent_at: float) -> None:
        """Note a poll that is no evidence for or against an outage, such as one that met a 429."""
        self._breaker.lost(sent_at=sent_at)


class _Group:
    """The tasks of one model, or of all models, whose polls answer 404."""

    def __init__(self) -> None:
        self.missing: set[TrackedTask] = set()
        self.found_at = -math.inf

    def is_lost(self, since: float) -> bool:
        """Return True if a crowd of tasks is missing, and none was found since a time."""
        return len(self.missing) >= CROWD and self.found_at < since


class _ModelOutage(_Group):
    """The outage of one model, and the tasks whose polls wait for its end."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.outage = Outage(rng)
        self.parked: deque[TrackedTask] = deque()
        self.candidate: TrackedTask | None = None
        self.since = 0.0


class Outages:
    """Hold back the scheduled polls of models that are down, except one probe at a time.

    Args:
        queue: Where polls are scheduled.
        rng: The source of the jitter.
        report: Where events go.
        pace: Makes overdue polls go out evenly instead of all at once.
    """

    def __init__(
        self, queue: PollQueue, rng: random.Random, report: Reporter, pace: Callable[[], None]
    ) -> None:
        self._queue = queue
        self._rng = rng
        self._report = report
        self._pace = pace
        self._models: dict[str, _ModelOutage] = {}
        self._all = _Group()

    def is_on(self, track: TrackedTask) -> bool:
        """Return True if the track's model counts as down."""
        return self._of(track).outage.is_on

    def park(self, track: TrackedTask, now: float) -> bool:
        """Hold a due poll back if its model is down; return True if it was held back."""
        model = self._of(track)
        if model.outage.ready_at(now) <= now:
            return False
        track.polling = PollState.PARKED
        model.parked.append(track)
        self._ensure_probe(model, now)
        return True

    def sent(self, track: TrackedTask, now: float) -> None:
        """Note that a poll goes out."""
        self._of(track).outage.passed(now)

    def failed(self, track: TrackedTask, now: float) -> bool:
        """Note a poll without a usable answer; return True if an outage begins with it."""
        model = self._of(track)
        if model.candidate is track:
            model.candidate = None  # The next probe polls another task: this one alone may fail.
        begins = model.outage.failed(now, sent_at=track.polled_at)
        if begins:
            model.since = now
        return begins

    def answered(self, track: TrackedTask, now: float) -> float | None:
        """Note a poll with a usable answer; return the seconds of the outage that it ends."""
        model = self._of(track)
        if not model.outage.answered(sent_at=track.polled_at):
            return None
        parked, model.parked = model.parked, deque()
        for waiting in parked:
            if waiting.polling is PollState.PARKED:
                waiting.polling = PollState.IDLE
                self._queue.schedule(waiting, now)
        return now - model.since

    def note(self, track: TrackedTask, verdict: verdicts.PollVerdict, now: float) -> None:
        """Note what a poll shows of the service: that it is down, is back, or knows its tasks."""
        match verdict:
            case verdicts.Faulty():
                if self.failed(track, now):
                    self._report(ServiceDown(track.ref.model, reason_of(verdict.error)))
            case verdicts.Throttled():
                self.unclear(track)
            case _:
                lasted = self.answered(track, now)
                if lasted is not None:
                    self._pace()
                    self._report(ServiceRecovered(track.ref.model, lasted))
        if track.seen and not isinstance(verdict, verdicts.Missing):
            # Only consecutive 404s count. Where the id may be mistyped a fault between two of them
            # resets nothing: it would only delay the error.
            track.misses = 0
        if isinstance(verdict, verdicts.Over | verdicts.Running):
            track.seen, track.misses = True, 0
            self._of(track).found_at = self._all.found_at = now

    def missed(self, track: TrackedTask, now: float) -> bool:
        """Note a poll that answered 404; return True if its task counts as gone with it."""
        track.misses += 1
        if track.misses == 1:
            track.missing_since = now
        span, groups = now - track.missing_since, (self._of(track), self._all)
        crowd = any(group.is_lost(track.missing_since) for group in groups)
        return is_gone(track.misses, span, seen=track.seen, crowd=crowd)

    def unclear(self, track: TrackedTask) -> None:
        """Note a poll that is no evidence for or against an outage, such as one that met a 429."""
        self._of(track).outage.unclear(sent_at=track.polled_at)

    def checked(self, track: TrackedTask, now: float) -> None:
        """Ensure that an outage has a probe; called whenever a task was polled or is over."""
        model = self._of(track)
        for group in (model, self._all):
            if track.misses and track.outcome is None:
                group.missing.add(track)
            else:
                group.missing.discard(track)
        self._ensure_probe(model, now)

    def _of(self, track: TrackedTask) -> _ModelOutage:
        model = self._models.get(track.ref.model)
        if model is None:
            model = self._models[track.ref.model] = _ModelOutage(self._rng)
        return model

    def _ensure_probe(self, model: _ModelOutage, now: float) -> None:
        ready = model.outage.ready_at(now)
        probe = model.candidate
        if ready == math.inf or (
            probe is not None and probe.outcome is None and probe.due is not None
        ):
            return  # A probe is in flight, or scheduled.
        while model.parked:
            track = model.parked.popleft()
            if track.polling is PollState.PARKED and track.outcome is None:
                track.polling = PollState.IDLE
                model.candidate = track
                self._queue.schedule(track, max(ready, now))
                return


class _ModelShare:
    """The polls of one model in flight, and the tasks that wait for one of them to end."""

    __slots__ = ("in_flight", "waiting")

    def __init__(self) -> None:
        self.in_flight = 0
        self.waiting: deque[TrackedTask] = deque()


class ModelShares:
    """Hold back polls of a model that has its share of the places in flight.

    A model whose polls hang would otherwise take every place, and results of other models would
    come late: by up to 30 s, the timeout of an exchange.

    Args:
        queue: Where polls are scheduled.
        places: The places for requests in flight.
    """

    def __init__(self, queue: PollQueue, places: ConcurrencyLimit) -> None:
        self._queue = queue
        self._places = places
        self._models: dict[str, _ModelShare] = {}

    def opened(self, track: TrackedTask) -> None:
        """Note a new task: as soon as there are two models, each leaves places to the others."""
        self._of(track)

    def hold_back(self, track: TrackedTask) -> bool:
        """Hold a due poll back until one of its model ends; return True if it was held back."""
        model = self._of(track)
        # A model that is alone may use every place.
        if len(self._models) == 1 or has_share(model.in_flight, self._places.free_for_polls):
            return False
        model.waiting.append(track)
        return True

    def sent(self, track: TrackedTask) -> None:
        """Note that a poll goes out."""
        self._of(track).in_flight += 1

    def returned(self, track: TrackedTask, now: float) -> None:
        """Note that a poll has ended: the next waiting one of its model is due."""
        model = self._of(track)
        model.in_flight -= 1
        while model.waiting:
            waiting = model.waiting.popleft()
            is_idle = waiting.due is None and waiting.polling is PollState.IDLE
            if is_idle and waiting.verdict() is None:
                if waiting.refreshers:
                    self._queue.ask(waiting)
                else:  # Scheduled, not asked for: its model may be down by now.
                    self._queue.schedule(waiting, now)
                return

    def _of(self, track: TrackedTask) -> _ModelShare:
        share = self._models.get(track.ref.model)
        if share is None:
            share = self._models[track.ref.model] = _ModelShare()
        return share
