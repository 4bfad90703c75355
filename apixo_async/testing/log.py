"""The log of every request with its times, for assertions."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from apixo_async.testing.accounts import ROUNDING, WINDOW
from apixo_async.testing.replies import Call, Kind

#: Headers that a log keeps. Never the key or cookies: for them it says whether they came.
HEADERS_OF_INTEREST = (
    "accept",
    "accept-encoding",
    "content-type",
    "if-range",
    "range",
    "user-agent",
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what became of it; times are seconds of the service's clock.

    Attributes:
        at: When it arrived; for a refused connection, when it was tried.
        answered_at: When its answer left; None without an answer, or before it.
        kind: ``submit``, ``poll``, ``balance``, ``download`` or ``other``.
        method: In capitals.
        host: Where the client sent it to.
        path: Without the query.
        account: A short digest of the key; None where it is missing or unknown.
        model: As the path names it.
        task_id: The task that was asked for or created.
        status: The HTTP status; None without an answer.
        code: The envelope's code; None without an envelope.
        fault: The name of the scripted fault; None for a healthy turn.
        had_authorization: Whether an ``Authorization`` header came.
        had_cookie: Whether a ``Cookie`` header came.
        headers: Those of `HEADERS_OF_INTEREST` that came, names in lower case.
        counted: Whether it counts against the limit of requests.
        arrived: Whether the service saw anything of it: False for connections never made.
    """

    at: float
    kind: Kind
    method: str
    host: str
    path: str
    account: str | None = None
    model: str | None = None
    task_id: str | None = None
    status: int | None = None
    code: int | None = None
    fault: str | None = None
    answered_at: float | None = None
    had_authorization: bool = False
    had_cookie: bool = False
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    counted: bool = False
    arrived: bool = True


def exchange(call: Call, kind: Kind, now: float, fault: str) -> Exchange:
    """Return the record of a request that has just arrived."""
    return Exchange(
        at=now,
        kind=kind,
        method=call.method,
        host=call.host,
        path=call.path,
        fault=fault or None,
        had_authorization="authorization" in call.headers,
        had_cookie="cookie" in call.headers,
        headers={name: call.headers[name] for name in HEADERS_OF_INTEREST if name in call.headers},
    )


class Log:
    """The exchanges in the order of their arrival, the last ``keep`` of them if it is given."""

    def __init__(self, keep: int | None = None) -> None:
        self._keep = keep
        self._next = 0
        self._kept: dict[int, Exchange] = {}
        self._totals: Counter[Kind] = Counter()
        self._refused = 0

    def add(self, record: Exchange) -> int:
        """Append a record and return its number."""
        number, self._next = self._next, self._next + 1
        self._kept[number] = record
        self._totals[record.kind] += record.arrived
        self._refused += record.status == 429
        if self._keep is not None and len(self._kept) > self._keep:
            del self._kept[next(iter(self._kept))]
        return number

    def answered(self, number: int, now: float) -> None:
        """Record when the answer to a request left."""
        record = self._kept.get(number)
        if record is not None:
            self._kept[number] = replace(record, answered_at=now)

    def total(self, kind: Kind | None = None) -> int:
        """Return how many requests arrived, those no longer kept included."""
        return self._totals.total() if kind is None else self._totals[kind]

    @property
    def refused(self) -> int:
        """How many requests were answered 429, those no longer kept included."""
        return self._refused

    def __iter__(self) -> Iterator[Exchange]:
        return iter(self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)


def most_in_window(records: Iterable[Exchange], seconds: float = WINDOW) -> int:
    """Return the most counted requests of one key in any window of so many seconds."""
    windows: defaultdict[str | None, deque[float]] = defaultdict(deque)
    most = 0
    for record in records:
        if record.counted:
            window = windows[record.account]
            window.append(record.at)
            while window[0] <= record.at - seconds + ROUNDING:
                window.popleft()
            most = max(most, len(window))
    return most
