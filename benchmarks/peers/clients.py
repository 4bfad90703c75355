"""The clients, each with its own defaults: create a task, wait for its result, return its id."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from apixo_async import AsyncClient, GptImage1

KEY = "benchmark-key"

Ask = Callable[[int], Awaitable[str]]


@asynccontextmanager
async def ours(url: str) -> AsyncGenerator[Ask]:
    """Use this package as it comes."""
    async with AsyncClient(KEY, base_url=url) as client:
        yield _asking(client)


@asynccontextmanager
async def ours_on_aiohttp(url: str) -> AsyncGenerator[Ask]:
    """Use this package with its other transport."""
    from apixo_async.aiohttp import AiohttpTransport

    async with AsyncClient(KEY, base_url=url, transport=AiohttpTransport()) as client:
        yield _asking(client)


def _asking(client: AsyncClient) -> Ask:
    async def ask(number: int) -> str:
        wanted = GptImage1(prompt=f"cafe {number}", aspect_ratio="1:1", num_images=1)
        return (await client.generate(wanted)).task_id

    return ask


@asynccontextmanager
async def openai(url: str) -> AsyncGenerator[Ask]:
    """Use openai's way to create something and poll it."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(api_key=KEY, base_url=f"{url}/v1") as client:

        async def ask(number: int) -> str:
            batches = client.vector_stores.file_batches
            batch = await batches.create_and_poll("store", file_ids=[f"file-{number}"])
            return batch.id

        yield ask


@asynccontextmanager
async def fal(url: str) -> AsyncGenerator[Ask]:
    """Use fal's queue: submit, poll the status, fetch the response."""
    import fal_client.client

    # The package can be told of another host, but never of plain HTTP.
    fal_client.client.QUEUE_URL_FORMAT = f"{url}/"
    client = fal_client.AsyncClient(key=KEY)

    async def ask(number: int) -> str:
        result = await client.subscribe("bench/mark", {"prompt": f"cafe {number}"})
        return str(result["task_id"])

    yield ask


@dataclass(frozen=True)
class Peer:
    """A client, and what it needs.

    Attributes:
        connect: Opens the client for a server's base URL.
        shape: The shape of that server.
        distribution: What must be installed.
        module: The import name of that.
        is_ours: Whether it is this package, and not one that it is measured against.
    """

    connect: Callable[[str], AbstractAsyncContextManager[Ask]]
    shape: str
    distribution: str
    module: str
    is_ours: bool = False


PEERS = {
    "ours": Peer(ours, "apixo", "apixo-async", "apixo_async", is_ours=True),
    "ours, [aiohttp]": Peer(ours_on_aiohttp, "apixo", "httpx-aiohttp", "httpx_aiohttp", True),
    "openai": Peer(openai, "openai", "openai", "openai"),
    "fal-client": Peer(fal, "fal", "fal-client", "fal_client"),
}
