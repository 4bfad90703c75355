"""The values that pass between packages, and to callers: frozen, and checked when made."""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from apixo_async._catalog import (
    CONCURRENT_TASKS,
    FAILED,
    REQUESTS_PER_MINUTE,
    RESULT_LIFETIME,
    SUCCESS,
    medium,
)
from apixo_async._text import one_line

if TYPE_CHECKING:
    from apixo_async._result_files import ResultFile

#: The most characters of a reference that are shown.
_MOST_SHOWN: Final = 300

#: Half a character, which no URL can hold.
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def _invalid(message: str) -> Exception:
    from apixo_async.errors import ConfigurationError  # Errors carry these values.

    return ConfigurationError(message)


@dataclass(frozen=True, slots=True)
class TaskRef:
    """What identifies a task in any process: store it as two strings.

    Attributes:
        model: The model's name.
        task_id: The service's id of the task.
    """

    model: str
    task_id: str

    def __post_init__(self) -> None:
        for name in ("model", "task_id"):
            value: object = getattr(self, name)
            if not isinstance(value, str) or not value.strip() or _SURROGATE.search(value):
                raise _invalid(f"TaskRef: {name}={value!r}; a non-empty str of text")

    def __str__(self) -> str:
        return one_line(f"{self.model}/{self.task_id}", _MOST_SHOWN)


def as_seconds(value: object) -> float | None:
    """Return a finite number as a float, or None for anything else, True and "3" included."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if abs(value) <= sys.float_info.max else None


class TaskInput(Protocol):
    """What a submit needs of an input; every class of `apixo_async.inputs` provides it."""

    @property
    def model(self) -> str:
        """The model's name, as in the URL."""
        ...

    @property
    def kind(self) -> str:
        """What the duration of such a task depends on."""
        ...

    @property
    def price(self) -> Decimal | None:
        """The documented price in USD, or None where there is none."""
        ...

    def payload(self) -> dict[str, object]:
        """Return the `input` object as it goes over the wire."""
        ...


class TaskHandle(Protocol):
    """The part of `Task` that errors use: `errors` cannot import `Task`."""

    @property
    def ref(self) -> TaskRef:
        """The reference from which any process can attach to the task."""
        ...

    @property
    def id_known(self) -> bool:
        """Whether the service's id of the task is known."""
        ...

    @property
    def callback_received(self) -> bool:
        """Whether a callback of the task was received."""
        ...

    def done(self) -> bool:
        """Return True if the task is over."""
        ...

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until the task is over; return False if it is not."""
        ...

    def __await__(self) -> Generator[object, None, Result]:
        """Wait for the result."""
        ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """The options of one submit, besides its input.

    Attributes:
        callback_url: Where the service posts the outcome, or None to be polled only.
        provider: The route, or None to leave the field out.
        tag: The caller's word for it, which is not sent.
    """

    callback_url: str | None = None
    provider: str | None = None
    tag: str | None = None


POLLED: Final = Delivery()


class Billing(NamedTuple):
    """What the client knows of a task's price and purpose; the service says neither.

    Attributes:
        tag: The caller's word for it, or None.
        cost: USD by the documents or the caller's prices, or None where neither gives one.
    """

    tag: str | None = None
    cost: Decimal | None = None

    def filled(self, other: Billing) -> Billing:
        """Return this, with what it lacks from another one."""
        return self._replace(tag=self.tag or other.tag, cost=self.cost or other.cost)


UNBILLED: Final = Billing()


@dataclass(frozen=True, slots=True)
class Charges:
    """What was bought since the balance was asked for: to compare with the balance now.

    Attributes:
        balance: USD on the account then, or None where that is not known. In a journal, as the last
            run began that is older than every uncertain submit.
        known: Purchases since then, without the uncertain ones.
        known_cost: USD of those whose price is known.
        unpriced: How many of them have no known price.
        uncertain: How many submits are uncertain, by their price in USD; None is not known. Those
            that were bought anew are among them.
    """

    balance: Decimal | None
    known: int
    known_cost: Decimal
    unpriced: int
    uncertain: Mapping[Decimal | None, int]

    @classmethod
    def of(
        cls,
        balance: Decimal | None,
        *,
        known: int,
        cost: Decimal,
        unpriced: int,
        uncertain: Mapping[Decimal | None, int],
    ) -> Charges:
        """Part what all purchases cost, and those without a price, from the uncertain ones."""
        priced = ((price, count) for price, count in uncertain.items() if price is not None)
        known_cost = cost - sum(price * count for price, count in priced)
        return cls(balance, known, known_cost, unpriced - uncertain.get(None, 0), uncertain)


def price_of(wanted: TaskInput, prices: Mapping[str, Decimal]) -> Decimal | None:
    """Return the documented price of an input, else the given one of its model, or None."""
    return prices.get(wanted.model) if wanted.price is None else wanted.price


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of an account, which the client never exceeds.

    The documents give 1,000 tasks and 10,000 requests a minute, and state that both vary by
    account, key and route.

    Attributes:
        concurrent_tasks: Tasks at once, at least 1.
        requests_per_minute: Requests in any 60 seconds, submits and polls together, at least 1.
    """

    concurrent_tasks: int = CONCURRENT_TASKS
    requests_per_minute: int = REQUESTS_PER_MINUTE

    def __post_init__(self) -> None:
        for name in ("concurrent_tasks", "requests_per_minute"):
            value: object = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise _invalid(f"Limits: {name}={value!r}; a whole number from 1 up")


@dataclass(frozen=True, slots=True)
class Result:
    """What a successful task made.

    Attributes:
        task_id: The service's id of the task.
        model: The model's name.
        urls: The files: every URL of `resultUrls` in the service's order, or where there is none,
            those of `files`; possibly none.
        raw: The decoded `resultJson` with whatever else it holds.
        created_at: When the service made the task (aware UTC), or None.
        completed_at: When the service finished it (aware UTC), or None.
        cost_time: Seconds of work by the service's own count, or None.
        cost: USD by the documents or `AsyncClient(prices=...)`; None where neither gives a price.
        tag: The `tag` of its submit, or None.
    """

    task_id: str
    model: str
    urls: tuple[str, ...]
    raw: Mapping[str, object] = field(default_factory=dict[str, object], repr=False, hash=False)
    created_at: datetime | None = None
    completed_at: datetime | None = None
    cost_time: float | None = None
    cost: Decimal | None = None
    tag: str | None = None

    @property
    def ref(self) -> TaskRef:
        """The reference of the task that made this."""
        return TaskRef(self.model, self.task_id)

    @property
    def expires_at(self) -> datetime | None:
        """When the URLs expire (aware UTC): 15 days after creation, the documents' figure."""
        try:
            return self.created_at and self.created_at + timedelta(seconds=RESULT_LIFETIME)
        except OverflowError:  # The service sent a date near year 9999.
            return None

    @property
    def files(self) -> tuple[ResultFile, ...]:
        """Every URL that the result holds, those of `urls` first, each with its place in `raw`.

        Music models put audio and covers beside, or instead of, `resultUrls`.
        """
        from apixo_async._result_files import files_of  # Here, since few results are asked for it.

        return files_of(self.raw or {"resultUrls": self.urls})

    def with_files(self) -> Result:
        """Return this with all of `files` in `urls`: for `download`, `read` and `stream`."""
        everything = dict.fromkeys((*self.urls, *(file.url for file in self.files)))
        return replace(self, urls=tuple(everything))

    def _repr_html_(self) -> str:
        """Show images, videos and audio in a notebook."""
        from apixo_async import _html  # Here, since only notebooks need it.

        return _html.page(str(self.ref), self.urls, medium=medium(self.model))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one poll found.

    Attributes:
        task_id: The service's id of the task.
        model: The model's name.
        state: "pending", "processing", "success", "failed", or another word of the service.
        raw: The status object as it was received.
        result: What the task has made, once it has succeeded.
        fail_code: The service's code of a failure, or None: one line of at most 100 characters.
        fail_msg: The service's words on it, or None: one line of at most 500 characters.
    """

    task_id: str
    model: str
    state: str
    raw: Mapping[str, object] = field(repr=False, hash=False)
    # Not shown: the service's words may repeat a prompt.
    result: Result | None = field(default=None, repr=False)
    fail_code: str | None = field(default=None, repr=False)
    fail_msg: str | None = field(default=None, repr=False)

    @property
    def is_over(self) -> bool:
        """Whether the task has succeeded or failed."""
        return self.state.strip().lower() in {SUCCESS, FAILED}


@dataclass(frozen=True, slots=True)
class File:
    """A file of a result in memory.

    Attributes:
        name: The name that `download` gives it: `{task id}-{number}.{extension}`.
        media_type: Its type by its bytes, such as "image/png"; else "application/octet-stream".
        content: Its bytes.
        url: Where it came from.
    """

    name: str
    media_type: str
    content: bytes = field(repr=False)
    url: str = field(repr=False)  # a signed one is enough to download


@dataclass(frozen=True, slots=True)
class Estimate:
    """What inputs will cost by the documented prices.

    Attributes:
        total: USD for every input that has a price.
        priced: How many have one.
        unpriced: How many have none.
    """

    total: Decimal
    priced: int
    unpriced: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """The counts of a client at one instant.

    Attributes:
        slots_used: Tasks that count against `concurrent_tasks`, uncertain submits included.
        slots_limit: The limit on them.
        effective_slots_limit: The part of it that the service grants, as 429s have shown.
        slots_waiting: Submits that wait for a slot.
        requests_in_window: Requests that count against the limit now.
        requests_limit: Requests allowed in any 60 seconds.
        effective_requests_limit: The part of it that the service grants, as 429s have shown.
        requests_waiting: Requests that wait for a permit.
        tasks_tracked: Tasks that are polled.
        submits: Submits that were answered with a task so far.
        polls: Status requests sent so far.
        succeeded: Tasks that ended well.
        failed: Tasks that ended without success.
        uncertain: Submits with an unknown outcome.
        uncertain_entries: Those in the store, of all processes, as counted within the last seconds;
            None without a store, or before it was reached.
        throttled: Answers 429.
        latency: Mean seconds of recent exchanges.
        requests_at_once_limit: Requests that may be in flight, by the measured latency.
    """

    slots_limit: int
    requests_limit: int
    effective_slots_limit: int = 0
    effective_requests_limit: int = 0
    slots_used: int = 0
    slots_waiting: int = 0
    requests_in_window: int = 0
    requests_waiting: int = 0
    tasks_tracked: int = 0
    submits: int = 0
    polls: int = 0
    succeeded: int = 0
    failed: int = 0
    uncertain: int = 0
    uncertain_entries: int | None = None
    throttled: int = 0
    latency: float = 0.0
    requests_at_once_limit: int = 0


def estimate(prices: Sequence[Decimal | None]) -> Estimate:
    """Add up prices, counting those that are unknown."""
    known = [price for price in prices if price is not None]
    return Estimate(sum(known, Decimal(0)), len(known), len(prices) - len(known))
