"""Applications that people would write, with a client that callbacks tell; served on sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import uvicorn
from aiohttp import web
from fastapi import FastAPI

from apixo_async import (
    AsyncClient,
    Event,
    GptImage1,
    Result,
    SubmitUncertainError,
    Task,
    TaskSettled,
)
from apixo_async.webhooks import WebhookReceiver

SECRET: Final = "a secret of sixteen bytes or more"
BOUND: Final = 60.0  # seconds for whatever is waited for
IMAGES: Final = (1, 2, 4)

Images: TypeAlias = Literal[1, 2, 4]
Orphan: TypeAlias = Task | SubmitUncertainError


def image(number: int) -> GptImage1:
    """Return the input of a task; how many images it makes tells it from its neighbours."""
    images: Images = IMAGES[number % 3]
    return GptImage1(prompt=f"a castle, study {number}", aspect_ratio="1:1", num_images=images)


class News(NamedTuple):
    """A task that was completed.

    Attributes:
        task_id: Its id.
        urls: Its results.
        ended_at: When it was over, by the service's clock, in Unix seconds.
    """

    task_id: str
    urls: list[str]
    ended_at: float


def news_of(result: Result) -> News:
    """Return what a handler answers of a result."""
    assert result.completed_at is not None
    return News(result.task_id, list(result.urls), result.completed_at.timestamp())


@dataclass
class App:
    """An application that is served: what its tests may touch of it.

    Attributes:
        url: Where it is.
        events: What its client reported.
        settled: When its client knew of the end of each task, in Unix seconds.
        orphans: What its client handed to `on_orphan`.
        handlers: The handlers that are under way.
    """

    url: str
    events: list[Event] = field(default_factory=list[Event])
    settled: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    orphans: list[Orphan] = field(default_factory=list[Orphan])
    handlers: set[asyncio.Task[Any]] = field(default_factory=set[asyncio.Task[Any]])
    _client: AsyncClient | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def client(self) -> AsyncClient:
        """The client that the application made when it started."""
        assert self._client is not None
        return self._client

    @contextlib.asynccontextmanager
    async def opened(self, client: AsyncClient) -> AsyncGenerator[None]:
        """Have a client for as long as the application lives."""
        async with client:
            self._client = client
            yield

    async def generate(self, number: int) -> News:
        """Do what the application's handler does."""
        handler = asyncio.current_task()
        assert handler is not None
        self.handlers.add(handler)
        try:
            return news_of(await self.client.generate(image(number)))
        finally:
            self.handlers.discard(handler)

    def heard(self, event: Event) -> None:
        """Note an event, and when it came."""
        self.events.append(event)
        if isinstance(event, TaskSettled):
            self.settled.append((event.task_id, time.time()))
        self._changed.set()

    def orphaned(self, orphan: Orphan) -> None:
        """Note what nobody holds any more."""
        self.orphans.append(orphan)
        self._changed.set()

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until something is so, as an event or an orphan shows it."""
        async with asyncio.timeout(BOUND):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


#: Makes an application's client.
ClientOf: TypeAlias = Callable[..., AsyncClient]
Served: TypeAlias = contextlib.AbstractAsyncContextManager[App]
AppOf: TypeAlias = Callable[[ClientOf], Served]


def client_of(base_url: str, app: App, **options: Any) -> AsyncClient:
    """Return a client of the served simulator, whose application hears of everything."""
    hooks: dict[str, Any] = {"on_event": app.heard, "on_orphan": app.orphaned}
    return AsyncClient("test-key", base_url=base_url, seed=1, **hooks, **options)


def listening_socket(port: int = 0) -> tuple[socket.socket, str]:
    """Return a socket that listens, on a port of its own unless one is given, and its URL."""
    listening = socket.create_server(("127.0.0.1", port), backlog=1_024)
    # Its connections have this option, too: else answers in two parts wait for each other.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening, f"http://127.0.0.1:{listening.getsockname()[1]}"


class Server(uvicorn.Server):
    """uvicorn as it is, but that it leaves signals alone and says when it is ready."""

    def __init__(self, app: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=5,
                timeout_keep_alive=75,  # No request meets a connection that is closed just then.
            )
        )
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and say so."""
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals of the process to those who own it."""
        yield


@contextlib.asynccontextmanager
async def uvicorn_of(app: Any, listening: socket.socket) -> AsyncGenerator[None]:
    """Serve an ASGI application, with its lifespan, under uvicorn."""
    server = Server(app)
    running = asyncio.create_task(server.serve([listening]))
    try:
        await asyncio.wait_for(server.ready.wait(), BOUND)
        yield
    finally:
        server.should_exit = True
        await asyncio.wait_for(running, BOUND)


@contextlib.asynccontextmanager
async def aiohttp_of(
    app: web.Application, listening: socket.socket, *, cancels: bool = False
) -> AsyncGenerator[None]:
    """Serve an application of aiohttp."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handler_cancellation=cancels)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        yield
    finally:
        await runner.cleanup()


def fastapi_receiver(
    receiver: WebhookReceiver, listening: socket.socket
) -> contextlib.AbstractAsyncContextManager[None]:
    """Serve nothing but a receiver, mounted in FastAPI."""
    app = FastAPI()
    app.mount("/apixo", receiver.asgi())
    return uvicorn_of(app, listening)


def aiohttp_receiver(
    receiver: WebhookReceiver, listening: socket.socket
) -> contextlib.AbstractAsyncContextManager[None]:
    """Serve nothing but a receiver, as routes of aiohttp."""
    app = web.Application()
    app.add_routes(receiver.aiohttp_routes())
    return aiohttp_of(app, listening)


@contextlib.asynccontextmanager
async def fastapi_app(make: ClientOf) -> AsyncGenerator[App]:
    """Run a FastAPI application whose lifespan has client and receiver."""
    listening, url = listening_socket()
    served = App(url)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        receiver = WebhookReceiver(f"{url}/apixo", SECRET)
        app.mount("/apixo", receiver.asgi())
        async with served.opened(make(served, webhooks=receiver)):
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/images/{number}")
    async def generate(number: int) -> dict[str, Any]:
        return (await served.generate(number))._asdict()

    async with uvicorn_of(app, listening):
        yield served


@contextlib.asynccontextmanager
async def aiohttp_app(make: ClientOf, *, cancels: bool = False) -> AsyncGenerator[App]:
    """Run an aiohttp application with the client in its `cleanup_ctx`.

    Args:
        make: Makes its client.
        cancels: Whether a handler is cancelled when its visitor leaves.
    """
    listening, url = listening_socket()
    served = App(url)
    receiver = WebhookReceiver(f"{url}/apixo", SECRET)

    async def apixo(_: web.Application) -> AsyncGenerator[None]:
        async with served.opened(make(served, webhooks=receiver)):
            yield

    async def generate(request: web.Request) -> web.Response:
        news = await served.generate(int(request.match_info["number"]))
        return web.json_response(news._asdict())

    app = web.Application()
    app.cleanup_ctx.append(apixo)
    app.add_routes(receiver.aiohttp_routes())
    app.router.add_post("/images/{number}", generate)
    async with aiohttp_of(app, listening, cancels=cancels):
        yield served


#: A handler is cancelled when its visitor leaves.
cancelling_app: Final = partial(aiohttp_app, cancels=True)
