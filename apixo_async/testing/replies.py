"""A request as the service sees it, and the answers that the documentation gives."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from apixo_async.testing.lifecycles import SimulatedTask

Kind = Literal["submit", "poll", "balance", "download", "other"]

#: Where the documents' results lie; in process there is no server to name instead.
RESULT_HOST = "https://r2.apixo.ai"


#: The documents' words for the codes, as messages of answers that need one.
MEANINGS: Mapping[int, str] = {
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
        host: With its port, where there is one.
        path: Decoded, without the query.
        query: The first value of each parameter.
        headers: Names in lower case.
        result_base: Scheme and host for the URLs of results.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    host: str = ""
    result_base: str = RESULT_HOST


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer; ``code`` is the envelope's, where there is one."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    code: int | None = None


class Refusal(Exception):  # a signal inside the simulator, not an error of its users
    """Carry a documented error up to where it becomes an answer."""

    def __init__(self, code: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.headers = headers or {}

    def reply(self) -> Reply:
        """Return the error as the documents show it: the same code twice, data null."""
        return envelope(self.code, self.message, None, headers=self.headers)


def success(data: object) -> Reply:
    """Return the envelope of success around ``data``."""
    return envelope(200, "success", data)


def envelope(
    code: int,
    message: str,
    data: object,
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Return the envelope; its HTTP status is its code unless given."""
    body = {"code": code, "message": message, "data": data}
    return as_json(body, status=code if status is None else status, headers=headers)


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


def status_object(task: SimulatedTask, now: float, epoch: float, base: str) -> dict[str, object]:
    """Return the status object of a task at ``now``, with the keys that the documents give it."""
    state = task.state(now)
    found: dict[str, object] = {"taskId": task.id, "state": state}
    if state == "success":
        urls = [base + path for path in task.result_paths()]
        found["resultJson"] = json.dumps({"resultUrls": urls}, separators=(",", ":"))
    elif state == "failed":
        found |= {"failCode": task.fail_code, "failMsg": task.fail_msg}
    found["createTime"] = _milliseconds(epoch + task.created)
    if state in ("success", "failed"):
        found["completeTime"] = _milliseconds(epoch + task.ends)
        # gpt-image-2's page promises costTime for successes only.
        if state == "success" or task.model != "gpt-image-2":
            found["costTime"] = _milliseconds(task.cost)
    return found


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


PREFIX = "/api/v1"

#: Pattern, kind and methods of every path there is.
_ROUTES: tuple[tuple[re.Pattern[str], Kind, tuple[str, ...]], ...] = (
    (re.compile(rf"{PREFIX}/generateTask/(?P<model>[^/]+)"), "submit", ("POST",)),
    (re.compile(rf"{PREFIX}/statusTask/(?P<model>[^/]+)"), "poll", ("GET",)),
    (re.compile(rf"{PREFIX}/apikeys/current-balance"), "balance", ("GET",)),
    (
        re.compile(r"/results/(?P<task_id>[^/]+)/(?P<index>\d{1,4})\.(?:png|jpg|webp)"),
        "download",
        ("GET", "HEAD"),
    ),
)
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Route:
    """What a request asks for; ``problem`` is 404 or 405 where there is no such call."""

    kind: Kind
    model: str | None = None
    task_id: str | None = None
    index: int | None = None
    problem: int | None = None


def known_models(models: Collection[str]) -> frozenset[str]:
    """Return the names as a set.

    Raises:
        ValueError: One of them could not stand in a path, or all came as one text.
    """
    if isinstance(models, str):
        raise ValueError(f"models: {models!r} given; allowed is a collection of names")
    for model in models:
        if not _MODEL.fullmatch(model):
            raise ValueError(f"models: {model!r} given; allowed are names that stand in a path")
    return frozenset(models)


def route(call: Call) -> Route:
    """Say what ``call`` asks for."""
    for pattern, kind, methods in _ROUTES:
        match = pattern.fullmatch(call.path)
        if match:
            return _found(kind, match.groupdict(), call, allowed=call.method in methods)
    return Route("other", problem=404)


def _found(kind: Kind, parts: Mapping[str, str], call: Call, *, allowed: bool) -> Route:
    model = parts.get("model")
    known = model is None or _MODEL.fullmatch(model) is not None
    index = parts.get("index")
    return Route(
        kind if allowed else "other",
        model,
        parts.get("task_id") or (call.query.get("taskId") if kind == "poll" else None),
        None if index is None else int(index),
        405 if not allowed else None if known else 404,
    )
