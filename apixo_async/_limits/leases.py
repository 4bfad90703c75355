"""What a limiter hands out: permits for requests and slots for tasks, each given back once."""

from __future__ import annotations

from typing import Protocol

from apixo_async._limits.budget import LimitScope
from apixo_async._limits.priority import Priority
from apixo_async._types import TaskRef


class Lessor(Protocol):
    """Who is told what became of permits and slots: the limiter."""

    def permit_answered(self, permit: Permit) -> None:
        """Stamp a permit whose answer has come."""
        ...

    def permit_unanswered(self, permit: Permit) -> None:
        """Stamp a permit whose request ended without an answer."""
        ...

    def permit_unused(self, permit: Permit) -> None:
        """Take back a permit with which nothing was sent."""
        ...

    def permit_throttled(
        self, permit: Permit, retry_after: float | None
    ) -> tuple[LimitScope, float]:
        """Close what a 429 closes; return that, and the seconds until a probe goes out."""
        ...

    def slot_confirmed(self) -> None:
        """Count a task that exists."""
        ...

    def slot_named(self, task: TaskRef) -> None:
        """Note whose slot one is."""
        ...

    def slot_released(self, *, confirmed: bool, task: TaskRef | None) -> None:
        """Take back a slot."""
        ...

    def slot_held(self, seconds: float, *, confirmed: bool, task: TaskRef | None) -> None:
        """Take back a slot after so many seconds."""
        ...


class Permit:
    """The right to send one request; whoever holds it says how the request ended, once."""

    __slots__ = ("_ended", "_issuer", "has_place", "known_tasks", "taken_at", "urgency")

    def __init__(self, issuer: Lessor, urgency: Priority, now: float, known_tasks: int) -> None:
        self._issuer = issuer
        self._ended = False
        self.has_place = False
        self.urgency = urgency
        self.taken_at = now
        self.known_tasks = known_tasks

    def answered(self) -> None:
        """Say that an answer came which was no 429."""
        if self._end():
            self._issuer.permit_answered(self)

    def unanswered(self) -> None:
        """Say that no answer came; the request may still arrive."""
        if self._end():
            self._issuer.permit_unanswered(self)

    def unused(self) -> None:
        """Say that nothing was sent."""
        if self._end():
            self._issuer.permit_unused(self)

    def throttled(self, retry_after: float | None) -> tuple[LimitScope, float]:
        """Say that the answer was 429; return what that closes, and for how many seconds."""
        self._end()
        return self._issuer.permit_throttled(self, retry_after)

    def _end(self) -> bool:
        ended, self._ended = self._ended, True
        return not ended


class Slot:
    """The right to have one task at the service; given back once, whoever gives it back."""

    __slots__ = ("_confirmed", "_issuer", "_task")

    def __init__(self, issuer: Lessor | None, *, confirmed: bool = False) -> None:
        self._issuer = issuer
        self._confirmed = confirmed
        self._task: TaskRef | None = None

    @property
    def is_held(self) -> bool:
        """Whether it was neither given back nor handed on."""
        return self._issuer is not None

    def handed_on(self) -> Slot:
        """Return this slot for another owner, whose task exists or may; none is left here."""
        self.confirm()
        slot = Slot(self._issuer, confirmed=self._confirmed)
        self._issuer = None
        return slot

    def confirm(self) -> None:
        """Say that the task exists: what a 429 to a submit means is read from how many do."""
        if self._issuer is not None and not self._confirmed:
            self._confirmed = True
            self._issuer.slot_confirmed()

    def name(self, task: TaskRef) -> None:
        """Say whose it is: what other clients of the limiter hold for that task is given back."""
        if self._issuer is not None and self._task is None:
            self._task = task
            self._issuer.slot_named(task)

    def release(self) -> None:
        """Give the slot back: the task is over, or was never made."""
        if self._issuer is not None:
            issuer, self._issuer = self._issuer, None
            issuer.slot_released(confirmed=self._confirmed, task=self._task)

    def hold(self, seconds: float) -> None:
        """Give the slot back by itself after a time: nobody knows whether the task exists."""
        if self._issuer is not None:
            issuer, self._issuer = self._issuer, None
            issuer.slot_held(seconds, confirmed=self._confirmed, task=self._task)
