"""What happens between a client and the service, as records; see `events` for all of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

from apixo_async._core.text import Record


@dataclass(frozen=True, slots=True)
class LimitReached(Record):
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
class CeilingLowered(Record):
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
class CeilingRaised(Record):
    """After `CeilingLowered`, the service is asked for more again.

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
class ServiceDown(Record):
    """Look after look at tasks of a model told nothing: from now on only probes go out.

    Attributes:
        reason: What the last of them met, as in `SubmitRefused`.
    """

    level: ClassVar[int] = logging.ERROR
    model: str
    reason: str

    def _line(self) -> str:
        return f"{self.model} is down, its looks are paused and it is probed: {self.reason}"


@dataclass(frozen=True, slots=True)
class ServiceBack(Record):
    """A probe was answered: looks go on.

    Attributes:
        after: Seconds that the outage lasted here.
    """

    level: ClassVar[int] = logging.INFO
    model: str
    after: float

    def _line(self) -> str:
        return f"{self.model} is back after {self.after:.0f} s, its looks go on"


@dataclass(frozen=True, slots=True)
class CallbacksSilent(Record):
    """Tasks were over before any callback came for them: they are polled as without webhooks.

    Attributes:
        tasks: How many, in a row: one before the first callback of all, else eight.
    """

    level: ClassVar[int] = logging.WARNING
    tasks: int

    def _line(self) -> str:
        return (
            f"over before any callback came for them: {self.tasks} in a row; tasks are looked at "
            "as without webhooks until one comes. Can the service reach the public_url, and does "
            "that lead to this process?"
        )


@dataclass(frozen=True, slots=True)
class CallbacksBack(Record):
    """After `CallbacksSilent`, a callback came: they are waited for again."""

    level: ClassVar[int] = logging.INFO

    def _line(self) -> str:
        return "a callback came: they are waited for again"


@dataclass(frozen=True, slots=True)
class PollerDied(Record):
    """A defect ended the poller; every waiter was told."""

    level: ClassVar[int] = logging.CRITICAL
    reason: str

    def _line(self) -> str:
        return f"the poller died: {self.reason}"
