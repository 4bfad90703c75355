"""Without this package: what a good engineer writes who has read the documents.

1,000 tasks at once by a semaphore, 10,000 requests a minute by aiolimiter, the documented polls,
repeats with a growing pause, and a file of results from which the next run goes on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiolimiter import AsyncLimiter

TRIES: Final = 10
NETWORK: Final = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError)
TIMEOUT: Final = aiohttp.ClientTimeout(total=60)

logger = logging.getLogger(__name__)


class ByHandClient:
    """Generate images within the limits of the account."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        tasks_at_once: int = 1_000,
        requests_per_minute: int = 10_000,
        first_poll: float = 20.0,
        interval: float = 3.0,
    ) -> None:
        self.session = session
        self.slots = asyncio.Semaphore(tasks_at_once)
        self.limiter = AsyncLimiter(requests_per_minute, 60)
        self.first_poll = first_poll
        self.interval = interval

    async def generate(self, prompt: str) -> dict[str, Any]:
        """Return the status object of a finished task."""
        wanted = {"mode": "gpt-image-1", "prompt": prompt, "aspect_ratio": "1:1", "num_images": 1}
        body = {"request_type": "async", "input": wanted}
        async with self.slots:
            created = await self.request("POST", "generateTask/gpt-image-1", json=body)
            params = {"taskId": created["taskId"]}
            await asyncio.sleep(self.first_poll)
            while True:
                found = await self.request("GET", "statusTask/gpt-image-1", params=params)
                if found["state"] == "failed":
                    raise RuntimeError(f"{params}: {found['failCode']}, {found['failMsg']}")
                if found["state"] == "success":
                    return found
                await asyncio.sleep(self.interval)

    async def request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Return the data of an answer; try again after 429, 5xx and what the network does."""
        for attempt in range(TRIES):
            await self.limiter.acquire()
            try:
                async with self.session.request(method, f"/api/v1/{path}", **options) as answer:
                    if answer.status != 429 and answer.status < 500:
                        answer.raise_for_status()
                        data: dict[str, Any] = (await answer.json())["data"]
                        return data
            except (
                aiohttp.ClientConnectionError,
                aiohttp.ClientPayloadError,
                TimeoutError,
            ) as error:
                logger.warning("%s %s: %r", method, path, error)
            await asyncio.sleep(min(30, 2**attempt) * random.uniform(0.5, 1.0))
        raise RuntimeError(f"{method} {path}: no answer in {TRIES} tries")


async def generate_all(
    url: str, key: str, prompts: Sequence[str], results: Path, **settings: Any
) -> None:
    """Generate an image for each prompt that has none in the file, and append it there."""
    headers = {"Authorization": f"Bearer {key}"}
    session = aiohttp.ClientSession(url, headers=headers, timeout=TIMEOUT)
    with results.open("a+", buffering=1) as file:
        file.seek(0)
        finished = {json.loads(line)["prompt"] for line in file}
        async with session:
            client = ByHandClient(session, **settings)

            async def one(prompt: str) -> None:
                try:
                    found = await client.generate(prompt)
                except Exception:
                    logger.exception("no image of %r", prompt)
                    return
                urls = json.loads(found["resultJson"])["resultUrls"]
                line = {"prompt": prompt, "task_id": found["taskId"], "urls": urls}
                file.write(json.dumps(line | {"at": time.time()}) + "\n")

            await asyncio.gather(*(one(prompt) for prompt in prompts if prompt not in finished))
