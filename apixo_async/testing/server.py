"""The service on a port of this process: the server, its app, and the page to watch it on."""

from __future__ import annotations

import asyncio
import contextlib
import http
import ipaddress
import json
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import asdict, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

import anyio
from anyio.from_thread import start_blocking_portal

from apixo_async._http.wire import SPEED_HEADER
from apixo_async.testing.exchanges import Call, Refusal, Reply
from apixo_async.testing.faults import HEALTHY, Fault, framed

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Receive, Scope, Send

    from apixo_async.testing.simulator import Simulator

#: Where a server is reached from this machine that listens on all its addresses.
_REACHED: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # only where a caller gives them as host
_CLOSING: Final = 10.0  # seconds that an orderly end may take


async def serve_forever(
    simulator: Simulator,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    started: Callable[[str], object],
) -> None:
    """Serve ``simulator`` until this is cancelled; for the rest, see `serve`.

    ``started`` is called with the base URL once requests are answered.
    """
    async with serve(simulator, host, port) as url:
        started(url)
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def serve(
    simulator: Simulator, host: str = "127.0.0.1", port: int = 0
) -> AsyncGenerator[str, None]:
    """Serve ``simulator`` for as long as the context lasts; yield its base URL.

    Port 0 takes a free one. Callbacks are posted over real sockets, unless `Simulator.deliver_to`
    named a receiver. At the end every connection is cut, hanging ones too, and callbacks that are
    still due are dropped. Requests with the ``Host`` of another site, as a web page may send them,
    are answered 421. Needs a loop that really waits, not a `VirtualTimeLoop`.

    Raises:
        OSError: The port cannot be taken.
        RuntimeError: Starlette or uvicorn is missing; the message names the extra.
    """
    app = OwnHosts(simulator.app(), host)
    async with (
        serve_app(app, host, port) as url,
        simulator.deliveries.on_sockets(),
        simulator.images.on_sockets(),
    ):
        yield url


@contextlib.asynccontextmanager
async def serve_app(
    app: ASGIApp, host: str = "127.0.0.1", port: int = 0
) -> AsyncGenerator[str, None]:
    """Serve an app for as long as the context lasts; yield its base URL, and cut all at the end."""
    try:
        from apixo_async.testing.uvicorn_server import SimulatorServer
    except ImportError as exc:
        message = "a server needs uvicorn: pip install 'apixo-async[simulator]'"
        raise RuntimeError(message) from exc
    server = SimulatorServer(app)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family)
    # asyncio does it for sockets of its own only. Without it, heads and bodies that go out apart
    # wait for the client's delayed acknowledgement: 40 ms in every second answer.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    running = asyncio.create_task(server.serve([listening]))
    try:
        await server.ready.wait()
        bound, taken = listening.getsockname()[:2]
        yield f"http://{_authority(str(_REACHED.get(bound, bound)), taken)}"
    finally:
        server.should_exit = True
        with anyio.move_on_after(_CLOSING, shield=True):
            await running


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.contextmanager
def serve_thread(
    simulator: Simulator, host: str = "127.0.0.1", port: int = 0
) -> Generator[str, None, None]:
    """Serve ``simulator`` from a thread with a loop of its own; for the rest, see `serve`.

    For tests of programs that have no event loop, or one that the test does not run.
    """
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve(simulator, host, port)) as url,
    ):
        yield url


#: No page of the web has a name that ends so: RFC 6761, RFC 6762, and ICANN for ".internal", by
#: which containers reach their host.
_LOCAL_NAMES: Final = (".localhost", ".internal", ".local", ".test")

_REFUSED: Final = "this simulator answers under an address, a name without a dot, or its --host"


def is_own_host(header: str, own: str) -> bool:
    """Return True if no page of another site sends this ``Host`` header to a server on ``own``."""
    try:
        name = (urlsplit(f"//{header}").hostname or "").rstrip(".")
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name or name.endswith(_LOCAL_NAMES) or name == own.lower()
    return True


class OwnHosts:
    """An ASGI app that answers 421 to requests for the host of another site (DNS rebinding).

    Args:
        app: Answers the others.
        own: The host that it listens on, as it was given.
    """

    def __init__(self, app: ASGIApp, own: str) -> None:
        self._app = app
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        header = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if is_own_host(header, self._own):
            await self._app(scope, receive, send)
            return
        from starlette.responses import Response

        reply = Refusal(421, _REFUSED).reply()
        await Response(reply.body, reply.status, dict(reply.headers))(scope, receive, send)


def make_app(simulator: Simulator) -> Starlette:
    """Return the app: the service's calls, ``/`` to watch, ``/_simulator/...`` to ask.

    ``/_simulator/log``, ``/_simulator/callbacks`` and ``/_simulator/statistics`` are JSON for tests
    of served simulators.

    Raises:
        RuntimeError: Starlette is missing; the message names the extra that brings it.
    """
    try:
        from starlette.applications import Starlette
        from starlette.routing import Mount
    except ImportError as exc:
        message = "the served simulator needs Starlette: pip install 'apixo-async[simulator]'"
        raise RuntimeError(message) from exc
    calls = _Calls(simulator)
    app = Starlette(routes=[*_page_routes(simulator), Mount("/", calls)])
    app.router.default = calls  # where the target of the request is not a path: a URL, or "*"
    return app


#: Bytes of a body: some media in a field, and what is read before a request is answered 401.
_LONGEST: Final = 64 * 1024 * 1024
_LONGEST_WITHOUT_KEY: Final = 64 * 1024


class _Calls:
    """An ASGI app that has each request carried out, and applies its fault to the answer."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.requests import ClientDisconnect

        connection = _Connection(scope, receive, send)
        with contextlib.suppress(ClientDisconnect):
            call = await self._read(scope, receive)
            if isinstance(call, Refusal):
                await connection.finish(HEALTHY, call.reply())
                return
            fault = self._simulator.begin(call)
            if fault.end in ("refuse", "unreachable"):
                await connection.finish(fault, None)
                return
            served = self._simulator.arrive(call, fault)
            if await connection.is_gone_after(fault.wait):
                return
            if served.after is not None:
                await served.after.wait()
            if fault.end == "answer":
                self._simulator.answered(served)
            speed = {SPEED_HEADER: f"{self._simulator.options.speed:g}"}
            reply = replace(served.reply, headers={**served.reply.headers, **speed})
            await connection.finish(fault, reply)

    async def _read(self, scope: Scope, receive: Receive) -> Call | Refusal:
        """Read a request; refuse it if its body is longer than its key may send."""
        from starlette.requests import Request

        request = Request(scope, receive)
        headers = {name: ", ".join(request.headers.getlist(name)) for name in request.headers}
        known = self._simulator.accounts.of(headers.get("authorization")) is not None
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > (longest := _LONGEST if known else _LONGEST_WITHOUT_KEY):
                whose = "a known key" if known else "an unknown or missing API Key"
                message = f"Request body too large: of {whose} {longest} bytes are read"
                return Refusal(413, message)
        # HTTP/1.0 needs no Host; results are then where the request came.
        server = scope.get("server")
        host = headers.get("host") or (_authority(*server) if server else "")
        return Call(
            method=request.method,
            host=host,
            path=scope["path"],
            query=dict(request.query_params),
            headers=headers,
            body=bytes(body),
            result_base=f"{scope['scheme']}://{host}",
        )


#: Where in the scope's state `SimulatorServer` leaves the connection.
CONNECTION: Final = "apixo_async.connection"


class _Connection:
    """The connection of one request, to answer on it or to end it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send

    async def finish(self, fault: Fault, reply: Reply | None) -> None:
        """Answer, or end the connection in the fault's way."""
        from starlette.responses import Response

        if fault.end in ("hang", "unreachable"):
            await self._until_gone()
        elif fault.end != "answer" or reply is None:
            await self._cut(reset=fault.end != "close")
        elif fault.keep is None and fault.framed:
            headers, _ = framed(reply, fault)
            response = Response(reply.body, reply.status, headers)
            await response(self._scope, self._receive, self._send)
        else:
            await self._answer_in_part(reply, fault)

    async def is_gone_after(self, delay: float) -> bool:
        """Wait ``delay`` seconds; return True at once if the client gives up meanwhile."""
        if delay <= 0:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._until_gone()
                return True
        return False

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _answer_in_part(self, reply: Reply, fault: Fault) -> None:
        # Written past the server, which would not send a body of another length than announced.
        headers, sent = framed(reply, fault)
        try:
            phrase = http.HTTPStatus(reply.status).phrase
        except ValueError:
            phrase = ""
        lines = [f"HTTP/1.1 {reply.status} {phrase}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join((*lines, "", "")).encode("latin-1")
        transport = self._transport()
        transport.write(head + reply.body[:sent])
        transport.close()
        await self._until_gone()

    async def _cut(self, *, reset: bool) -> None:
        transport = self._transport()
        if reset:
            # To close without lingering is what sends a reset instead of an orderly end.
            raw = cast("socket.socket", transport.get_extra_info("socket"))
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()
        await self._until_gone()

    def _transport(self) -> asyncio.Transport:
        transport = self._scope.get("state", {}).get(CONNECTION)
        if transport is None:
            raise RuntimeError("faults that end a connection need apixo_async.testing.serve")
        return cast("asyncio.Transport", transport)


_SHOWN: Final = 60  # tasks on the page
_RECENT: Final = 1_000  # tasks among which the latest results are
_PICTURES: Final = 16
_PROMPT: Final = 140  # characters of a prompt


def _page_routes(simulator: Simulator) -> list[Route]:
    from starlette.responses import HTMLResponse, Response
    from starlette.routing import Route

    async def page(_: Request) -> Response:
        return HTMLResponse(files(__package__ or "").joinpath("page.html").read_text("utf-8"))

    async def picture(request: Request) -> Response:
        # The page's own thumbnails appear in no log and meet no fault.
        reply = simulator.download(Call("GET", request.path_params["path"]), simulator.now())
        return Response(reply.body, reply.status, dict(reply.headers))

    def as_json(answer: Callable[[], object]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(_: Request) -> Response:
            return Response(json.dumps(answer(), default=str), media_type="application/json")

        return endpoint

    return [
        Route("/", page),
        Route("/_simulator/state", as_json(lambda: state(simulator))),
        Route("/_simulator/log", as_json(lambda: [asdict(one) for one in simulator.log])),
        Route(
            "/_simulator/callbacks",
            as_json(lambda: [asdict(attempt) for attempt in simulator.callbacks.log]),
        ),
        Route("/_simulator/statistics", as_json(lambda: asdict(simulator.statistics()))),
        Route("/_simulator/picture{path:path}", picture),
    ]


def state(simulator: Simulator) -> dict[str, object]:
    """Return what the page shows, as of now; times are ages in seconds."""
    now = simulator.now()
    accounts = sorted(
        simulator.accounts,
        key=lambda account: (account.tasks(now), account.requests(now)),
        reverse=True,
    )
    for account in accounts[:1]:
        simulator.history.note(account, now)
    tasks = list(simulator.tasks.values())
    done = [task for task in tasks[-_RECENT:] if task.state(now) == "success"]
    done.sort(key=lambda task: task.ends, reverse=True)
    return {
        "accounts": [
            {
                "name": account.name,
                "balance": str(account.balance),
                "tasks": account.tasks(now),
                "requests": account.requests(now),
            }
            for account in accounts
        ],
        "limits": {
            "tasks": simulator.options.concurrent_tasks,
            "requests": simulator.options.requests_per_minute,
        },
        "history": simulator.history.since(now),
        "statistics": asdict(simulator.statistics()),
        "latest": [task.result_paths()[0] for task in done[:_PICTURES]],
        "tasks": [
            {
                "id": task.id,
                "model": task.model,
                "state": task.state(now),
                "prompt": task.prompt[:_PROMPT],
                "age": round(now - task.created, 1),
                "lasted": round(min(now, task.ends) - task.created, 1),
                "progress": round(task.progress(now), 3),
                "price": str(task.price),
                "fail_code": task.fail_code if task.state(now) == "failed" else None,
                "pictures": task.result_paths() if task.state(now) == "success" else [],
            }
            for task in tasks[: -_SHOWN - 1 : -1]
        ],
    }
