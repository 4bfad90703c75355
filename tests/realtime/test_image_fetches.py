"""A served simulator fetches the images of tasks, as the service does, and judges what it gets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Final

import pytest
from aiohttp import web

from apixo_async import AsyncClient, FluxKontext, OtherModel, Task, TaskFailedError
from apixo_async.testing import Simulator, image_fetches, serve
from apixo_async.testing.image_fetches import ImageFetches

from ..support.pictures import png
from ..support.webhook_apps import aiohttp_of, listening_socket

PNG: Final = png(8, 8, 1)
GOOD: Final = {"/cat.png": PNG, "/cat": b"\xff\xd8\xff" + bytes(9), "/largest": PNG.ljust(10**7)}
BAD: Final = {"/page": b"<html>", "/none": b"", "/gif": b"GIF89a", "/large": PNG.ljust(10**7 + 1)}


@contextlib.asynccontextmanager
async def images() -> AsyncGenerator[tuple[str, list[str]]]:
    """Serve images and what is none; yield the URL, and what was asked for."""
    asked: list[str] = []
    listening, url = listening_socket()

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        if request.path == "/hangs":
            await asyncio.sleep(60.0)
        if request.path == "/moved":
            raise web.HTTPFound("/cat.png")
        content = (GOOD | BAD).get(request.path)
        return web.Response(status=404) if content is None else web.Response(body=content)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with aiohttp_of(app, listening):
        yield url, asked


async def failure_of(client: AsyncClient, *urls: object) -> str | None:
    """Return the failCode of a task with images, or None where it succeeds."""
    task: Task = await client.submit(OtherModel("gpt-image-2-like", image_urls=list(urls)))
    await task.wait()
    error = task.exception()
    return error.fail_code if isinstance(error, TaskFailedError) else None


async def test_what_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image of at most 10 MB is good; all else fails its task, with a documented code."""
    monkeypatch.setattr(image_fetches, "_LIMIT", 5.0)
    simulator = Simulator(seed=1, speed=100.0, fetch_images=True)
    bad = [*BAD, "/missing", "/moved", "/hangs"]
    async with (
        images() as (url, asked),
        serve(simulator) as base_url,
        AsyncClient("test-key", base_url=base_url) as client,
    ):
        each = [[f"{url}{path}"] for path in (*GOOD, *bad)]
        each.append([f"{url}/cat.png", "http://127.0.0.1:1/closed"])
        failures = await asyncio.gather(*(failure_of(client, *urls) for urls in each))
        assert failures == [None] * len(GOOD) + ["INVALID_IMAGE_URL"] * (len(bad) + 1)
        assert {*asked} == {*GOOD, *bad}


async def test_a_documented_model() -> None:
    """The failure of a model has that model's own words."""
    simulator = Simulator(seed=1, speed=100.0, fetch_images=True)
    async with (
        images() as (url, _),
        serve(simulator) as base_url,
        AsyncClient("test-key", base_url=base_url) as client,
    ):
        with pytest.warns(UserWarning, match="is not a public host"):
            wanted = FluxKontext(prompt="x", image_urls=[f"{url}/gone"])
        with pytest.raises(TaskFailedError, match="Cannot access provided image URL"):
            await client.generate(wanted)


async def test_what_is_not_fetched() -> None:
    """Other hosts are asked for nothing, nor are those of this machine unless it is wished."""
    odd = ["https://example.com/none.png", "ftp://localhost/x", "http://[::1", 7, None, "cat.png"]
    for simulator in (Simulator(speed=100.0), Simulator(speed=100.0, fetch_images=True)):
        async with (
            images() as (url, asked),
            serve(simulator) as base_url,
            AsyncClient("test-key", base_url=base_url) as client,
        ):
            own = [] if simulator.options.fetch_images else [f"{url}/gone"]
            assert await failure_of(client, *odd, *own) is None
            assert asked == []


async def test_in_process_nothing_is_fetched() -> None:
    """Without sockets there is nothing to fetch with, and nothing that a task waits for."""
    simulator = Simulator(speed=1000.0, fetch_images=True)
    transport, polling = simulator.transport(), simulator.polling
    async with AsyncClient("test-key", transport=transport, polling=polling) as client:
        assert await failure_of(client, "http://127.0.0.1:1/closed") is None


async def test_an_end_in_the_middle() -> None:
    """A server that ends waits for no image."""
    simulator = Simulator(seed=1, speed=1000.0, fetch_images=True)
    async with images() as (url, asked):
        async with serve(simulator) as base_url:
            async with AsyncClient("test-key", base_url=base_url) as client:
                await client.submit(OtherModel("any", image_urls=[f"{url}/hangs"]))
            async with asyncio.timeout(10.0):
                while not asked:  # noqa: ASYNC110 # the server is another program's
                    await asyncio.sleep(0.01)
            assert isinstance(simulator.images, ImageFetches)
            [task_id] = simulator.tasks
            assert simulator.images.is_busy(task_id)
        assert not simulator.images.is_busy(task_id)
