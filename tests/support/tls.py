"""A certificate for the tests, and a server over TLS that answers one request a connection."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

BOUND: Final = 30.0  # seconds for all that happens with one server

#: Signed by itself, for localhost, 127.0.0.1 and *.apixo.test, until the year 2109; tests only.
CERTIFICATE: Final = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg77c8kTWl+F3b4Lmd
xD189vid7YRwIfbCK3V4PCIYSoahRANCAASzC1PniRBnOd3feCWfHsItoojbB5hg
P0FjmUI9sHk+qovp24zm6WbSejybIHIgf4EZIlUeNmNIqXZuHYEACLho
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBqjCCAU+gAwIBAgIUbRvHgjRpzzBgQYEkukZHZ2WhouYwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyODAxNTkxNVoYDzIxMDkwMTE3
MDE1OTE1WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASzC1PniRBnOd3feCWfHsItoojbB5hgP0FjmUI9sHk+qovp24zm6WbS
ejybIHIgf4EZIlUeNmNIqXZuHYEACLhoo30wezAdBgNVHQ4EFgQULTHRbWWgGZe6
bojHZpoJPDepwoowHwYDVR0jBBgwFoAULTHRbWWgGZe6bojHZpoJPDepwoowDwYD
VR0TAQH/BAUwAwEB/zAoBgNVHREEITAfgglsb2NhbGhvc3SHBH8AAAGCDCouYXBp
eG8udGVzdDAKBggqhkjOPQQDAgNJADBGAiEAq8X1fp9E1a/9mBjIhOVXz6KWS4uo
46hNRiQ/+t2jsXMCIQDESXsHnK2xDAGi63djeMIOzgg6ePw6NCtWKlyn9xSz5w==
-----END CERTIFICATE-----
"""


def write_certificate(folder: Path) -> Path:
    """Write the certificate and its key to a file, and return its path."""
    path = folder / "server.pem"
    path.write_text(CERTIFICATE, "ascii")
    return path


@asynccontextmanager
async def serving(
    path: Path, answer: Callable[[str], bytes]
) -> AsyncIterator[tuple[int, asyncio.Queue[str]]]:
    """Serve over TLS; yield the port, and how far each connection came.

    Args:
        path: The certificate and its key.
        answer: Returns the body of the answer to a request's first line.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    came: asyncio.Queue[str] = asyncio.Queue()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await writer.start_tls(context, ssl_handshake_timeout=BOUND)
            head = await reader.readuntil(b"\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError):
            came.put_nowait("handshake")
        else:
            came.put_nowait("request")
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            writer.write(answer(head.decode().partition("\r\n")[0]))
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        async with asyncio.timeout(BOUND):
            yield server.sockets[0].getsockname()[1], came
    finally:
        server.close()
