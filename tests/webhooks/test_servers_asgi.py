"""The ASGI application: what is served where, and what causes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from starlette.applications import Starlette
from starlette.routing import Mount

from apixo_async.testing.virtual_time import VirtualTimeLoop
from apixo_async.webhooks._body import LONGEST_BODY, PATIENCE

from ..support.requests import (
    BODY,
    FORGERIES,
    METHODS,
    Forgery,
    Watched,
    call,
    forgeries,
    parts_of,
    scope_of,
    status_of,
)


@pytest.fixture
async def watched() -> Watched:
    """Open a subscription on a receiver that is watched."""
    made = Watched()
    made.open()
    return made


async def test_a_callback(watched: Watched) -> None:
    """A right token and a readable body: 200, an empty answer, and one poll told at once."""
    sent = await call(watched.receiver.asgi(), scope_of(f"/{watched.token}"), parts_of(BODY))
    assert sent == [
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]},
        {"type": "http.response.body", "body": b""},
    ]
    assert watched.polls == ["task_1"]
    assert watched.unknown == []


async def test_a_callback_in_parts(watched: Watched) -> None:
    """A body in parts, empty ones among them, is one body."""
    parts = [BODY[:10], b"", BODY[10:20], b"", BODY[20:]]
    assert await status_of(watched.receiver.asgi(), f"/{watched.token}", *parts) == 200
    assert watched.polls == ["task_1"]


async def test_a_body_in_one_message(watched: Watched) -> None:
    """A message without `more_body` is the last one, and one without `body` is empty."""
    app, scope = watched.receiver.asgi(), scope_of(f"/{watched.token}")
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": BODY}]
    assert (await call(app, scope, messages))[0]["status"] == 200
    assert (await call(app, scope, [{"type": "http.request"}]))[0]["status"] == 200
    assert watched.polls == ["task_1"]  # The second poll comes a second later.


@pytest.mark.parametrize(
    "mounted",
    [
        lambda app: app,
        lambda app: Starlette(routes=[Mount("/hooks/apixo", app)]),
        lambda app: Starlette(routes=[Mount("/hooks", Starlette(routes=[Mount("/apixo", app)]))]),
        lambda app: _behind("", _fastapi(app)),
        lambda app: _behind("/behind/a/proxy", _fastapi(app)),
    ],
    ids=["bare", "mounted", "mounted twice", "FastAPI", "FastAPI behind a proxy"],
)
async def test_wherever_it_is_mounted(
    watched: Watched, mounted: Callable[[Any], Callable[..., Any]]
) -> None:
    """The path of the mount may differ from that of the public URL: only the last part counts."""
    app = mounted(watched.receiver.asgi())
    assert await status_of(app, f"/hooks/apixo/{watched.token}", BODY) == 200
    assert await status_of(app, f"/hooks/apixo/{watched.token}/", BODY) == 404
    assert await status_of(app, "/hooks/apixo/", BODY) == 404
    assert watched.polls == ["task_1"]


def _fastapi(app: Any) -> FastAPI:
    outer = FastAPI()
    outer.mount("/hooks/apixo", app)
    return outer


def _behind(root_path: str, app: Any) -> Callable[..., Any]:
    """Serve an application as a server does that was told of a proxy's prefix."""

    async def served(scope: dict[str, Any], receive: Any, send: Any) -> None:
        path = root_path + scope["path"]
        await app(scope | {"root_path": root_path, "path": path}, receive, send)

    return served


@pytest.mark.parametrize("method", [one for one in METHODS if one != "POST"])
async def test_other_methods(watched: Watched, method: str) -> None:
    """What is no POST meets the same 404 as a wrong token."""
    app = watched.receiver.asgi()
    assert await status_of(app, f"/{watched.token}", BODY, method=method) == 404
    assert not watched.told


async def test_a_wrong_token_is_refused_unread(watched: Watched) -> None:
    """The body of a wrong token is not read: its answer does not wait for a byte of it."""

    async def receive() -> dict[str, Any]:
        raise AssertionError("read")

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    for path in ("/", "", "/x", f"/{watched.token}x", f"/{watched.token[:-1]}", "/\u00e9"):
        await watched.receiver.asgi()(scope_of(path), receive, send)
    assert [message["status"] for message in sent[::2]] == [404] * 6
    assert not watched.told


@pytest.mark.parametrize("length", [str(LONGEST_BODY + 1), "9" * 5_000, "1", "-1", "many"])
async def test_a_declared_length(watched: Watched, length: str) -> None:
    """What a request says of its length is the server's to check."""
    headers = [(b"host", b"x"), (b"Content-Length", length.encode())]
    scope = scope_of(f"/{watched.token}", headers=headers)
    start, _ = await call(watched.receiver.asgi(), scope, parts_of(BODY))
    assert start["status"] == 200
    assert watched.polls == ["task_1"]


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ([b"x" * 4_096] * 17, None),
        ([BODY, *[b" " * 4_096] * 17], "task_1"),
        ([b"<html><h1>Bad gateway</h1></html>"], None),
        ([BODY[:-20]], "task_1"),
        ([b""], None),
    ],
    ids=["long", "long, with an id", "a page", "cut off", "empty"],
)
async def test_an_odd_body(watched: Watched, parts: list[bytes], named: str | None) -> None:
    """Only the service knows the URL: whatever the body is, it is answered 200 and looked at."""
    assert await status_of(watched.receiver.asgi(), f"/{watched.token}", *parts) == 200
    assert watched.polls == [named]


async def test_a_client_that_leaves(watched: Watched) -> None:
    """Of a client that leaves before its body is whole counts what came."""
    scope, messages = scope_of(f"/{watched.token}"), parts_of(BODY, more=True)
    await call(watched.receiver.asgi(), scope, messages)
    assert watched.polls == ["task_1"]


async def test_a_client_that_leaves_before_its_answer(watched: Watched) -> None:
    """A client that is gone when it is answered harms nothing; its callback counts."""
    messages = iter(parts_of(BODY))

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: dict[str, Any]) -> None:
        raise BrokenPipeError(message["type"])

    await watched.receiver.asgi()(scope_of(f"/{watched.token}"), receive, send)
    assert watched.polls == ["task_1"]


async def test_a_body_that_stops(watched: Watched) -> None:
    """A body that stops half-way is answered when its time is over, and looked at."""
    loop = asyncio.get_running_loop()
    start, messages = loop.time(), iter(parts_of(BODY[:5], more=True))

    async def receive() -> dict[str, Any]:
        return next(messages, None) or await loop.create_future()

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await watched.receiver.asgi()(scope_of(f"/{watched.token}"), receive, send)
    assert sent[0]["status"] == 200
    assert loop.time() - start == PATIENCE
    assert watched.polls == [None]


async def test_a_hundred_at_once(watched: Watched) -> None:
    """A hundred deliveries of one task at once: each 200, one poll now and one after a second."""
    app, path = watched.receiver.asgi(), f"/{watched.token}"
    calls = (status_of(app, path, BODY[:7], BODY[7:]) for _ in range(100))
    assert set(await asyncio.gather(*calls)) == {200}
    await asyncio.sleep(5.0)
    assert watched.polls == ["task_1"] * 2


async def test_a_lifespan(watched: Watched) -> None:
    """A server that announces its start and end is answered, and nothing else happens."""
    phases = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = await call(watched.receiver.asgi(), {"type": "lifespan"}, phases)
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


async def test_a_websocket(watched: Watched) -> None:
    """A websocket is refused before it is accepted, even with a right token."""
    scope = scope_of(f"/{watched.token}") | {"type": "websocket"}
    sent = await call(watched.receiver.asgi(), scope, [{"type": "websocket.connect"}])
    assert sent == [{"type": "websocket.close", "code": 1000}]
    assert not watched.told


async def test_another_scope(watched: Watched) -> None:
    """A scope that ASGI may have one day is refused as the protocol demands."""
    with pytest.raises(RuntimeError, match="'tea'"):
        await call(watched.receiver.asgi(), {"type": "tea"}, [])


QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def test_forged_and_mutated_requests(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing that is forged or mutated tells anybody anything, or is answered otherwise."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        watched = Watched()

        async def opened() -> None:
            watched.open()

        runner.run(opened())
        app = watched.receiver.asgi()

        @settings(max_examples=FORGERIES, **QUIET)
        @given(forgeries(watched.token))
        def forge(forgery: Forgery) -> None:
            path = f"/apixo/{forgery.token}"
            status = runner.run(status_of(app, path, forgery.body, method=forgery.method))
            assert status == 404
            assert not watched.told
            assert [*watched.receiver._subscriptions] == [watched.subscription.id]

        forge()
    assert caplog.records == []
