"""What other processes have changed in a store, as soon as that is known."""

from __future__ import annotations

import asyncio
import contextvars
import secrets
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from apixo_async._reporting import logger
from apixo_async.errors import StoreError

if TYPE_CHECKING:
    import psycopg

#: Called on the event loop with the key of an entry that another process may have changed, or None:
#: any may have changed.
Heard: TypeAlias = Callable[[str | None], None]

#: Seconds between two looks at the version of a file.
VERSION: Final = 0.05

#: Seconds in which a notification comes, and between two looks where none does.
PROBE: Final = 1.0
UNHEARD: Final = 0.25

#: Seconds until it is tried again after a failure.
_AGAIN: Final = 1.0


class News(Protocol):
    """A source of news."""

    def listen(self, heard: Heard | None) -> None:
        """Call `heard` for each piece of news from now on, or for none any more."""
        ...


class FileNews:
    """Look at the version of a file of SQLite, which every commit of another connection raises.

    Args:
        version: Reads it.
    """

    def __init__(self, version: Callable[[], Awaitable[int]]) -> None:
        self._version = version
        self._task: asyncio.Task[None] | None = None

    def listen(self, heard: Heard | None) -> None:
        """See `News.listen`."""
        if self._task is not None and not self._task.get_loop().is_closed():
            self._task.cancel()
        self._task = None
        if heard is not None:
            self._task = asyncio.get_running_loop().create_task(
                self._run(heard), name="apixo_async news", context=contextvars.Context()
            )

    async def _run(self, heard: Heard) -> None:
        known = -1
        while True:
            pause = VERSION
            try:
                version = await self._version()
            except StoreError:
                version, pause = -1, _AGAIN
            if version != known:
                known = version
                heard(None)
            await asyncio.sleep(pause)


class NotifyNews:
    """Listen to the notifications of PostgreSQL, on a connection and in a thread of its own.

    Args:
        connect: Connects to the database.
        channel: Where processes of a namespace notify each other.
        own: What the notifications of this process begin with.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], channel: str, own: str):
        self._connect = connect
        self._channel = channel
        self._own = own
        self._stopped = threading.Event()

    def listen(self, heard: Heard | None) -> None:
        """See `News.listen`."""
        self._stopped.set()
        if heard is not None:
            self._stopped = threading.Event()
            loop = asyncio.get_running_loop()
            threading.Thread(
                target=self._run, args=(loop, heard, self._stopped), daemon=True
            ).start()

    def _run(self, loop: asyncio.AbstractEventLoop, heard: Heard, stopped: threading.Event) -> None:
        def tell(key: str | None) -> None:
            with suppress(RuntimeError):  # The loop is closed.
                loop.call_soon_threadsafe(heard, key)

        has_warned = False
        while not stopped.is_set():
            try:
                with self._connect() as connection:
                    if self._is_heard(connection):
                        tell(None)  # What changed before it listened.
                        self._hear(connection, tell, stopped)
                        continue
                if not has_warned:
                    has_warned = True
                    logger.warning(
                        "the PostgreSQL store: notifications do not come, as behind a pooler in "
                        "transaction mode: what other processes change is looked for every "
                        "%.2f s; a connection of its own for each session is quicker",
                        UNHEARD,
                    )
                while not stopped.wait(UNHEARD):
                    tell(None)
            except Exception:  # It is away, which others report.
                tell(None)
                stopped.wait(_AGAIN)

    def _is_heard(self, connection: psycopg.Connection[Any]) -> bool:
        probe = f"probe {secrets.token_hex(8)}"
        connection.execute(f'LISTEN "{self._channel}"'.encode())
        with self._connect() as other:  # To oneself a pooler may pass it on by chance.
            other.execute("SELECT pg_notify(%s, %s)", (self._channel, probe))
        return any(note.payload == probe for note in connection.notifies(timeout=PROBE))

    def _hear(
        self,
        connection: psycopg.Connection[Any],
        tell: Callable[[str | None], None],
        stopped: threading.Event,
    ) -> None:
        while not stopped.is_set():
            for note in connection.notifies(timeout=PROBE):
                own, _, key = note.payload.partition(":")
                if own != self._own and not own.startswith("probe"):
                    tell(key or None)
                if stopped.is_set():
                    return
