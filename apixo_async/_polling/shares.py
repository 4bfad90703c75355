"""The places that one model's polls may take: where a model hangs, others' news comes on time."""

from __future__ import annotations

from collections import deque

from apixo_async._http.concurrency import ConcurrencyLimit, has_share
from apixo_async._polling.queue import PollQueue
from apixo_async._polling.tracked_task import PollState, TrackedTask


class _ModelShare:
    """The polls of one model that are under way, and the tracks that wait for one of them."""

    __slots__ = ("under_way", "waiting")

    def __init__(self) -> None:
        self.under_way = 0
        self.waiting: deque[TrackedTask] = deque()


class ModelShares:
    """Hold back polls of a model that has its share of the places.

    Args:
        queue: Where the polls are planned.
        places: The places that there are.
    """

    def __init__(self, queue: PollQueue, places: ConcurrencyLimit) -> None:
        self._queue = queue
        self._places = places
        self._models: dict[str, _ModelShare] = {}

    def opened(self, track: TrackedTask) -> None:
        """Note a new task: where there are several models, each leaves places to the others."""
        self._of(track)

    def hold_back(self, track: TrackedTask) -> bool:
        """Hold a due poll back until one of its model is back; return True if that was done."""
        model = self._of(track)
        # A model that is alone may have every place.
        if len(self._models) == 1 or has_share(model.under_way, self._places.free_for_polls):
            return False
        model.waiting.append(track)
        return True

    def sent(self, track: TrackedTask) -> None:
        """Note that a poll goes out."""
        self._of(track).under_way += 1

    def back(self, track: TrackedTask, now: float) -> None:
        """Note that a poll is over: the next of its model that waits is due."""
        model = self._of(track)
        model.under_way -= 1
        while model.waiting:
            waiting = model.waiting.popleft()
            is_idle = waiting.due is None and waiting.polling is PollState.IDLE
            if is_idle and waiting.verdict() is None:
                if waiting.refreshers:
                    self._queue.ask(waiting)
                else:  # By now its model may be down.
                    self._queue.plan(waiting, now)
                return

    def _of(self, track: TrackedTask) -> _ModelShare:
        return self._models.setdefault(track.ref.model, _ModelShare())
