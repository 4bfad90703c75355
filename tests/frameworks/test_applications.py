"""Applications as people write them, each against a simulator that `apixo_server` serves."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final

import django
import flask
import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.test import AsyncClient as AsyncVisitor
from django.test import Client as Visitor
from django.urls import path
from fastapi import FastAPI
from fastapi.testclient import TestClient

from apixo_async import AsyncClient, ConfigurationError, GptImage2, TaskRef, blocking
from apixo_async.testing import Simulator

pytest_plugins = ["apixo_async.testing.plugin"]

LIGHTHOUSE: Final = GptImage2(prompt="a lighthouse")
BOUND: Final = 60  # seconds


# --- FastAPI -----------------------------------------------------------------------------------


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Have a client for as long as the application runs."""
    async with AsyncClient() as app.state.apixo:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/images")
async def image(prompt: str) -> dict[str, Any]:
    """Buy an image."""
    result = await app.state.apixo.generate(GptImage2(prompt=prompt))
    return {"urls": result.urls}


def test_fastapi(apixo_server: Simulator) -> None:
    """Under the `TestClient`, with its own thread and loop, the application finds the service."""
    with TestClient(app) as visitor:
        answers = [visitor.post("/images", params={"prompt": "a fox"}) for _ in range(2)]
    assert [len(answer.json()["urls"]) for answer in answers] == [1, 1]
    assert apixo_server.created == 2


# --- Django ------------------------------------------------------------------------------------

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["testserver"], ROOT_URLCONF=__name__, SECRET_KEY="a secret of the tests"
    )
    django.setup()

#: The clients of the views, as modules of an application have them; made by each test.
CLIENTS: dict[str, Any] = {}


def sync_view(_: HttpRequest) -> JsonResponse:
    """Buy an image with the blocking client."""
    return JsonResponse({"urls": CLIENTS["blocking"].generate(LIGHTHOUSE).urls})


async def async_view(_: HttpRequest) -> JsonResponse:
    """Buy an image with the client of the loop."""
    result = await CLIENTS["async"].generate(LIGHTHOUSE)
    return JsonResponse({"urls": result.urls})


def trapped_view(_: HttpRequest) -> JsonResponse:
    """Buy an image with an async client, on whichever loop `async_to_sync` has for this call."""
    task = async_to_sync(CLIENTS["async"].submit)(LIGHTHOUSE)
    return JsonResponse({"task": task.id})


urlpatterns = [
    path("sync/", sync_view),
    path("async/", async_view),
    path("trapped/", trapped_view),
]


@pytest.fixture
def blocking_client(apixo_server: Simulator) -> Iterator[blocking.Client]:  # noqa: ARG001  # named
    """Have the blocking client of the views."""
    with blocking.Client() as client:
        CLIENTS["blocking"] = client
        yield client


@pytest.mark.usefixtures("blocking_client")
def test_a_sync_view_under_wsgi(apixo_server: Simulator) -> None:
    """Threads of a WSGI server share one blocking client."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: Visitor().get("/sync/").json(), range(16)))
    assert len({answer["urls"][0] for answer in answers}) == apixo_server.created == 16


@pytest.mark.usefixtures("blocking_client")
async def test_a_sync_view_under_asgi(apixo_server: Simulator) -> None:
    """Django runs it in a thread, beside the loop: the blocking client does not notice."""
    visitor = AsyncVisitor()
    answers = await asyncio.gather(*(visitor.get("/sync/") for _ in range(3)))
    assert len({answer.json()["urls"][0] for answer in answers}) == apixo_server.created == 3


async def test_an_async_view_under_asgi(apixo_server: Simulator) -> None:
    """All requests run on one loop, so that they share one client."""
    async with AsyncClient() as CLIENTS["async"]:
        visitor = AsyncVisitor()
        answers = await asyncio.gather(*(visitor.get("/async/") for _ in range(20)))
    assert len({answer.json()["urls"][0] for answer in answers}) == apixo_server.created == 20


async def test_async_to_sync_under_asgi(apixo_server: Simulator) -> None:
    """Under ASGI it calls back into the loop of the server, where the client is at home."""
    async with AsyncClient() as client:
        CLIENTS["async"] = client
        answer = await AsyncVisitor().get("/trapped/")
        result = await client.attach(LIGHTHOUSE.model, answer.json()["task"])
    assert len(result.urls) == apixo_server.created == 1


@pytest.fixture
def left_connections() -> Iterator[None]:
    """Collect, without their warnings, the connections that a trapped client leaves on its loop."""
    yield
    CLIENTS.pop("async", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def trap(visit: Callable[[], object]) -> str:
    """Return what a visit is refused with."""
    with pytest.raises(ConfigurationError) as caught:
        visit()
    return str(caught.value)


@pytest.mark.usefixtures("left_connections")
def test_async_to_sync_under_wsgi(apixo_server: Simulator) -> None:
    """Each call has a loop of its own: once tasks are left on one, the error names the trap."""
    client = CLIENTS["async"] = AsyncClient()
    first = Visitor().get("/trapped/").json()["task"]
    said = trap(lambda: Visitor().get("/trapped/"))
    for word in ("closed with 1 tasks", "`async_to_sync`", "apixo_async.blocking.Client"):
        assert word in said
    assert client.unfinished == (TaskRef("gpt-image-2", first),)
    assert apixo_server.created == 1


@pytest.mark.usefixtures("left_connections")
def test_two_threads_under_wsgi(apixo_server: Simulator) -> None:
    """While a call of another thread runs on its loop, the error names the trap, too."""
    client, both = AsyncClient(), threading.Barrier(2)

    async def held() -> None:
        await client.balance()
        await asyncio.to_thread(both.wait)
        await asyncio.to_thread(both.wait)

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(async_to_sync(held))
        both.wait(BOUND)
        said = trap(lambda: async_to_sync(client.submit)(LIGHTHOUSE))
        both.wait(BOUND)
        other.result(BOUND)
    for word in ("another event loop", "`async_to_sync`", "apixo_async.blocking.Client"):
        assert word in said
    assert apixo_server.created == 0


def test_an_async_view_under_wsgi(apixo_server: Simulator) -> None:
    """Each request has a loop of its own, which ends: a view opens and closes its own client."""

    async def own(request: HttpRequest) -> JsonResponse:
        async with AsyncClient() as CLIENTS["async"]:
            return await async_view(request)

    urlpatterns.append(path("own/", own))
    answers = [Visitor().get("/own/").json() for _ in range(2)]
    assert len({answer["urls"][0] for answer in answers}) == apixo_server.created == 2


# --- Flask -------------------------------------------------------------------------------------


def test_flask(blocking_client: blocking.Client, apixo_server: Simulator) -> None:
    """A view of Flask buys with the blocking client."""
    shop = flask.Flask(__name__)

    @shop.post("/images")
    def buy() -> dict[str, Any]:
        return {"urls": blocking_client.generate(LIGHTHOUSE).urls}

    assert len(shop.test_client().post("/images").get_json()["urls"]) == apixo_server.created == 1
