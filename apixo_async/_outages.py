"""The looks that wait while a model's part of the service is down, and the one that probes."""

from __future__ import annotations

import math
import random
from collections import deque

from apixo_async._agenda import Agenda
from apixo_async._core.outage import Outage
from apixo_async._track import Track


class _Model:
    """The outage of one model, and the tracks whose looks wait for its end."""

    def __init__(self, rng: random.Random) -> None:
        self.outage = Outage(rng)
        self.parked: deque[Track] = deque()
        self.candidate: Track | None = None
        self.since = 0.0


class Outages:
    """Hold back the scheduled looks of models that are down, but for one probe at a time.

    Args:
        agenda: Where the looks are planned.
        rng: The source of the jitter.
    """

    def __init__(self, agenda: Agenda, rng: random.Random) -> None:
        self._agenda = agenda
        self._rng = rng
        self._models: dict[str, _Model] = {}

    def is_on(self, track: Track) -> bool:
        """Say whether the track's model counts as down."""
        return self._of(track).outage.is_on

    def park(self, track: Track, now: float) -> bool:
        """Hold a due look back if its model is down; say whether that was done."""
        model = self._of(track)
        if model.outage.ready_at(now) <= now:
            return False
        track.parked = True
        model.parked.append(track)
        self._ensure_probe(model, now)
        return True

    def sent(self, track: Track, now: float) -> None:
        """Note that a look goes out."""
        track.parked = False
        self._of(track).outage.passed(now)

    def failed(self, track: Track, now: float) -> bool:
        """Note a look that told nothing; say whether with it an outage begins."""
        model = self._of(track)
        begins = model.outage.failed(now, sent_at=track.looked_at)
        if begins:
            model.since = now
        return begins

    def told(self, track: Track, now: float) -> float | None:
        """Note a look that was answered; return how long the outage lasted that it ends."""
        model = self._of(track)
        if not model.outage.told(sent_at=track.looked_at):
            return None
        parked, model.parked = model.parked, deque()
        for waiting in parked:
            if waiting.parked:
                waiting.parked = False
                self._agenda.plan(waiting, now)
        return now - model.since

    def unclear(self, track: Track) -> None:
        """Note a look that says nothing of an outage, such as one that met a 429."""
        self._of(track).outage.unclear(sent_at=track.looked_at)

    def checked(self, track: Track, now: float) -> None:
        """See that somebody probes; called whenever a track was looked at or is over."""
        self._ensure_probe(self._of(track), now)

    def _of(self, track: Track) -> _Model:
        model = self._models.get(track.ref.model)
        if model is None:
            model = self._models[track.ref.model] = _Model(self._rng)
        return model

    def _ensure_probe(self, model: _Model, now: float) -> None:
        ready = model.outage.ready_at(now)
        if ready == math.inf or _is_planned(model.candidate):
            return
        while model.parked:
            track = model.parked.popleft()
            if track.parked and track.outcome is None:
                track.parked = False
                model.candidate = track
                self._agenda.plan(track, max(ready, now))
                return


def _is_planned(track: Track | None) -> bool:
    return track is not None and track.outcome is None and track.due is not None
