"""Two proxies on loopback: CONNECT over HTTP, and SOCKS5. Every host leads to one port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

_BOUND = 30.0  # seconds that a tunnel may last

#: Speaks with a client until a tunnel is agreed on; returns whether there is one.
Greet: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]


@dataclass
class ProxyLog:
    """What a proxy was asked for.

    Attributes:
        port: Its own port on 127.0.0.1.
        hosts: The hosts that it was asked for, in order.
        authorization: The last `Proxy-Authorization`, or the last password over SOCKS.
        refuses: Whether it refuses every tunnel.
    """

    port: int = 0
    hosts: list[str] = field(default_factory=list[str])
    authorization: str | None = None
    refuses: bool = False


@asynccontextmanager
async def connect_proxy(target: int, *, refuses: bool = False) -> AsyncIterator[ProxyLog]:
    """Serve as a CONNECT proxy whose tunnels all end at a port of 127.0.0.1."""
    log = ProxyLog(refuses=refuses)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, address, _ = lines[0].split()
        assert method == "CONNECT"
        log.hosts.append(address.rpartition(":")[0])
        named = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        log.authorization = named.get("proxy-authorization")
        status = b"403 Forbidden" if refuses else b"200 Connection established"
        writer.write(b"HTTP/1.1 " + status + b"\r\n\r\n")
        return not refuses

    async with _serving(log, greet, target):
        yield log


@asynccontextmanager
async def socks_proxy(target: int, *, refuses: bool = False) -> AsyncIterator[ProxyLog]:
    """Serve as a SOCKS5 proxy (RFC 1928, 1929) whose tunnels all end at a port of 127.0.0.1."""
    log = ProxyLog(refuses=refuses)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        _, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        by_password = 2 in methods
        writer.write(bytes([5, 2 if by_password else 0]))
        if by_password:
            _, length = await reader.readexactly(2)
            await reader.readexactly(length)
            (length,) = await reader.readexactly(1)
            log.authorization = (await reader.readexactly(length)).decode()
            writer.write(bytes([1, 0]))
        kind = (await reader.readexactly(4))[3]
        if kind == 3:
            (length,) = await reader.readexactly(1)
            host = (await reader.readexactly(length)).decode()
        else:
            family = socket.AF_INET if kind == 1 else socket.AF_INET6
            host = socket.inet_ntop(family, await reader.readexactly(4 if kind == 1 else 16))
        await reader.readexactly(2)
        log.hosts.append(host)
        writer.write(bytes([5, 2 if refuses else 0, 0, 1]) + struct.pack("!IH", 0, 0))
        return not refuses

    async with _serving(log, greet, target):
        yield log


@asynccontextmanager
async def _serving(log: ProxyLog, greet: Greet, target: int) -> AsyncIterator[None]:
    tunnels: set[asyncio.Task[None]] = set()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            async with asyncio.timeout(_BOUND):
                if await greet(reader, writer):
                    there, back = await asyncio.open_connection("127.0.0.1", target)
                    with contextlib.closing(back):
                        await asyncio.gather(_copy(reader, back), _copy(there, writer))

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tunnels.add(asyncio.create_task(tunnel(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    log.port = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        server.close()
        for task in tunnels:
            task.cancel()
        await asyncio.gather(*tunnels, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65_536):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
