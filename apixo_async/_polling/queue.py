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
    """The next polls and the age limits of all tasks. Every change is O(log n).

    Entries are never searched for: one whose task has another `due` by now is stale, and skipped
    when it comes up. Tasks of one kind that were never polled wait in a deque, in the order of
    their creation, and only the first of them has an entry in the heap. So when a new duration
    moves the first polls of a kind, one entry changes and not hundreds.

    Args:
        first_poll: Returns when to poll a task for the first time.
    """

    def __init__(self, first_poll: Callable[[TrackedTask], float]) -> None:
        self._first_poll = first_poll
        self._unpolled: dict[str, deque[TrackedTask]] = {}
        self._polls: list[tuple[float, int, TrackedTask]] = []
        self._expiries: list[tuple[float, int, TrackedTask]] = []
        self._asked: deque[TrackedTask] = deque()
        self._was_asked = False
        self._order = itertools.count()  # Breaks ties: tasks cannot be compared.
        self._expected = 0

    def expect(self, track: TrackedTask) -> None:
        """Note when the task expires."""
        self._expected += 1
        heapq.heappush(self._expiries, (track.expires, next(self._order), track))

    def forget(self, track: TrackedTask) -> None:
        """Note that a task is over; stale entries are dropped once they outnumber the others.

        An age limit is far longer than a task: without this, every task of the last half hour
        would stay in memory with its result.
        """
        self._advance(track)
        self._expected -= 1
        if len(self._expiries) > 2 * self._expected + 64:
            self._expiries = list(filter(_counts, self._expiries))
            heapq.heapify(self._expiries)

    def schedule(self, track: TrackedTask, due: float) -> None:
        """Schedule the task's next poll, in place of any other."""
        track.due = due
        heapq.heappush(self._polls, (due, next(self._order), track))

    def schedule_first(self, track: TrackedTask) -> None:
        """Schedule the task's first poll, after those of older tasks of its kind."""
        unpolled = self._unpolled.setdefault(track.kind, deque())
        unpolled.append(track)
        if len(unpolled) == 1:
            self.schedule(track, self._first_poll(track))

    def reschedule_first(self, kind: str) -> None:
        """Schedule the first polls of a kind anew, since its learned durations have changed."""
        unpolled = self._unpolled.get(kind)
        if unpolled and unpolled[0].due != -math.inf:
            self.schedule(unpolled[0], self._first_poll(unpolled[0]))

    def _advance(self, track: TrackedTask) -> None:
        """Schedule the next first poll of a kind, if the task was the first unpolled one."""
        unpolled = self._unpolled.get(track.kind)
        if not unpolled or unpolled[0] is not track:
            return
        while unpolled and (
            unpolled[0] is track or unpolled[0].polls or unpolled[0].outcome is not None
        ):
            unpolled.popleft()
        if not unpolled:
            del self._unpolled[track.kind]
        elif unpolled[0].due is None:
            self.schedule(unpolled[0], self._first_poll(unpolled[0]))

    def ask(self, track: TrackedTask) -> None:
        """Request a poll now, before the scheduled ones, which keep every second turn."""
        if track.due != -math.inf:
            track.due = -math.inf
            self._asked.append(track)

    @property
    def has_asked(self) -> bool:
        """Whether a poll was asked for."""
        return bool(self._asked)

    def next_due(self) -> float:
        """Return when the next poll is due, or infinity."""
        return -math.inf if self._asked else self.next_scheduled()

    def next_scheduled(self) -> float:
        """Return when the next scheduled poll is due, or infinity."""
        while self._polls and self._polls[0][2].due != self._polls[0][0]:
            heapq.heappop(self._polls)  # Stale: dropping it changes no answer.
        return self._polls[0][0] if self._polls else math.inf

    def next_expiry(self) -> float:
        """Return when the next task expires, or infinity."""
        while self._expiries and not _counts(self._expiries[0]):
            heapq.heappop(self._expiries)
        return self._expiries[0][0] if self._expiries else math.inf

    def is_turn_of_asked(self, now: float) -> bool:
        """Return True if `pop_due` takes a poll that was asked for."""
        return bool(self._asked) and not (self._was_asked and self.next_scheduled() <= now)

    def pop_due(self, now: float) -> TrackedTask | None:
        """Take the task whose poll is due, or None."""
        # Turns alternate: callers of `refresh` in a loop must not delay results of other tasks.
        if self.is_turn_of_asked(now):
            track, self._was_asked = self._asked.popleft(), True
        elif self.next_scheduled() <= now:
            track, self._was_asked = heapq.heappop(self._polls)[2], False
        else:
            return None
        track.due = None
        self._advance(track)
        return track

    def pop_expired(self, now: float) -> TrackedTask | None:
        """Take a task that is past its age limit, or None."""
        if self.next_expiry() > now:
            return None
        self._expected -= 1
        return heapq.heappop(self._expiries)[2]


def _counts(expiry: tuple[float, int, TrackedTask]) -> bool:
    """Return True if an entry is current: its task goes on, with that age limit."""
    expires, _, track = expiry
    return track.outcome is None and track.expires == expires


class TaskIndex:
    """The tasks that have an id, kept in step with the schedule and the queue.

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

    def add(self, track: TrackedTask) -> None:
        """Add a task everywhere."""
        self.tracks[track.ref] = track
        self.model_of[track.ref.task_id] = track.ref.model
        self.schedule.opened(track.kind, track)
        self.queue.expect(track)

    def step_aside(self, track: TrackedTask) -> None:
        """Keep a claimed task under its placeholder: a caller attaches to the task it claims."""
        del self.tracks[track.ref]
        self.tracks[track.placeholder] = track

    def remove(self, track: TrackedTask, seconds: float | None = None) -> None:
        """Remove a task everywhere, and learn how many seconds it lasted, if that is known."""
        if self.tracks.get(track.ref) is track:
            del self.tracks[track.ref]
            self.model_of.pop(track.ref.task_id, None)
        else:
            del self.tracks[track.placeholder]
        self.queue.forget(track)
        self.schedule.closed(track.kind, waited=track.waited)
        if self.schedule.learn(track.kind, track, seconds):
            self.queue.reschedule_first(track.kind)
