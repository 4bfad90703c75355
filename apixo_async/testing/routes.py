"""Which call of the service a request is: by its path and method alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from apixo_async.testing.replies import Call, Kind

PREFIX = "/api/v1"

#: Pattern, kind and methods of every path there is.
_ROUTES: tuple[tuple[re.Pattern[str], Kind, tuple[str, ...]], ...] = (
    (re.compile(rf"{PREFIX}/generateTask/(?P<model>[^/]+)"), "submit", ("POST",)),
    (re.compile(rf"{PREFIX}/statusTask/(?P<model>[^/]+)"), "look", ("GET",)),
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
        parts.get("task_id") or (call.query.get("taskId") if kind == "look" else None),
        None if index is None else int(index),
        405 if not allowed else None if known else 404,
    )
