"""Forged, mutated, half-sent and too many callbacks: they cause nothing, and hold nothing up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator, MutableMapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, unquote

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apixo_async import AsyncClient, GptImage1, Task
from apixo_async.testing import Simulator, VirtualTimeLoop
from apixo_async.webhooks import WebhookReceiver
from apixo_async.webhooks import _receiver as receiver_module
from apixo_async.webhooks._inbox import SPACING

from ..support.attacks import (
    ANY_BODY,
    ATTACKS,
    FRAMINGS,
    HONEST,
    ID,
    LATEST,
    RAW,
    RESPELLED,
    SIGNED,
    TOKEN,
    UNSIGNED,
    Attack,
    Known,
    flipped,
    request_of,
)
from ..support.requests import BODY, FORGERIES, SECRET, URL, parts_of, scope_of
from .test_webhook_servers import aiohttp_of, connected, fastapi_of


def many(examples: int) -> settings:
    """Have the same examples in each run, so many of them."""
    checks = list(HealthCheck)
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=checks,
    )


@dataclass
class Scene:
    """A client whose task's callback has the known token, and all that a callback could touch."""

    simulator: Simulator
    receiver: WebhookReceiver
    client: AsyncClient
    task: Task

    def __post_init__(self) -> None:
        self.app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        self.app.mount("/apixo", self.receiver.asgi())

    @property
    def state(self) -> tuple[object, ...]:
        """What the service was asked for, and what the client knows."""
        subscriptions = [subscription.url for subscription in self.receiver._subscriptions.values()]
        return self.simulator.count(), self.client.statistics(), self.task.state, subscriptions

    async def ask(self, attack: Attack) -> tuple[int, int]:
        """Return the status that the application answers, and how often it asked for the body."""
        headers = [(name.lower().encode(), text.encode("latin-1")) for name, text in attack.headers]
        scope = scope_of(unquote(f"/apixo/{attack.path}"), attack.method, headers)
        left, reads, statuses = iter(parts_of(*attack.parts)), 0, list[int]()

        async def receive() -> dict[str, Any]:
            nonlocal reads
            reads += 1
            return next(left)

        async def send(message: MutableMapping[str, Any]) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        await self.app(scope, receive, send)
        for _ in range(5):  # Whatever it may have started shows itself.
            await asyncio.sleep(0.0)
        return statuses[0], reads


@pytest.fixture
def run() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Run in virtual time, which stands still in between."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        yield runner.run


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]) -> Iterator[Scene]:
    """Submit a task that takes long, in callback mode; its token is the known one."""
    drawn = SimpleNamespace(token_bytes=lambda size: bytes.fromhex(ID)[:size])
    monkeypatch.setattr(receiver_module, "secrets", drawn)
    monkeypatch.setattr(receiver_module, "time", SimpleNamespace(time=lambda: LATEST - 1.0))
    simulator, receiver = Simulator(seed=1, durations=1_200.0), WebhookReceiver(URL, SECRET)
    client = AsyncClient("test-key", transport=simulator.transport(), webhooks=receiver, seed=1)
    castle = GptImage1(prompt="a castle", aspect_ratio="1:1", num_images=1)
    made = Scene(simulator, receiver, client, run(client.submit(castle)))
    assert made.state[-1] == [f"{URL}/{TOKEN}"]
    yield made
    run(client.aclose())


def test_forged_requests(
    scene: Scene, run: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """What is no callback is refused before its body is read, and causes nothing."""
    before = scene.state

    @many(FORGERIES)
    @given(ATTACKS)
    def forge(attack: Attack) -> None:
        assert run(scene.ask(attack)) == (404, 0)
        assert scene.state == before

    forge()
    assert caplog.records == []


def test_every_near_miss(scene: Scene, run: Callable[..., Any]) -> None:
    """No bit of a token may differ, and no other spelling or signature will do."""
    before = scene.state
    for token in [*map(flipped, range(8 * len(RAW))), *RESPELLED, *SIGNED, *UNSIGNED]:
        attack = Attack("POST", quote(token, safe=""), BODY, (), 1_000)
        assert run(scene.ask(attack)) == (404, 0)
        assert scene.state == before
    assert run(scene.ask(Attack("POST", TOKEN, BODY, (), 1_000)))[0] == 200


def test_odd_callbacks(scene: Scene, run: Callable[..., Any]) -> None:
    """A right token with any body causes polls, not too many, and tells nothing itself."""

    @many(FORGERIES)
    @given(ANY_BODY)
    def forge(body: bytes) -> None:
        assert run(scene.ask(Attack("POST", TOKEN, body, (), 1_000)))[0] == 200
        run(asyncio.sleep(min(SPACING / 4, 500.0 / FORGERIES)))  # The task goes on longer.
        assert not scene.task.done()

    forge()
    assert 20 <= scene.simulator.count("poll") <= 40  # Beyond 20, they are scheduled.
    assert scene.simulator.count("submit") == 1
    assert run(scene.task.wait(None))
    assert not any("evil" in url for url in scene.task.result().urls)


# --- on real sockets -------------------------------------------------------------------------


async def status_of(port: int, parts: list[bytes], *, ends: bool) -> int | None:
    """Return the status that a server answers, or None where it only hangs up."""
    async with connected(port) as (reader, writer):
        with contextlib.suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()
            if ends:  # An answer may be lost with it, so only where none needs to come.
                writer.write_eof()
        with contextlib.suppress(ConnectionError):
            line = await reader.readline()
            return int(line.split()[1]) if line else None
    return None


@pytest.mark.parametrize("server", [fastapi_of, aiohttp_of], ids=["FastAPI", "aiohttp"])
def test_forged_requests_on_sockets(server: Callable[..., Any]) -> None:
    """What is no callback is refused on a wire, too, however its length is declared."""
    with asyncio.Runner() as runner, contextlib.ExitStack() as stack:
        watched = Known()
        runner.run(watched.open_known())
        served = contextlib.AsyncExitStack()
        port = runner.run(served.enter_async_context(server(watched.receiver)))
        stack.callback(lambda: runner.run(served.aclose()))

        @many(FORGERIES)
        @given(ATTACKS, st.sampled_from([*HONEST] * 4 + FRAMINGS))
        def forge(attack: Attack, framing: str) -> None:
            status = runner.run(
                status_of(port, request_of(attack, framing), ends=framing not in HONEST)
            )
            # A server refuses by itself, with 400, what is no HTTP.
            assert status in {400, 404} or (status is None and framing not in HONEST)
            assert watched.untouched

        forge()
