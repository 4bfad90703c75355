"""What happens in a client, as frozen records for `on_event` and for the log.

No record holds a key, a prompt or a token (invariant 7). `str(event)` is the line of the log.
What is about one submit or task has the `tag` of that submit, or None.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, TypeAlias

from apixo_async._text import counted, printable
from apixo_async.errors import Category


class _EventRecord:
    """What all events share: `str` is one line, whatever the service put into the fields."""

    __slots__ = ()
    _line: ClassVar[str] = ""

    def __str__(self) -> str:
        tag = getattr(self, "tag", None)
        return printable(self._words() if tag is None else f"{self._words()} [{tag}]")

    def _words(self) -> str:
        # Only the line is a template: braces in the fields stay as they are.
        return self._line.format(self)


@dataclass(frozen=True, slots=True)
class LimitReached(_EventRecord):
    """The service answered 429.

    Attributes:
        scope: What is closed: "submits" or "everything" (invariant 4).
        pause: Seconds until one probe is sent; its answer opens the rest, or closes it for longer.
    """

    level: ClassVar[int] = logging.WARNING
    _line: ClassVar[str] = "the service answered 429: {0.scope} closed, a probe in {0.pause:.1f} s"
    scope: str
    pause: float


@dataclass(frozen=True, slots=True)
class EffectiveLimitLowered(_EventRecord):
    """Repeated 429s showed that the service grants less than the configured limit.

    Attributes:
        scope: Of what: "slots" (tasks at once) or "requests" (in a minute).
        effective_limit: What is used from now on.
        limit: The configured limit.
    """

    level: ClassVar[int] = logging.WARNING
    _line: ClassVar[str] = (
        "repeated 429s: {0.effective_limit} of {0.limit} {0.scope} are used from now on"
    )
    scope: str
    effective_limit: int
    limit: int


@dataclass(frozen=True, slots=True)
class EffectiveLimitRaised(_EventRecord):
    """After `EffectiveLimitLowered`, more than the lowered limit is tried again.

    Attributes:
        scope: Of what: "slots" (tasks at once) or "requests" (in a minute).
        effective_limit: What is used from now on.
        limit: The configured limit.
    """

    level: ClassVar[int] = logging.DEBUG
    _line: ClassVar[str] = "{0.effective_limit} of {0.limit} {0.scope} are tried from now on"
    scope: str
    effective_limit: int
    limit: int


@dataclass(frozen=True, slots=True)
class ServiceDown(_EventRecord):
    """Poll after poll of tasks of one model got no usable answer: only probes are sent from now on.

    Attributes:
        reason: Why the last of them failed, as in `SubmitRefused`.
    """

    level: ClassVar[int] = logging.ERROR
    _line: ClassVar[str] = (
        "{0.model} is down, its polls pause until a probe is answered: {0.reason}"
    )
    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class ServiceRecovered(_EventRecord):
    """A probe was answered: polls go on.

    Attributes:
        after: Seconds that the outage lasted, as seen from here.
    """

    level: ClassVar[int] = logging.INFO
    _line: ClassVar[str] = "{0.model} is back after {0.after:.0f} s, its polls go on"
    model: str
    after: float


@dataclass(frozen=True, slots=True)
class CallbackReceived(_EventRecord):
    """A callback came for a submit of this client, or of another process that uses its store.

    One that no client awaits, such as for a task that is over, is only answered.

    Attributes:
        outcome: What it causes. "polled": its task is polled. "early": the answer to its submit is
            not known yet. "repeated": nothing, since a poll waits already, or enough were caused.
            "passed on": another process is to poll. "unknown": the store has no such submit.
            "refused": nothing, but its submit had been refused, so that there is a task too many.
    """

    level: ClassVar[int] = logging.DEBUG
    _line: ClassVar[str] = "a callback came: {0.outcome}"
    outcome: str


@dataclass(frozen=True, slots=True)
class CallbacksLost(_EventRecord):
    """Tasks were over before any callback came for them: tasks are polled as without webhooks.

    Attributes:
        tasks: How many in a row: one if no callback has ever come here, else eight.
    """

    level: ClassVar[int] = logging.WARNING
    _line: ClassVar[str] = (
        "tasks in a row that were over before any callback came for them: {0.tasks}; tasks "
        "are polled as without webhooks until one comes. Check that the service can reach the "
        "public_url, and that it leads to this process"
    )
    tasks: int


@dataclass(frozen=True, slots=True)
class CallbacksRestored(_EventRecord):
    """After `CallbacksLost`, a callback came: polls wait for callbacks again."""

    level: ClassVar[int] = logging.INFO
    _line: ClassVar[str] = "callbacks are arriving again: polls wait for them"


@dataclass(frozen=True, slots=True)
class PollerDied(_EventRecord):
    """A defect ended the poller; every waiter was given the cause (invariant 6)."""

    level: ClassVar[int] = logging.CRITICAL
    _line: ClassVar[str] = "the poller died: {0.reason}; make a new client, and attach to its tasks"
    reason: str


@dataclass(frozen=True, slots=True)
class ClientOpened(_EventRecord):
    """A client is used for the first time; reported in the context in which its polls will run."""

    level: ClassVar[int] = logging.INFO
    _line: ClassVar[str] = (
        "client opened for {0.base_url}: {0.concurrent_tasks} tasks at once, "
        "{0.requests_per_minute} requests a minute"
    )
    base_url: str
    concurrent_tasks: int
    requests_per_minute: int


@dataclass(frozen=True, slots=True)
class ClientClosed(_EventRecord):
    """A client was closed; the tasks that it left unfinished can be attached to."""

    level: ClassVar[int] = logging.INFO
    unfinished: tuple[str, ...]

    def _words(self) -> str:
        if not self.unfinished:
            return "client closed; no task is unfinished"
        tasks = ", ".join(self.unfinished)
        return f"client closed with unfinished tasks: {tasks}; `attach` goes on with them"


@dataclass(frozen=True, slots=True)
class TaskSubmitted(_EventRecord):
    """A task was bought.

    Attributes:
        waited: Seconds from the call to the answer, in queues for slots and permits included.
        kind: What the duration of the task depends on: the model, and for some the quality.
        cost: USD of the task, or None where no price is known.
        slot_wait: Seconds of `waited` until it had a slot.
        permit_wait: Seconds from then until its POST had a permit, earlier tries included.
    """

    level: ClassVar[int] = logging.INFO
    _line: ClassVar[str] = "{0.model}/{0.task_id} submitted after {0.waited:.2f} s"
    model: str
    task_id: str
    waited: float
    tag: str | None = None
    kind: str = ""
    cost: Decimal | None = None
    slot_wait: float = 0.0
    permit_wait: float = 0.0


@dataclass(frozen=True, slots=True)
class TaskAttached(_EventRecord):
    """A task of an earlier submit is polled from now on, or followed while another process does.

    Attributes:
        traceparent: The span in which it was submitted, where a store has that: `traceparent` of
            W3C's Trace Context.
    """

    level: ClassVar[int] = logging.INFO
    _line: ClassVar[str] = "{0.model}/{0.task_id} attached"
    model: str
    task_id: str
    tag: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class TaskAdopted(_EventRecord):
    """A task that another process bought is polled from now on, since that one has gone.

    Attributes:
        traceparent: As in `TaskAttached`.
    """

    level: ClassVar[int] = logging.INFO
    _line: ClassVar[str] = "{0.model}/{0.task_id} taken over"
    model: str
    task_id: str
    tag: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class SubmitRefused(_EventRecord):
    """A submit was refused; no task was made.

    Attributes:
        reason: The error, without the service's own words: they may repeat a prompt.
        again_in: Seconds until it is sent again by itself, or None if it is not.
        waited: Seconds since the call.
        category: What it was refused for, as `error.category`.
    """

    level: ClassVar[int] = logging.WARNING
    model: str
    reason: str
    again_in: float | None
    tag: str | None = None
    waited: float = 0.0
    category: Category = "other"

    def _words(self) -> str:
        again = "not sent again" if self.again_in is None else f"again in {self.again_in:.1f} s"
        return f"submit of {self.model} refused ({again}): {self.reason}"


@dataclass(frozen=True, slots=True)
class SubmitUncertain(_EventRecord):
    """It cannot be known whether a submit made a task; it is not sent again (invariant 1).

    Attributes:
        reason: What makes it uncertain.
        hold: Seconds for which its slot stays taken.
        waited: Seconds since the call.
    """

    level: ClassVar[int] = logging.ERROR
    _line: ClassVar[str] = (
        "submit of {0.model} is uncertain, a task may exist: {0.reason}; "
        "its slot is held for {0.hold:.0f} s"
    )
    model: str
    reason: str
    hold: float
    tag: str | None = None
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class TaskOrphaned(_EventRecord):
    """A task was bought after its caller had been cancelled; it is polled all the same."""

    level: ClassVar[int] = logging.WARNING
    _line: ClassVar[str] = "{0.model}/{0.task_id} was bought although its caller was cancelled"
    model: str
    task_id: str
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class TaskDetached(_EventRecord):
    """A task is polled no more, as its caller wished; it goes on."""

    level: ClassVar[int] = logging.INFO
    _line: ClassVar[str] = "{0.model}/{0.task_id} detached"
    model: str
    task_id: str
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class TaskPolled(_EventRecord):
    """A poll found a task still running.

    Attributes:
        took: Seconds from its sending to its answer.
    """

    level: ClassVar[int] = logging.DEBUG
    _line: ClassVar[str] = "{0.model}/{0.task_id} is {0.state}"
    model: str
    task_id: str
    state: str
    tag: str | None = None
    took: float | None = None


@dataclass(frozen=True, slots=True)
class PollFailed(_EventRecord):
    """A poll got no usable answer.

    Attributes:
        reason: As in `SubmitRefused`.
        again_in: Seconds until the next poll, or None where polls pause until `refresh`.
        took: As in `TaskPolled`.
    """

    level: ClassVar[int] = logging.WARNING
    model: str
    task_id: str
    reason: str
    again_in: float | None
    tag: str | None = None
    took: float | None = None

    def _words(self) -> str:
        pause = self.again_in
        again = "paused until refresh" if pause is None else f"again in {pause:.1f} s"
        return f"poll of {self.model}/{self.task_id} failed ({again}): {self.reason}"


@dataclass(frozen=True, slots=True)
class TaskSettled(_EventRecord):
    """A task is over, as far as this client is concerned.

    Attributes:
        outcome: "success", "failed", "not found" or "abandoned".
        polls: Status requests that it took.
        age: Seconds from its submit to the poll that found it over; of a task whose submit is not
            known, from its attaching.
        cost: USD of the task, or None where no price is known.
        kind: As in `TaskSubmitted`.
        category: What it failed for, as `error.category`; None for a success.
        duration: Seconds that it took by the service's count, or None.
        delay: Seconds of `age` for which it was over already by that count, or None.
        took: As in `TaskPolled`, of the poll that found it over; None where none did.
    """

    level: ClassVar[int] = logging.INFO
    model: str
    task_id: str
    outcome: str
    polls: int
    age: float
    tag: str | None = None
    cost: Decimal | None = None
    kind: str = ""
    category: Category | None = None
    duration: float | None = None
    delay: float | None = None
    took: float | None = None

    def _words(self) -> str:
        took = f"{self.age:.1f} s and {counted(self.polls, 'poll')}"
        return f"{self.model}/{self.task_id}: {self.outcome} after {took}"


@dataclass(frozen=True, slots=True)
class UncertainSubmitResolved(_EventRecord):
    """A callback named the task of an uncertain submit, and a poll found it: it was bought.

    Attributes:
        after: Seconds since the submit was sent.
    """

    level: ClassVar[int] = logging.WARNING
    _line: ClassVar[str] = (
        "an uncertain submit of {0.model} had bought {0.task_id}: "
        "a callback named it after {0.after:.1f} s"
    )
    model: str
    task_id: str
    after: float
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class ResultDownloaded(_EventRecord):
    """Every file of a result was saved."""

    level: ClassVar[int] = logging.INFO
    _line: ClassVar[str] = "{0.model}/{0.task_id}: {0.files} files saved"
    model: str
    task_id: str
    files: int
    tag: str | None = None


Event: TypeAlias = (
    ClientOpened
    | ClientClosed
    | TaskSubmitted
    | TaskAttached
    | TaskAdopted
    | SubmitRefused
    | SubmitUncertain
    | TaskOrphaned
    | TaskDetached
    | TaskPolled
    | PollFailed
    | TaskSettled
    | LimitReached
    | EffectiveLimitLowered
    | EffectiveLimitRaised
    | ServiceDown
    | ServiceRecovered
    | UncertainSubmitResolved
    | CallbackReceived
    | CallbacksLost
    | CallbacksRestored
    | ResultDownloaded
    | PollerDied
)

#: What events are given to: one function, or several.
EventHook: TypeAlias = Callable[[Event], None]
EventHooks: TypeAlias = EventHook | Sequence[EventHook]
