"""Maps of a client, and a service that is quick to answer and forgets what is over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx2

from apixo_async import AsyncClient, FluxKontext, Outcome, Outcomes
from apixo_async._map.buyer import MapClient
from apixo_async._map.items import Inputs


def mapped(client: AsyncClient, inputs: Inputs, **options: Any) -> Outcomes:
    """Map inputs over a client."""
    return client.map(inputs, **options)


def map_client_of(client: AsyncClient) -> MapClient:
    """Return what a map uses of a client."""
    return MapClient(client._life, client._settings.timeouts, client._rng, client._orphan)


async def until_raised(outcomes: Outcomes) -> tuple[list[Outcome], Exception]:
    """Take everything; return it and what was raised in the end."""
    taken: list[Outcome] = []
    try:
        async for outcome in outcomes:
            taken.append(outcome)  # noqa: PERF401  # what came before the exception counts
    except Exception as error:
        return taken, error
    raise AssertionError("nothing was raised")


def castle(number: int) -> FluxKontext:
    """Return the input with this number."""
    return FluxKontext(mode="pro", prompt=f"castle {number}")


def castles(count: int) -> list[FluxKontext]:
    """Return so many inputs."""
    return [castle(number) for number in range(count)]


class Swift(httpx2.AsyncBaseTransport):
    """Answer submits with a new task, and polls it with its success once its time has passed.

    Args:
        lasts: Seconds that a task takes, by its number.
        latency: Seconds of an exchange.
        ids: How many ids there are, each given to one task after the other.

    Attributes:
        made: Tasks so far.
        at_once: Tasks that are not over.
        most_at_once: The most of them.
    """

    phase_aware = True

    def __init__(
        self, lasts: Callable[[int], float], latency: float = 0.05, ids: int = 100_000
    ) -> None:
        self._lasts = lasts
        self._ids = ids
        self._latency = latency
        self._ends: dict[str, float] = {}
        self.made = self.at_once = self.most_at_once = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        sending = request.extensions.get("apixo_async.sending")
        if callable(sending):
            sending()
        await asyncio.sleep(self._latency)
        data = self._make() if request.method == "POST" else self._tell(request)
        return httpx2.Response(200, json={"code": 200, "message": "success", "data": data})

    def _make(self) -> dict[str, object]:
        self.made += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        task_id, lasts = f"task_{self.made % self._ids:08d}", self._lasts(self.made)
        loop = asyncio.get_running_loop()
        self._ends[task_id] = loop.time() + lasts
        loop.call_later(lasts, self._ended)
        return {"taskId": task_id}

    def _ended(self) -> None:
        self.at_once -= 1

    def _tell(self, request: httpx2.Request) -> dict[str, object]:
        task_id = request.url.params["taskId"]
        if asyncio.get_running_loop().time() < self._ends[task_id]:
            return {"taskId": task_id, "state": "processing"}
        del self._ends[task_id]
        urls = {"resultUrls": [f"https://files.example/{task_id}.png"]}
        return {"taskId": task_id, "state": "success", "resultJson": json.dumps(urls)}
