"""Whether the service is down, as polls show it; then one poll at a time asks if it is back."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from typing import Final

from apixo_async._http import verdicts
from apixo_async._limits.breaker import CircuitBreaker
from apixo_async._polling.queue import PollQueue
from apixo_async._polling.schedule import CROWD, is_gone
from apixo_async._polling.tracked_task import PollState, TrackedTask
from apixo_async._reporting import Reporter
from apixo_async.errors import reason_of
from apixo_async.events import ServiceDown, ServiceRecovered

#: Polls in a row that told nothing, of whatever tasks, until the service counts as down.
FAILURES: Final = 5

#: The longest pause between two probes, in seconds: so late is the end of an outage noticed.
LONGEST_PROBE_PAUSE: Final = 5.0


class Outage:
    """Let scheduled polls pass, but while the service is down only a probe now and then.

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
        """Note that a poll goes out now; during an outage, once its pause is over, the probe."""
        self._breaker.passed(now)

    def failed(self, now: float, *, sent_at: float) -> bool:
        """Note a poll that told nothing; say whether with it the outage begins."""
        self._failures += 1
        begins = self._breaker.is_closed
        # While it lasts each probe counts, even after a late answer to an older poll.
        if begins and self._failures < FAILURES:
            return False
        self._breaker.refused(now, sent_at=sent_at, retry_after=None)
        return begins and self.is_on

    def told(self, *, sent_at: float) -> bool:
        """Note a poll that the service answered; say whether that ends the outage."""
        self._failures = 0
        return self._breaker.answered(sent_at=sent_at)

    def unclear(self, *, sent_at: float) -> None:
        """Note a poll that says nothing of an outage, such as one that met a 429."""
        self._breaker.lost(sent_at=sent_at)


class _Group:
    """The tracks of one model, or of all, whose polls answer 404."""

    def __init__(self) -> None:
        self.missing: set[TrackedTask] = set()
        self.found_at = -math.inf

    def is_lost(self, since: float) -> bool:
        """Return True if many tracks are missing, and no track was found since a time."""
        return len(self.missing) >= CROWD and self.found_at < since


class _ModelOutage(_Group):
    """The outage of one model, and the tracks whose polls wait for its end."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.outage = Outage(rng)
        self.parked: deque[TrackedTask] = deque()
        self.candidate: TrackedTask | None = None
        self.since = 0.0


class Outages:
    """Hold back the scheduled polls of models that are down, but for one probe at a time.

    Args:
        queue: Where the polls are planned.
        rng: The source of the jitter.
        report: Where events go.
        pace: Has what is overdue go out evenly, and not all at once.
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
        """Hold a due poll back if its model is down; say whether that was done."""
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
        """Note a poll that told nothing; say whether with it an outage begins."""
        model = self._of(track)
        if model.candidate is track:
            model.candidate = None  # The next probe is another task's: this one alone may be odd.
        begins = model.outage.failed(now, sent_at=track.polled_at)
        if begins:
            model.since = now
        return begins

    def told(self, track: TrackedTask, now: float) -> float | None:
        """Note a poll that was answered; return how long the outage lasted that it ends."""
        model = self._of(track)
        if not model.outage.told(sent_at=track.polled_at):
            return None
        parked, model.parked = model.parked, deque()
        for waiting in parked:
            if waiting.polling is PollState.PARKED:
                waiting.polling = PollState.IDLE
                self._queue.plan(waiting, now)
        return now - model.since

    def weigh(self, track: TrackedTask, verdict: verdicts.PollVerdict, now: float) -> None:
        """Note what a poll says of the service: that it is down, back, or knows its tasks."""
        match verdict:
            case verdicts.Faulty():
                if self.failed(track, now):
                    self._report(ServiceDown(track.ref.model, reason_of(verdict.error)))
            case verdicts.Throttled():
                self.unclear(track)
            case _:
                lasted = self.told(track, now)
                if lasted is not None:
                    self._pace()
                    self._report(ServiceRecovered(track.ref.model, lasted))
        if track.seen and not isinstance(verdict, verdicts.Missing):
            track.misses = 0  # Nothing but 404s counts.
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
        """Note a poll that says nothing of an outage, such as one that met a 429."""
        self._of(track).outage.unclear(sent_at=track.polled_at)

    def checked(self, track: TrackedTask, now: float) -> None:
        """See that somebody probes; called whenever a track was polled or is over."""
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
        if ready == math.inf or _is_planned(model.candidate):
            return
        while model.parked:
            track = model.parked.popleft()
            if track.polling is PollState.PARKED and track.outcome is None:
                track.polling = PollState.IDLE
                model.candidate = track
                self._queue.plan(track, max(ready, now))
                return


def _is_planned(track: TrackedTask | None) -> bool:
    return track is not None and track.outcome is None and track.due is not None
