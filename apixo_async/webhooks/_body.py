"""A callback's body: read in bounded time and size, believed in nothing but the task's id."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias

import anyio

from apixo_async._http.wire import read_envelope, read_task_id

#: Bytes that are looked at; a status object of many results is a tenth of it.
LONGEST_BODY: Final = 64 * 1024
#: Seconds for a whole body; the service itself gives up after 30.
PATIENCE: Final = 10.0

#: Returns the next bytes of a body, and none at its end.
Chunk: TypeAlias = Callable[[], Awaitable[bytes]]

#: What the service calls a task is unknown; what is no plain word is not looked for.
_ID: Final = re.compile(r"[\x21-\x7e]{1,256}")
#: Where an id stands in what is not, or not wholly, the JSON of an envelope.
_CLAIM: Final = re.compile(
    rb'"taskId"\s*:\s*(?:"([\x21\x23-\x5b\x5d-\x7e]{1,256})"|([0-9]{1,32})[\s,}\]])'
)


class Disconnected(Exception):
    """The sender left before its body was here."""


async def read_body(chunk: Chunk) -> bytes:
    """Return the beginning of a body, `LONGEST_BODY` bytes at most.

    A body that is longer is read to its end, so that its sender hears the answer. One that breaks
    off, or is not here in `PATIENCE` seconds, is as good: only the service knows the URL.
    """
    body = bytearray()
    with anyio.move_on_after(PATIENCE), suppress(Disconnected):
        while part := await chunk():
            body += part[: LONGEST_BODY - len(body)]
    return bytes(body)


def task_id_in(body: bytes) -> str | None:
    """Return the task's id that a callback claims, or None where it names none."""
    body = body[:LONGEST_BODY]
    envelope = read_envelope(body)
    task_id = None if envelope is None else read_task_id(envelope)
    if task_id is None and (found := _CLAIM.search(body)) is not None:
        task_id = (found[1] or found[2]).decode("ascii")
    return task_id if task_id and _ID.fullmatch(task_id) else None
