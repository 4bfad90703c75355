"""A callback's body: read in bounded time and size, for the task's id and nothing else."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias

import anyio

from apixo_async._http.wire import read_envelope, read_task_id

#: Bytes that are searched for the id. A status object with many results has a tenth of this.
LONGEST_BODY: Final = 64 * 1024
#: Seconds for a whole body. By the documents the service gives up after 30.
PATIENCE: Final = 10.0

#: Returns the next bytes of a body, and no bytes at its end.
Chunk: TypeAlias = Callable[[], Awaitable[bytes]]

#: The documents give no form of ids: any word of visible ASCII may be one.
_ID: Final = re.compile(r"[\x21-\x7e]{1,256}")
#: An id in a body that is not, or not completely, the JSON of an envelope.
_CLAIM: Final = re.compile(
    rb'"taskId"\s*:\s*(?:"([\x21\x23-\x5b\x5d-\x7e]{1,256})"|([0-9]{1,32})[\s,}\]])'
)


class Disconnected(Exception):
    """The sender left before its whole body was received."""


async def read_body(chunk: Chunk) -> bytes:
    """Return the beginning of a body, `LONGEST_BODY` bytes at most.

    A longer body is read to its end, as senders read no answer before they have sent all. One that
    breaks off, or takes more than `PATIENCE` seconds, counts as well: only the service knows the
    URL, so a task has news.
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
