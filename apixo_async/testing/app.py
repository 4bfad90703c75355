"""The service as a Starlette application, with its live page; `serve` puts it on a port."""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING, cast

from apixo_async.testing.faults import HEALTHY, Fault, framed
from apixo_async.testing.replies import Call, Refusal, Reply, route

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.types import Receive, Scope, Send

    from apixo_async.testing.api import SimulatedApi

_SHOWN = 60  # tasks on the page
_RECENT = 1_000  # tasks among which the latest results are
_PICTURES = 16
_PROMPT = 140  # characters of a prompt


def page_routes(simulator: SimulatedApi) -> list[Route]:
    """Return the routes of the page and of the simulator's own questions."""
    from starlette.responses import HTMLResponse, Response
    from starlette.routing import Route

    async def page(_: Request) -> Response:
        return HTMLResponse(files(__package__ or "").joinpath("page.html").read_text("utf-8"))

    async def picture(request: Request) -> Response:
        # The page's own thumbnails appear in no log and meet no fault.
        call = Call("GET", request.path_params["path"])
        reply = simulator.service.download(call, route(call), simulator.now())
        return Response(reply.body, reply.status, dict(reply.headers))

    def asked(answer: Callable[[], object]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(_: Request) -> Response:
            return Response(json.dumps(answer(), default=str), media_type="application/json")

        return endpoint

    return [
        Route("/", page),
        Route("/_simulator/state", asked(lambda: state(simulator))),
        Route("/_simulator/log", asked(lambda: [asdict(record) for record in simulator.log])),
        Route("/_simulator/callbacks", asked(lambda: _attempts(simulator))),
        Route("/_simulator/statistics", asked(lambda: asdict(simulator.statistics()))),
        Route("/_simulator/picture{path:path}", picture),
    ]


def _attempts(simulator: SimulatedApi) -> list[dict[str, object]]:
    return [asdict(attempt) for attempt in simulator.callbacks.log]


def state(simulator: SimulatedApi) -> dict[str, object]:
    """Return what the page shows, as of now; times are ages in seconds."""
    now = simulator.now()
    accounts = sorted(
        simulator.accounts,
        key=lambda account: (account.tasks(now), account.requests(now)),
        reverse=True,
    )
    for account in accounts[:1]:
        simulator.history.note(account, now)
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
            "tasks": simulator.service.concurrent_tasks,
            "requests": simulator.service.requests_per_minute,
        },
        "history": simulator.history.since(now),
        "statistics": asdict(simulator.statistics()),
        "latest": _latest_pictures(simulator, now),
        "tasks": _newest(simulator, now),
    }


def _latest_pictures(simulator: SimulatedApi, now: float) -> list[str]:
    recent = list(simulator.tasks.values())[-_RECENT:]
    done = [task for task in recent if task.state(now) == "success"]
    done.sort(key=lambda task: task.ends, reverse=True)
    return [task.result_paths()[0] for task in done[:_PICTURES]]


def _newest(simulator: SimulatedApi, now: float) -> list[dict[str, object]]:
    newest = list(simulator.tasks.values())[: -_SHOWN - 1 : -1]
    return [
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
        for task in newest
    ]


#: Bytes of a body: some media in a field, and what is read before a request is answered 401.
_LONGEST = 64 * 1024 * 1024
_LONGEST_OF_STRANGERS = 64 * 1024

#: Where in the scope's state `serve` leaves the connection.
CONNECTION = "apixo_async.connection"


def make_app(simulator: SimulatedApi) -> Starlette:
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
    return Starlette(routes=[*page_routes(simulator), Mount("/", _Served(simulator))])


class _Served:
    """An ASGI app that hands each request to the simulator and does to it what its fault says."""

    def __init__(self, simulator: SimulatedApi) -> None:
        self._simulator = simulator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.requests import ClientDisconnect

        with contextlib.suppress(ClientDisconnect):
            exchange = _Exchange(scope, receive, send)
            call = await self._call(scope, receive)
            if call is None:
                await exchange.finish(HEALTHY, Refusal(413, "Request body too large").reply())
            else:
                await self._exchange(call, exchange)

    async def _call(self, scope: Scope, receive: Receive) -> Call | None:
        """Read a request; None if its body is longer than its key may send."""
        from starlette.requests import Request

        request = Request(scope, receive)
        headers = {name: ", ".join(request.headers.getlist(name)) for name in request.headers}
        known = self._simulator.accounts.of(headers.get("authorization")) is not None
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > (_LONGEST if known else _LONGEST_OF_STRANGERS):
                return None
        host = headers.get("host", "")
        return Call(
            method=request.method,
            host=host,
            path=scope["path"],
            query=dict(request.query_params),
            headers=headers,
            body=bytes(body),
            result_base=f"{scope['scheme']}://{host}",
        )

    async def _exchange(self, call: Call, exchange: _Exchange) -> None:
        fault = self._simulator.begin(call)
        if fault.end in ("refuse", "unreachable"):
            await exchange.finish(fault, None)
            return
        turn = self._simulator.arrive(call, fault)
        if await exchange.is_gone_after(fault.wait):
            return
        if turn.after is not None:
            await turn.after.wait()
        if fault.end == "answer":
            self._simulator.answered(turn)
        await exchange.finish(fault, turn.reply)


class _Exchange:
    """What can be done to one request's connection."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send

    async def finish(self, fault: Fault, reply: Reply | None) -> None:
        """Answer, or end the connection in the fault's way."""
        if fault.end in ("hang", "unreachable"):
            await self._until_gone()
        elif fault.end != "answer" or reply is None:
            await self._cut(reset=fault.end != "close")
        elif fault.keep is None and fault.framed:
            await self._answer(reply, fault)
        else:
            await self._answer_in_part(reply, fault)

    async def is_gone_after(self, delay: float) -> bool:
        """Wait, and say whether the client gave up in the meantime."""
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

    async def _answer(self, reply: Reply, fault: Fault) -> None:
        headers, _ = framed(reply, fault)
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": reply.status, "headers": raw})
        await self._send({"type": "http.response.body", "body": reply.body})

    async def _answer_in_part(self, reply: Reply, fault: Fault) -> None:
        # Written past the server, which would not send a body of another length than announced.
        headers, sent = framed(reply, fault)
        lines = [f"HTTP/1.1 {reply.status} {_phrase(reply.status)}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join((*lines, "", "")).encode("latin-1")
        connection = self._connection()
        connection.write(head + reply.body[:sent])
        connection.close()
        await self._until_gone()

    async def _cut(self, *, reset: bool) -> None:
        connection = self._connection()
        if reset:
            # To close without lingering is what sends a reset instead of an orderly end.
            raw = cast("socket.socket", connection.get_extra_info("socket"))
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.abort()
        else:
            connection.close()
        await self._until_gone()

    def _connection(self) -> asyncio.Transport:
        connection = self._scope.get("state", {}).get(CONNECTION)
        if connection is None:
            raise RuntimeError("faults that end a connection need apixo_async.testing.serve")
        return cast("asyncio.Transport", connection)


def _phrase(status: int) -> str:
    with contextlib.suppress(ValueError):
        return http.HTTPStatus(status).phrase
    return ""
