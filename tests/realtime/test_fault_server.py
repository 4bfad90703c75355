"""Every fault of a POST, on fresh, warm and just-closed connections, over both transports."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from apixo_async import (
    APIConnectionError,
    APIStatusError,
    ApixoError,
    AsyncClient,
    FluxKontext,
    SubmitUncertainError,
    Task,
    Timeouts,
)
from apixo_async._config import Secret
from apixo_async._http.channel import Channel, build_transport
from apixo_async.aiohttp import AiohttpTransport
from apixo_async.testing import Simulator, serve

from ..support import faults

#: Rounds of each fault: one in the suite, 20 in the long form (`nox -s soak`).
ROUNDS = int(os.environ.get("APIXO_FAULT_ROUNDS", "1"))
CASTLE = FluxKontext(mode="pro", prompt="a castle")
TRANSPORTS: dict[str, Callable[[], httpx2.AsyncBaseTransport]] = {
    "plain": httpx2.AsyncHTTPTransport,
    "default": lambda: build_transport("http://127.0.0.1", proxy="", verify=True),
    "aiohttp": AiohttpTransport,
}
#: What every run goes through; the long form takes the rest as well.
SHORT = [("default", "fresh"), ("plain", "warm"), ("aiohttp", "just closed")]


async def outcome(client: AsyncClient) -> str:
    """Submit once, and say which of the three ends it came to."""
    [end] = await asyncio.gather(client.submit(CASTLE), return_exceptions=True)
    if isinstance(end, SubmitUncertainError):
        assert end.bought is None
        return "uncertain"
    if isinstance(end, APIStatusError | APIConnectionError):
        assert end.bought is False
        return "refused"
    assert isinstance(end, Task)
    return "bought"


@pytest.mark.parametrize(
    ("transport", "warmth"),
    [
        pytest.param(
            transport, warmth, marks=[] if (transport, warmth) in SHORT else pytest.mark.long
        )
        for transport in TRANSPORTS
        for warmth in ("fresh", "warm", "just closed")
    ],
)
@pytest.mark.parametrize("fault", faults.FAULTS)
async def test_every_fault(fault: str, warmth: faults.Warmth, transport: str) -> None:
    """A submit makes one task at most, and each fault comes to the end that it must come to."""
    act, expected = faults.FAULTS[fault]
    # Time decides nothing on a busy machine, unless the fault is that nothing comes.
    read, retry = (0.3, 60.0) if "hang" in fault else (60.0, 0.01)
    timeouts = Timeouts(connect=60.0, read=read, exchange=120.0, retry=retry, throttled=0.01)
    async with asyncio.timeout(240), faults.serving(act) as server:
        server.close_after_get = warmth == "just closed"
        for _ in range(ROUNDS):
            async with AsyncClient(
                "canary", base_url=server.url, transport=TRANSPORTS[transport](), timeout=timeouts
            ) as client:
                if warmth != "fresh":
                    await client.balance()
                made, posts = len(server.made), server.posts
                # A closed connection may be noticed in time or not: then nothing was sent, or
                # the server never saw what was; never is a task made and its id lost unsaid.
                end = await outcome(client)
                created = len(server.made) - made
                assert created <= 1
                if warmth == "just closed" and server.posts == posts:
                    assert end in ("refused", "uncertain")
                    assert created == 0
                    continue
                assert end == expected
                assert (end == "bought") <= (created == 1)
                if created:
                    assert end in ("bought", "uncertain")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("url", ["refused", "http://no-such-host.invalid"])
async def test_never_sent(transport: str, url: str) -> None:
    """Refused connections and unknown hosts are refusals, for sure."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        base_url = f"https://127.0.0.1:{free.getsockname()[1]}" if url == "refused" else None
        async with AsyncClient(
            "canary",
            base_url=base_url or url.replace("http:", "https:"),
            transport=TRANSPORTS[transport](),
            timeout=Timeouts(connect=1.0, retry=0.01),
        ) as client:
            assert await outcome(client) == "refused"


def test_there_are_enough_faults() -> None:
    """With refused connections, unknown hosts and resets on accept there are at least 22."""
    assert len(faults.FAULTS) >= 22


CANCELLED = int(os.environ.get("APIXO_CANCELLED", "500"))


def descriptors() -> int:
    """Return how many file descriptors this process has open, where that can be told."""
    shown = Path("/proc/self/fd")
    return len(list(shown.iterdir())) if shown.is_dir() else 0


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_pool_survives_cancelled_requests(transport: str, tmp_path: Path) -> None:
    """After cancelled polls and downloads by the thousand, 30 healthy requests are answered."""
    simulator = Simulator(speed=1_000.0)
    async with asyncio.timeout(240), serve(simulator) as url:
        async with AsyncClient(
            "test-key", base_url=url, transport=TRANSPORTS[transport]()
        ) as client:
            task = await client.submit(CASTLE)
            await asyncio.sleep(0.1)
            await task.refresh()
            result = await task
            one = Channel(
                client._life.engine().transport,
                base_url=f"{url}/api/v1",
                key=Secret("test-key"),
                timeouts=Timeouts(),
                user_agent="test",
            )
            path = f"/statusTask/{task.model}?taskId={task.id}"
            before = descriptors()
            await cancel(lambda: one.get(path), CANCELLED // 2)
            await cancel(lambda: client.download(result, tmp_path), CANCELLED // 2)
            answers = await asyncio.gather(*(one.get(path) for _ in range(30)))
            assert [answer.status for answer in answers] == [200] * 30
        await asyncio.sleep(0.05)
    assert descriptors() <= before + 2
    assert unfinished(tmp_path) == []


def unfinished(directory: Path) -> list[Path]:
    """Return the temporary files that downloads left behind."""
    return list(directory.rglob("*.part"))


async def cancel(begin: Callable[[], object], count: int) -> None:
    """Begin calls fifty at a time, and cancel them a little later each time."""
    for wave in range(count // 50):
        calls = [asyncio.ensure_future(begin()) for _ in range(50)]  # type: ignore[arg-type,var-annotated]  # coroutines of several kinds
        await asyncio.sleep(0.0004 * (wave % 40))
        for call in calls:
            call.cancel()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert not [end for end in ends if isinstance(end, ApixoError)]
