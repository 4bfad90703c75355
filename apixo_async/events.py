"""What happens in a client, as frozen records for `on_event` and for the log.

No record holds a key, a prompt or a token. `str(event)` is the line of the log.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from apixo_async._text import EventRecord


@dataclass(frozen=True, slots=True)
class LimitReached(EventRecord):
    """The service answered 429.

    Attributes:
        scope: What is closed: "submits" or "everything".
        pause: Seconds until a probe goes out.
    """

    level: ClassVar[int] = logging.WARNING
    scope: str
    pause: float

    def _line(self) -> str:
        return f"the service answered 429: {self.scope} closed, a probe in {self.pause:.1f} s"


@dataclass(frozen=True, slots=True)
class EffectiveLimitLowered(EventRecord):
    """Repeated 429s showed that the service grants less than the configured limit.

    Attributes:
        scope: Of what: "slots" (tasks at once) or "requests" (in a minute).
        ceiling: What is used from now on.
        limit: The configured limit.
    """

    level: ClassVar[int] = logging.WARNING
    scope: str
    ceiling: int
    limit: int

    def _line(self) -> str:
        return f"repeated 429s: {self.ceiling} of {self.limit} {self.scope} are used from now on"


@dataclass(frozen=True, slots=True)
class EffectiveLimitRaised(EventRecord):
    """After `EffectiveLimitLowered`, the service is asked for more again.

    Attributes:
        scope: Of what: "slots" (tasks at once) or "requests" (in a minute).
        ceiling: What is used from now on.
        limit: The configured limit.
    """

    level: ClassVar[int] = logging.DEBUG
    scope: str
    ceiling: int
    limit: int

    def _line(self) -> str:
        return f"{self.ceiling} of {self.limit} {self.scope} are tried from now on"


@dataclass(frozen=True, slots=True)
class ServiceDown(EventRecord):
    """Poll after poll of tasks of a model told nothing: from now on only probes go out.

    Attributes:
        reason: What the last of them met, as in `SubmitRefused`.
    """

    level: ClassVar[int] = logging.ERROR
    model: str
    reason: str

    def _line(self) -> str:
        return f"{self.model} is down, its polls are paused and it is probed: {self.reason}"


@dataclass(frozen=True, slots=True)
class ServiceRecovered(EventRecord):
    """A probe was answered: polls go on.

    Attributes:
        after: Seconds that the outage lasted here.
    """

    level: ClassVar[int] = logging.INFO
    model: str
    after: float

    def _line(self) -> str:
        return f"{self.model} is back after {self.after:.0f} s, its polls go on"


@dataclass(frozen=True, slots=True)
class CallbacksLost(EventRecord):
    """Tasks were over before any callback came for them: they are polled as without webhooks.

    Attributes:
        tasks: How many, in a row: one before the first callback of all, else eight.
    """

    level: ClassVar[int] = logging.WARNING
    tasks: int

    def _line(self) -> str:
        return (
            f"over before any callback came for them: {self.tasks} in a row; tasks are polled "
            "as without webhooks until one comes. Can the service reach the public_url, and does "
            "that lead to this process?"
        )


@dataclass(frozen=True, slots=True)
class CallbacksRestored(EventRecord):
    """After `CallbacksLost`, a callback came: they are waited for again."""

    level: ClassVar[int] = logging.INFO

    def _line(self) -> str:
        return "a callback came: they are waited for again"


@dataclass(frozen=True, slots=True)
class PollerDied(EventRecord):
    """A defect ended the poller; every waiter was told."""

    level: ClassVar[int] = logging.CRITICAL
    reason: str

    def _line(self) -> str:
        return f"the poller died: {self.reason}"


@dataclass(frozen=True, slots=True)
class ClientOpened(EventRecord):
    """A client is used for the first time."""

    level: ClassVar[int] = logging.INFO
    base_url: str
    concurrent_tasks: int
    requests_per_minute: int

    def _line(self) -> str:
        return (
            f"client opened for {self.base_url}: {self.concurrent_tasks} tasks at once, "
            f"{self.requests_per_minute} requests a minute"
        )


@dataclass(frozen=True, slots=True)
class ClientClosed(EventRecord):
    """A client was closed; the tasks that it left unfinished can be attached to."""

    level: ClassVar[int] = logging.INFO
    unfinished: tuple[str, ...]

    def _line(self) -> str:
        if not self.unfinished:
            return "client closed; no task is unfinished"
        return f"client closed with unfinished tasks: {', '.join(self.unfinished)}"


@dataclass(frozen=True, slots=True)
class TaskSubmitted(EventRecord):
    """A task was bought.

    Attributes:
        waited: Seconds from the call to the answer.
    """

    level: ClassVar[int] = logging.INFO
    model: str
    task_id: str
    waited: float

    def _line(self) -> str:
        return f"{self.model}/{self.task_id} submitted after {self.waited:.2f} s"


@dataclass(frozen=True, slots=True)
class TaskAttached(EventRecord):
    """A task that exists already is polled from now on."""

    level: ClassVar[int] = logging.INFO
    model: str
    task_id: str

    def _line(self) -> str:
        return f"{self.model}/{self.task_id} attached"


@dataclass(frozen=True, slots=True)
class SubmitRefused(EventRecord):
    """A submit was refused; no task was made.

    Attributes:
        reason: The error in words, but for the service's own: they may repeat a prompt.
        again_in: Seconds until it is sent again by itself, or None when it is not.
    """

    level: ClassVar[int] = logging.WARNING
    model: str
    reason: str
    again_in: float | None

    def _line(self) -> str:
        again = "not sent again" if self.again_in is None else f"again in {self.again_in:.1f} s"
        return f"submit of {self.model} refused ({again}): {self.reason}"


@dataclass(frozen=True, slots=True)
class SubmitUncertain(EventRecord):
    """Nobody can know whether a submit made a task; it is not sent again.

    Attributes:
        hold: Seconds for which its slot stays taken.
    """

    level: ClassVar[int] = logging.ERROR
    model: str
    reason: str
    hold: float

    def _line(self) -> str:
        return (
            f"submit of {self.model} is uncertain, a task may exist: {self.reason}; "
            f"its slot is held for {self.hold:.0f} s"
        )


@dataclass(frozen=True, slots=True)
class TaskOrphaned(EventRecord):
    """A task was bought after its caller had been cancelled; it is tracked all the same."""

    level: ClassVar[int] = logging.WARNING
    model: str
    task_id: str

    def _line(self) -> str:
        return f"{self.model}/{self.task_id} was bought although its caller was cancelled"


@dataclass(frozen=True, slots=True)
class TaskPolled(EventRecord):
    """A poll found a task still running."""

    level: ClassVar[int] = logging.DEBUG
    model: str
    task_id: str
    state: str

    def _line(self) -> str:
        return f"{self.model}/{self.task_id} is {self.state}"


@dataclass(frozen=True, slots=True)
class PollFailed(EventRecord):
    """A poll told nothing of its task.

    Attributes:
        reason: As in `SubmitRefused`.
        again_in: Seconds until the next poll, or None where polls pause until `refresh`.
    """

    level: ClassVar[int] = logging.WARNING
    model: str
    task_id: str
    reason: str
    again_in: float | None

    def _line(self) -> str:
        again = "paused" if self.again_in is None else f"again in {self.again_in:.1f} s"
        return f"poll of {self.model}/{self.task_id} failed ({again}): {self.reason}"


@dataclass(frozen=True, slots=True)
class TaskSettled(EventRecord):
    """A task is over, as far as this client is concerned.

    Attributes:
        outcome: "success", "failed", "not found" or "abandoned".
        polls: Status requests that it took.
        age: Seconds from its submit, or its attaching, to this news.
    """

    level: ClassVar[int] = logging.INFO
    model: str
    task_id: str
    outcome: str
    polls: int
    age: float

    def _line(self) -> str:
        return (
            f"{self.model}/{self.task_id}: {self.outcome} after {self.age:.1f} s "
            f"and {self.polls} polls"
        )


@dataclass(frozen=True, slots=True)
class UncertainSubmitResolved(EventRecord):
    """A callback named the task of an uncertain submit, and a poll found it: it was bought.

    Attributes:
        after: Seconds since the submit turned out to be uncertain.
    """

    level: ClassVar[int] = logging.WARNING
    model: str
    task_id: str
    after: float

    def _line(self) -> str:
        return (
            f"an uncertain submit of {self.model} had bought {self.task_id}: "
            f"a callback told after {self.after:.1f} s"
        )


@dataclass(frozen=True, slots=True)
class ResultDownloaded(EventRecord):
    """Every file of a result was saved."""

    level: ClassVar[int] = logging.INFO
    model: str
    task_id: str
    files: int

    def _line(self) -> str:
        return f"{self.model}/{self.task_id}: {self.files} files saved"


Event: TypeAlias = (
    ClientOpened
    | ClientClosed
    | TaskSubmitted
    | TaskAttached
    | SubmitRefused
    | SubmitUncertain
    | TaskOrphaned
    | TaskPolled
    | PollFailed
    | TaskSettled
    | LimitReached
    | EffectiveLimitLowered
    | EffectiveLimitRaised
    | ServiceDown
    | ServiceRecovered
    | UncertainSubmitResolved
    | CallbacksLost
    | CallbacksRestored
    | ResultDownloaded
    | PollerDied
)
