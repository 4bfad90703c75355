"""The tasks that are not over, by reference, as the agenda and the schedule know them."""

from __future__ import annotations

from apixo_async._agenda import Agenda
from apixo_async._core.schedule import Schedule
from apixo_async._core.values import TaskRef
from apixo_async._track import Track


class Register:
    """Enter tasks and let them leave: everywhere at once.

    Args:
        schedule: Counts the tasks, and learns how long they took.
        agenda: Knows their age limits.

    Attributes:
        tracks: The tasks.
        model_of: Their models, by id.
    """

    def __init__(self, schedule: Schedule, agenda: Agenda) -> None:
        self.schedule = schedule
        self.agenda = agenda
        self.tracks: dict[TaskRef, Track] = {}
        self.model_of: dict[str, str] = {}

    def enter(self, track: Track) -> None:
        """Take up a task."""
        self.tracks[track.ref] = track
        self.model_of[track.ref.task_id] = track.ref.model
        self.schedule.opened(track.kind, track)
        self.agenda.expect(track)

    def leave(self, track: Track, seconds: float | None = None) -> None:
        """Let a task go; learn how many seconds it lasted, if anybody knows."""
        del self.tracks[track.ref]
        self.model_of.pop(track.ref.task_id, None)
        self.agenda.forget(track)
        self.schedule.closed(track.kind, waited=track.waited)
        if self.schedule.learn(track.kind, track, seconds):
            self.agenda.reconsider(track.kind)
