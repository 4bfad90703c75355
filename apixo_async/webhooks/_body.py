"""A callback's body: read in bounded time and size, believed in nothing but the task's id."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import anyio

from apixo_async._core.wire import read_envelope, read_task_id
from apixo_async.webhooks._errors import CallbackError

#: Bytes; a status object of many results is a tenth of it.
LONGEST_BODY: Final = 64 * 1024
#: Seconds for a whole body; the service itself gives up after 30.
PATIENCE: Final = 10.0

#: Returns the next bytes of a body, and none at its end.
Chunk: TypeAlias = Callable[[], Awaitable[bytes]]

#: What the service calls a task is unknown; what is no plain word is not looked for.
_ID: Final = re.compile(r"[\x21-\x7e]{1,256}")


class Disconnected(Exception):
    """The sender left before its body was here."""


async def read_body(chunk: Chunk) -> bytes:
    """Return the whole body.

    Raises:
        CallbackError: It is too long, or not here in time.
        Disconnected: As `chunk` does.
    """
    body = bytearray()
    try:
        with anyio.fail_after(PATIENCE):
            while part := await chunk():
                body += part
                check_length(len(body))
    except TimeoutError:
        raise CallbackError(400) from None
    return bytes(body)


def check_length(length: int) -> None:
    """Refuse a body of more than `LONGEST_BODY` bytes.

    Raises:
        CallbackError: It is longer.
    """
    if length > LONGEST_BODY:
        raise CallbackError(413)


def task_id_in(body: bytes) -> str | None:
    """Return the task's id that a callback claims, or None where it names none.

    Raises:
        CallbackError: The body is no envelope.
    """
    check_length(len(body))
    envelope = read_envelope(body)
    if envelope is None:
        raise CallbackError(400)
    task_id = read_task_id(envelope)
    return task_id if task_id and _ID.fullmatch(task_id) else None
