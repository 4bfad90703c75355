"""What the tests of the receiver share: requests in ASGI's words, and forged ones by the dozen."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from apixo_async import TaskRef
from apixo_async.webhooks import WebhookReceiver
from apixo_async.webhooks._inbox import CallbackSubscription
from apixo_async.webhooks._tokens import Intent, Signer, seal

URL = "https://app.example.com/apixo"
SECRET = "canary-webhook-secret-7391"
BODY = json.dumps({"code": 200, "data": {"taskId": "task_1", "state": "success"}}).encode()
#: Requests of each kind that are forged; APIXO_FORGERIES=10000 is the long form.
FORGERIES = int(os.environ.get("APIXO_FORGERIES", "200"))
METHODS = ["POST", "GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"]


@dataclass
class Watched:
    """A receiver with one open subscription, and all that it ever passed on."""

    polls: list[str | None] = field(default_factory=list)
    unknown: list[TaskRef] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.receiver = WebhookReceiver(URL, SECRET, on_unknown=self.unknown.append)

    def open(self) -> CallbackSubscription:
        """Open a subscription; needs a running loop."""
        self.subscription = self.receiver.inbox().open("gpt-image-1", 3_600.0, self.polls.append)
        return self.subscription

    @property
    def token(self) -> str:
        """The subscription's token."""
        return self.subscription.url.rpartition("/")[2]

    @property
    def told(self) -> bool:
        """Whether anybody was told of anything."""
        return bool(self.polls or self.unknown)


def scope_of(
    path: str, method: str = "POST", headers: Iterable[tuple[bytes, bytes]] = ()
) -> dict[str, Any]:
    """Return the ASGI scope of a request."""
    raw = path.encode("utf-8", "surrogatepass")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": raw,
        "query_string": b"",
        "root_path": "",
        "headers": list(headers),
        "client": ("127.0.0.1", 1),
        "server": ("app.example.com", 443),
    }


def parts_of(*parts: bytes, more: bool = False) -> list[dict[str, Any]]:
    """Return the messages of a body; `more` leaves its end open."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if not more:
        messages.append({"type": "http.request", "body": b"", "more_body": False})
    return messages


async def call(
    app: Callable[..., Any], scope: Mapping[str, Any], messages: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Run an ASGI application on these messages, after which the client is gone."""
    left = iter(messages)
    sent: list[dict[str, Any]] = []

    async def receive() -> Mapping[str, Any]:
        return next(left, {"type": "http.disconnect"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


async def status_of(app: Callable[..., Any], path: str, *parts: bytes, method: str = "POST") -> int:
    """Return the status of a request's answer."""
    start, *_ = await call(app, scope_of(path, method), parts_of(*parts))
    return int(start["status"])


# --- forged and mutated requests -------------------------------------------------------------


@dataclass(frozen=True)
class Forgery:
    """A request which is no callback, made of a good token or of none."""

    method: str
    token: str
    body: bytes


_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)
_UNREADABLE = st.one_of(
    st.binary(max_size=64).filter(lambda body: b"code" not in body and b"taskId" not in body),
    st.lists(_JSON, max_size=3).map(lambda value: json.dumps(value).encode()),
    st.integers(1, len(BODY) - 1).map(lambda end: BODY[:end]),
    st.just(BODY + b" " * 65_536),
    st.just(b"[" * 70_000),
)


def _mutated(good: str) -> st.SearchStrategy[str]:
    places, letters = st.integers(0, len(good) - 1), st.sampled_from(_ALPHABET + "=.~%/+ \u00e9")
    return st.one_of(
        st.builds(lambda at, letter: good[:at] + letter + good[at + 1 :], places, letters),
        st.builds(lambda at, letter: good[:at] + letter + good[at:], places, letters),
        places.map(lambda at: good[:at]),
        places.map(lambda at: good[:at] + good[at + 1 :]),
        places.map(lambda at: good[at:] + good[:at]),
        letters.map(lambda letter: good + letter),
        st.sampled_from([good.swapcase(), good[::-1], good * 2, good.lower(), good + "=="]),
    )


def _foreign() -> st.SearchStrategy[str]:
    intents = st.builds(
        Intent,
        st.binary(min_size=16, max_size=16).map(bytes.hex),
        st.sampled_from(["gpt-image-1", "sora-2"]),
        st.integers(0, 2**32 - 1),
    )
    signers = st.binary(max_size=40).filter(lambda key: key != SECRET.encode()).map(Signer)
    stale = st.builds(
        Intent, st.just("00" * 16), st.just("gpt-image-1"), st.integers(0, 1_700_000_000)
    )
    return st.builds(seal, intents, signers) | st.builds(
        seal, stale, st.just(Signer(SECRET.encode()))
    )


def forgeries(good: str) -> st.SearchStrategy[Forgery]:
    """Return requests that must cause nothing, given the token of an open subscription.

    Under a right token every body counts: such a request is forged by another method alone.
    """
    forged = st.one_of(
        _mutated(good),
        _mutated(good),
        _foreign(),
        st.text(_ALPHABET, max_size=120),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    )
    # A slash ends a part of the path: what stands behind it must not be the token either.
    forged = forged.filter(lambda token: token.rpartition("/")[2] != good)
    methods = st.sampled_from([*["POST"] * 6, *METHODS])
    others = st.sampled_from([method for method in METHODS if method != "POST"])
    return st.one_of(
        st.builds(Forgery, methods, forged, st.just(BODY) | _UNREADABLE),
        st.builds(Forgery, others, st.just(good), st.just(BODY) | _UNREADABLE),
    )
