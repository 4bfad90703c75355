"""One request and its answer: what it asks for, envelopes of answers, and the log of exchanges."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from apixo_async._catalog import WINDOW
from apixo_async.testing.open_points import DEFAULTS, OpenPoints

Kind = Literal["submit", "poll", "balance", "download", "other"]

#: Where result URLs point in process. The documentation's samples name several hosts; this is one.
RESULT_HOST: Final = "https://r2.apixo.ai"

#: Requests arrive at times that are floats: 60 s old is what is 60 s old to the microsecond.
ROUNDING: Final = 1e-6

#: Messages of the codes. Not every page lists every code; 503 is on older pages only.
MEANINGS: Final[Mapping[int, str]] = {
    200: "success",
    400: "Invalid parameters or request error",
    401: "Invalid or missing API Key",
    402: "Insufficient balance or quota",
    403: "Key or route cannot access the model",
    404: "Not found",
    405: "Method not allowed",
    429: "Rate limit exceeded",
    500: "Server error",
    502: "Upstream provider error",
    503: "Model temporarily unavailable, try later",
    504: "Upstream timeout",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request, read to its end.

    Attributes:
        method: In capitals.
        path: Decoded, without the query.
        query: The parameters by name.
        headers: Names in lower case.
        host: With its port, where there is one.
        result_base: Scheme and host for the URLs of results.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    host: str = ""
    result_base: str = RESULT_HOST


_API: Final = "/api/v1"
MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

#: Pattern, kind and methods of every path there is.
_ROUTES: Final[tuple[tuple[re.Pattern[str], Kind, tuple[str, ...]], ...]] = (
    (re.compile(rf"{_API}/generateTask/(?P<model>[^/]+)"), "submit", ("POST",)),
    (re.compile(rf"{_API}/statusTask/(?P<model>[^/]+)"), "poll", ("GET",)),
    (re.compile(rf"{_API}/apikeys/current-balance"), "balance", ("GET",)),
    (
        re.compile(r"/results/(?P<task_id>[^/]+)/(?P<index>\d{1,4})\.(?:png|jpg|webp|mp4|mp3)"),
        "download",
        ("GET", "HEAD"),
    ),
)


@dataclass(frozen=True, slots=True)
class Route:
    """What a request asks for.

    Attributes:
        kind: What of it the log counts.
        model: As the path names it.
        task_id: Of a poll or a download.
        index: Of a file among the task's.
        problem: 404 or 405 where there is no such call.
        allowed: The methods of the path.
    """

    kind: Kind
    model: str | None = None
    task_id: str | None = None
    index: int | None = None
    problem: int | None = None
    allowed: tuple[str, ...] = ()


def route(call: Call) -> Route:
    """Return what ``call`` asks for, by its method, its path and a poll's ``taskId``."""
    for pattern, kind, methods in _ROUTES:
        match = pattern.fullmatch(call.path)
        if match is None:
            continue
        parts = match.groupdict()
        model, index = parts.get("model"), parts.get("index")
        polled = call.query.get("taskId") if kind == "poll" else None
        allowed = call.method in methods
        known = model is None or MODEL_NAME.fullmatch(model) is not None
        return Route(
            kind if allowed else "other",
            model,
            parts.get("task_id") or polled,
            None if index is None else int(index),
            405 if not allowed else None if known else 404,
            methods,
        )
    return Route("other", problem=404)


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer; ``code`` is the envelope's, where there is one."""

    status: int
    body: bytes
    headers: dict[str, str]
    code: int | None = None

    @property
    def is_throttling(self) -> bool:
        """Whether it says that a limit was reached."""
        return 429 in (self.status, self.code)


@dataclass(frozen=True, slots=True)
class ServedRequest:
    """A request that arrived, and what is to be answered.

    Attributes:
        number: Its number in the log.
        reply: Its answer, where there is one.
        after: Set once the answer may leave; None where it need not wait.
    """

    number: int
    reply: Reply
    after: asyncio.Event | None = None


class Refusal(Exception):  # a signal inside the simulator, not an error of its users
    """Carry a documented error up to where it becomes an answer."""

    def __init__(
        self, code: int, message: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.code = code
        self.message = message or MEANINGS[code]
        self.headers = headers or {}
        super().__init__(code, self.message)

    def reply(self, points: OpenPoints = DEFAULTS) -> Reply:
        """Return the error in its envelope: unless switched, with its code as HTTP status too."""
        body: dict[str, object] = {"code": self.code, "message": self.message}
        if points.error_data != "missing":
            body["data"] = None if points.error_data == "null" else {"error": self.message}
        status = self.code if points.errors == "status" else 200
        return as_json(body, status=status, headers=self.headers)


def success(data: object) -> Reply:
    """Return the envelope of success around ``data``."""
    return as_json({"code": 200, "message": "success", "data": data}, status=200)


def as_json(body: object, *, status: int, headers: Mapping[str, str] | None = None) -> Reply:
    """Return ``body`` as a JSON answer."""
    code = body.get("code") if isinstance(body, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]  # any JSON
    try:
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # Half a character: JSON has it as an escape only.
        content = json.dumps(body, separators=(",", ":")).encode()
    return Reply(
        status,
        content,
        {"content-type": "application/json", **(headers or {})},
        code if isinstance(code, int) else None,
    )


#: Headers that a log keeps. Of keys and cookies it keeps only that they came.
HEADERS_OF_INTEREST: Final = (
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
        arrived: Whether anything of it reached the service: False for connections never made.
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


def exchange(call: Call, found: Route, now: float, fault: str) -> Exchange:
    """Return the record of a request that has just arrived."""
    return Exchange(
        at=now,
        kind=found.kind,
        method=call.method,
        host=call.host,
        path=call.path,
        model=found.model,
        fault=fault or None,
        had_authorization="authorization" in call.headers,
        had_cookie="cookie" in call.headers,
        headers={name: call.headers[name] for name in HEADERS_OF_INTEREST if name in call.headers},
    )


class Log:
    """The exchanges in the order of their arrival, the last ``keep`` of them if it is given.

    Attributes:
        refused: How many requests were answered 429, those no longer kept included.
    """

    def __init__(self, keep: int | None = None) -> None:
        self.refused = 0
        self._keep = keep
        self._next = 0
        self._kept: dict[int, Exchange] = {}
        self._totals: Counter[Kind] = Counter()

    def add(self, record: Exchange) -> int:
        """Append a record and return its number."""
        number, self._next = self._next, self._next + 1
        self._kept[number] = record
        self._totals[record.kind] += record.arrived
        self.refused += 429 in (record.status, record.code)
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

    def __iter__(self) -> Iterator[Exchange]:
        return iter(self._kept.values())


def most_in_window(records: Iterable[Exchange], seconds: float = WINDOW) -> int:
    """Return the most counted requests of one key in any window of ``seconds`` seconds."""
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
