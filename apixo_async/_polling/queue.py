"""Which task is polled next: a heap of due times, and the polls that callers asked for."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable

from apixo_async._polling.schedule import Schedule
from apixo_async._polling.tracked_task import TrackedTask
from apixo_async._types import TaskRef


class PollQueue:
    """The polls to come and the age limits, of all tasks. Every change is O(log n).

    An entry is never searched for: when a track's `due` has changed since, it is stale and
    skipped. Tracks of one kind which nobody has polled yet stand in a line, in the order of
    their creation; only the first of them has an entry, so that one change moves them all.

    Args:
        first_poll: Says when to poll a track for the first time.
    """

    def __init__(self, first_poll: Callable[[TrackedTask], float]) -> None:
        self._first_poll = first_poll
        self._lines: dict[str, deque[TrackedTask]] = {}
        self._polls: list[tuple[float, int, TrackedTask]] = []
        self._expiries: list[tuple[float, int, TrackedTask]] = []
        self._asked: deque[TrackedTask] = deque()
        self._was_asked = False
        self._order = itertools.count()
        self._expected = 0

    def expect(self, track: TrackedTask) -> None:
        """Note when the track expires."""
        self._expected += 1
        heapq.heappush(self._expiries, (track.expires, next(self._order), track))

    def forget(self, track: TrackedTask) -> None:
        """Note that a track is over; its entry goes when such entries outnumber the others.

        An age limit is far longer than a task: without this, every task of the last half hour
        would stay in memory with its result.
        """
        self._leave_line(track)
        self._expected -= 1
        if len(self._expiries) > 2 * self._expected + 64:
            self._expiries = list(filter(_counts, self._expiries))
            heapq.heapify(self._expiries)

    def plan(self, track: TrackedTask, due: float) -> None:
        """Plan the track's next poll, in place of any other."""
        track.due = due
        heapq.heappush(self._polls, (due, next(self._order), track))

    def line_up(self, track: TrackedTask) -> None:
        """Plan the track's first poll, behind those of its kind that were created before."""
        line = self._lines.setdefault(track.kind, deque())
        line.append(track)
        if len(line) == 1:
            self.plan(track, self._first_poll(track))

    def reconsider(self, kind: str) -> None:
        """Plan the first polls of a kind anew: more is known of it now."""
        line = self._lines.get(kind)
        if line and line[0].due != -math.inf:
            self.plan(line[0], self._first_poll(line[0]))

    def _leave_line(self, track: TrackedTask) -> None:
        """Let the next one step forward, if the track was the first of its line."""
        line = self._lines.get(track.kind)
        if not line or line[0] is not track:
            return
        while line and (line[0] is track or line[0].polls or line[0].outcome is not None):
            line.popleft()
        if not line:
            del self._lines[track.kind]
        elif line[0].due is None:
            self.plan(line[0], self._first_poll(line[0]))

    def ask(self, track: TrackedTask) -> None:
        """Plan a poll now, before those that are only scheduled, which keep every second turn."""
        if track.due != -math.inf:
            track.due = -math.inf
            self._asked.append(track)

    @property
    def has_asked(self) -> bool:
        """Whether somebody asked for a poll."""
        return bool(self._asked)

    def next_due(self) -> float:
        """Return when the next poll is due, or infinity."""
        return -math.inf if self._asked else self.next_scheduled()

    def next_scheduled(self) -> float:
        """Return when the next scheduled poll is due, or infinity."""
        while self._polls and self._polls[0][2].due != self._polls[0][0]:
            heapq.heappop(self._polls)
        return self._polls[0][0] if self._polls else math.inf

    def next_expiry(self) -> float:
        """Return when the next track expires, or infinity."""
        while self._expiries and not _counts(self._expiries[0]):
            heapq.heappop(self._expiries)
        return self._expiries[0][0] if self._expiries else math.inf

    def is_turn_of_asked(self, now: float) -> bool:
        """Return True if `pop_due` takes a poll that somebody asked for."""
        return bool(self._asked) and not (self._was_asked and self.next_scheduled() <= now)

    def pop_due(self, now: float) -> TrackedTask | None:
        """Take the track whose poll is due, or None."""
        if self.is_turn_of_asked(now):
            track, self._was_asked = self._asked.popleft(), True
        elif self.next_scheduled() <= now:
            track, self._was_asked = heapq.heappop(self._polls)[2], False
        else:
            return None
        track.due = None
        self._leave_line(track)
        return track

    def pop_expired(self, now: float) -> TrackedTask | None:
        """Take a track that is past its age limit, or None."""
        if self.next_expiry() > now:
            return None
        self._expected -= 1
        return heapq.heappop(self._expiries)[2]


def _counts(expiry: tuple[float, int, TrackedTask]) -> bool:
    """Return True if an entry is that of a track which goes on, with the age limit that it has."""
    expires, _, track = expiry
    return track.outcome is None and track.expires == expires


class TaskIndex:
    """Enter tasks and let them leave: everywhere at once.

    Args:
        schedule: Counts the tasks, and learns how long they took.
        queue: Knows their age limits.

    Attributes:
        tracks: The tasks.
        model_of: Their models, by id.
    """

    def __init__(self, schedule: Schedule, queue: PollQueue) -> None:
        self.schedule = schedule
        self.queue = queue
        self.tracks: dict[TaskRef, TrackedTask] = {}
        self.model_of: dict[str, str] = {}

    def enter(self, track: TrackedTask) -> None:
        """Take up a task."""
        self.tracks[track.ref] = track
        self.model_of[track.ref.task_id] = track.ref.model
        self.schedule.opened(track.kind, track)
        self.queue.expect(track)

    def leave(self, track: TrackedTask, seconds: float | None = None) -> None:
        """Let a task go; learn how many seconds it lasted, if anybody knows."""
        del self.tracks[track.ref]
        self.model_of.pop(track.ref.task_id, None)
        self.queue.forget(track)
        self.schedule.closed(track.kind, waited=track.waited)
        if self.schedule.learn(track.kind, track, seconds):
            self.queue.reconsider(track.kind)
