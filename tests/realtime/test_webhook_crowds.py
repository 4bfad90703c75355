"""A hundred deliveries at once, and senders who stall, leave or smuggle: nothing is held up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from apixo_async.webhooks._body import PATIENCE

from ..support.attacks import TOKEN, Attack, Known, request_of
from ..support.requests import BODY
from .test_webhook_forgeries import status_of
from .test_webhook_servers import BOUND, aiohttp_of, connected, fastapi_of


def others() -> set[asyncio.Task[Any]]:
    """Return the tasks of the loop, but for the one that each step of a test has."""
    return {one for one in asyncio.all_tasks() if "TestRunner" not in repr(one.get_coro())}


@pytest.fixture(params=[fastapi_of, aiohttp_of], ids=["FastAPI", "aiohttp"])
async def served(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[tuple[Known, int]]:
    """Serve the receiver; whatever a test does to it, nothing is left behind."""
    watched = Known()
    await watched.open_known()
    async with request.param(watched.receiver) as port:
        before = others()
        yield watched, port
        async with asyncio.timeout(BOUND):
            while left := others() - before:
                await asyncio.wait(left)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def callback(*, size: int | None = None) -> bytes:
    """Return a right callback, or its first bytes."""
    (head, *parts) = request_of(Attack("POST", TOKEN, BODY, (), 1_000), "length")
    return b"".join([head, *parts])[:size]


async def is_answered(port: int) -> bool:
    """Deliver a callback; return True if it is answered before a body that stalls is given up."""
    async with asyncio.timeout(PATIENCE):
        return await status_of(port, [callback()], ends=False) == 200


async def test_a_hundred_deliveries(served: tuple[Known, int]) -> None:
    """A hundred deliveries at once are each answered, for two polls of most."""
    watched, port = served
    assert all(await asyncio.gather(*(is_answered(port) for _ in range(100))))
    assert watched.polls in (["task_1"], ["task_1"] * 2)


async def test_a_hundred_that_stall(served: tuple[Known, int]) -> None:
    """Heads and bodies that stop half-way, their senders still there, hold up nobody else."""
    watched, port = served
    async with contextlib.AsyncExitStack() as stack:
        for size in range(0, len(callback()), len(callback()) // 100 + 1):
            _, writer = await stack.enter_async_context(connected(port))
            writer.write(callback(size=size))
        assert await is_answered(port)
        assert watched.polls == ["task_1"]


async def test_a_hundred_that_leave(served: tuple[Known, int]) -> None:
    """A hundred that break off their bodies at once leave nothing behind."""
    watched, port = served
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(100):
            _, writer = await stack.enter_async_context(connected(port))
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )  # An RST in place of a FIN.
            writer.write(callback(size=-5))
            await writer.drain()
    assert await is_answered(port)
    assert set(watched.polls) <= {None, "task_1"}


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_callback_within_a_refused_body(served: tuple[Known, int], framing: str) -> None:
    """The body of a refused request is never taken for the next request."""
    watched, port = served
    attack = Attack("POST", "wrong", callback() * 20, (), 500)
    assert await status_of(port, request_of(attack, framing), ends=False) == 404
    assert watched.untouched


async def test_a_token_in_other_characters(served: tuple[Known, int]) -> None:
    """A token whose characters are written as %XX is the same; written so twice, it is none."""
    watched, port = served
    once = "".join(f"%{ord(letter):02x}" for letter in TOKEN)
    for path, status in ((once.replace("%", "%25"), 404), (once, 200), (TOKEN + "?a=1", 200)):
        request = request_of(Attack("POST", path, BODY, (), 1_000), "length")
        assert await status_of(port, request, ends=False) == status
    assert set(watched.polls) == {"task_1"}
