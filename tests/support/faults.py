"""A server of raw sockets with a fault for every way in which a POST can go wrong."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Warmth: TypeAlias = Literal["fresh", "warm", "just closed"]


@dataclass
class Server:
    """What the server has seen.

    Attributes:
        url: Where it listens.
        fault: What it does with each POST.
        made: The ids of the tasks that it created.
        posts: The POSTs of which it read any byte.
        close_after_get: Whether it closes the connection once it has answered a GET.
    """

    fault: Fault
    url: str = ""
    made: list[str] = field(default_factory=list)
    posts: int = 0
    close_after_get: bool = False

    def make(self) -> bytes:
        """Create a task, and return the envelope that tells of it."""
        self.made.append(f"task_{next(_ids)}")
        data = {"taskId": self.made[-1]}
        return json.dumps({"code": 200, "message": "success", "data": data}).encode()


_ids = itertools.count(1)


@dataclass(frozen=True)
class Exchange:
    """One POST that has arrived: its request was read, unless the fault wants it unread."""

    server: Server
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, body: bytes, *, status: str = "200 OK", claim: int | None = None) -> None:
        """Answer, with another Content-Length than the body's if one is claimed."""
        length = len(body) if claim is None else claim
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
        )
        self.writer.write(head.encode() + b"\r\n" + body)

    def close(self) -> None:
        """Close the connection in an orderly way."""
        self.writer.close()

    def reset(self) -> None:
        """Reset the connection."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.close()

    async def hang(self) -> None:
        """Do nothing until the client goes away."""
        await self.reader.read()
        self.close()


Fault: TypeAlias = Callable[[Exchange], Awaitable[None]]


def envelope(code: int) -> bytes:
    """Return the envelope of an error."""
    return json.dumps({"code": code, "message": "no", "data": None}).encode()


def answering(status: int, *, body: bytes | None = None, makes: bool = False) -> Fault:
    """Answer with a status, after making the task or not."""

    async def fault(exchange: Exchange) -> None:
        if makes:
            exchange.server.make()
        exchange.send(envelope(status) if body is None else body, status=f"{status} Status")

    return fault


def ending(
    end: Literal["close", "reset", "hang"], *, makes: bool = True, sent: bytes = b""
) -> Fault:
    """End without a whole answer, after some bytes of one."""

    async def fault(exchange: Exchange) -> None:
        if makes:
            exchange.server.make()
        if sent:
            exchange.writer.write(sent)
            with suppress(ConnectionError):
                await exchange.writer.drain()
        if end == "hang":
            await exchange.hang()
        else:
            getattr(exchange, end)()

    return fault


def body_cut(end: Literal["close", "reset", "hang"]) -> Fault:
    """Send the head and the first bytes of the body, too few to hold the id."""

    async def fault(exchange: Exchange) -> None:
        body = exchange.server.make()
        exchange.send(body[:20], claim=len(body))
        with suppress(ConnectionError):
            await exchange.writer.drain()
        if end == "hang":
            await exchange.hang()
        else:
            getattr(exchange, end)()

    return fault


async def healthy(exchange: Exchange) -> None:
    """Make the task and say so."""
    exchange.send(exchange.server.make())


async def no_content_type(exchange: Exchange) -> None:
    """Make the task and say so without saying in what form."""
    body = exchange.server.make()
    exchange.writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


async def garbage(exchange: Exchange) -> None:
    """Make the task and answer with what is no HTTP."""
    exchange.server.make()
    exchange.writer.write(b"\x16\x03\x01 not HTTP at all\r\n\r\n")
    exchange.close()


HTML = b"<html><body>gateway</body></html>"

#: Each fault, and what the submit must come to: bought, refused or uncertain.
FAULTS: dict[str, tuple[Fault, Literal["bought", "refused", "uncertain"]]] = {
    "healthy": (healthy, "bought"),
    "no content type": (no_content_type, "bought"),
    "close after the headers": (ending("close", makes=False), "uncertain"),
    "reset after the headers": (ending("reset", makes=False), "uncertain"),
    "close after the request": (ending("close"), "uncertain"),
    "reset after the request": (ending("reset"), "uncertain"),
    "hang": (ending("hang"), "uncertain"),
    "partial status line": (ending("close", sent=b"HTTP/1.1 2"), "uncertain"),
    "hang in the status line": (ending("hang", sent=b"HTTP/1.1 2"), "uncertain"),
    "garbage": (garbage, "uncertain"),
    "truncated body": (body_cut("close"), "uncertain"),
    "reset in the body": (body_cut("reset"), "uncertain"),
    "hang in the body": (body_cut("hang"), "uncertain"),
    "HTML with 200": (answering(200, body=HTML, makes=True), "uncertain"),
    "empty body with 200": (answering(200, body=b"", makes=True), "uncertain"),
    "400": (answering(400), "refused"),
    "400 as HTML": (answering(400, body=HTML), "refused"),
    "401": (answering(401), "refused"),
    "402": (answering(402), "refused"),
    "403": (answering(403), "refused"),
    "429": (answering(429), "refused"),
    "429 as HTML": (answering(429, body=HTML), "refused"),
    "500": (answering(500, makes=True), "uncertain"),
    "500 as HTML": (answering(500, body=HTML, makes=True), "uncertain"),
    "502": (answering(502, makes=True), "uncertain"),
    "503": (answering(503), "refused"),
    "503 as HTML": (answering(503, body=HTML, makes=True), "uncertain"),
    "504": (answering(504, makes=True), "uncertain"),
    "504 as HTML": (answering(504, body=HTML, makes=True), "uncertain"),
}


async def _serve(
    server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):
            body = json.dumps({"code": 200, "message": "success", "data": 7.5}).encode()
            Exchange(server, reader, writer).send(body)
            if server.close_after_get:
                writer.close()
                return
            continue
        server.posts += 1
        length = next(
            int(line.split(b":")[1])
            for line in head.splitlines()
            if line.lower().startswith(b"content-length")
        )
        await reader.readexactly(length)
        await server.fault(Exchange(server, reader, writer))
        if writer.is_closing():
            return


@asynccontextmanager
async def serving(fault: Fault) -> AsyncIterator[Server]:
    """Run a server on a free port of this machine."""
    server = Server(fault)
    handlers: set[asyncio.Task[None]] = set()
    writers: set[asyncio.StreamWriter] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        writers.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await _serve(server, reader, writer)
        writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    host, port = listening.sockets[0].getsockname()
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        listening.close()
        for handler in handlers:
            handler.cancel()
        for writer in writers:
            writer.close()
        closing = [writer.wait_closed() for writer in writers]
        await asyncio.gather(*handlers, *closing, return_exceptions=True)
