"""Entries in PostgreSQL, for any number of processes on any number of hosts."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from apixo_async.errors import StoreError
from apixo_async.stores._batches import Connection
from apixo_async.stores._news import NotifyNews
from apixo_async.stores._protocol import KEEP
from apixo_async.stores._sql import POSTGRES, Act, Done
from apixo_async.stores._sql_store import SqlStore, opened

if TYPE_CHECKING:
    import psycopg

#: Seconds in which a connection has to be made.
_CONNECTING: Final = 5

#: In each transaction, since a pooler may give each to another session. A host that vanished would
#: hold its locks for hours otherwise.
_BOUNDS: Final = (
    # Whatever the database's default is: in a snapshot of before, slots would be counted wrongly.
    "BEGIN ISOLATION LEVEL READ COMMITTED",
    "SET LOCAL lock_timeout = '2s'",
    "SET LOCAL statement_timeout = '5s'",
    "SET LOCAL idle_in_transaction_session_timeout = '5s'",
    # What a commit has said must outlive a crash; a stricter setting stays as it is.
    """SELECT set_config('synchronous_commit', 'on', true)
        WHERE current_setting('synchronous_commit') = 'off'""",
)


class PostgresStore:
    """Keep entries and limits in a database of PostgreSQL, 13 or newer.

    It has prompts and result URLs, but no API key. Each process has two connections to it. Needs
    the extra `[postgres]`.

    Args:
        dsn: Where the database is: a URL, or libpq's words. libpq's environment variables and
            password file fill in what it does not say.
        namespace: Where keys are unique.
        keep: For how long an entry is kept after its end.
    """

    def __init__(self, dsn: str, *, namespace: str = "default", keep: timedelta = KEEP) -> None:
        self._dsn = dsn
        self.namespace = namespace
        self.keep = keep

    def __repr__(self) -> str:  # Not the DSN: it may have a password.
        return f"PostgresStore(…, namespace={self.namespace!r})"

    async def open(self, account: str) -> SqlStore:
        """See `Backend.open`."""
        entries, limits = PostgresDatabase(self._dsn), PostgresDatabase(self._dsn)

        def news(channel: str, own: str) -> NotifyNews:
            return NotifyNews(entries.raw, channel, own)

        return await opened(entries, limits, POSTGRES, account, self.namespace, news)


class PostgresDatabase:
    """See `Database`."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def connect(self) -> Connection:
        """See `Database.connect`."""
        return PostgresConnection(self.raw())

    def raw(self) -> psycopg.Connection[Any]:
        """Connect, as psycopg does."""
        try:
            import psycopg  # Here: it takes 0.2 s, which only those spend who use it.
        except ImportError:
            raise StoreError(
                "PostgresStore needs psycopg: pip install 'apixo-async[postgres]'"
            ) from None
        return psycopg.connect(
            self._dsn,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=_CONNECTING,
            # A host that vanished is noticed, and no thread waits for it for ever.
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=10_000,
            client_encoding="utf8",
            application_name="apixo_async",
            cursor_factory=psycopg.ClientCursor,
        )

    def is_lost(self, exc: BaseException) -> bool:
        """See `Database.is_lost`."""
        import psycopg

        if not isinstance(exc, psycopg.OperationalError | psycopg.InterfaceError):
            return False
        # What was done of a message that was cut off is not known.
        return exc.sqlstate is None or exc.sqlstate.startswith(("08", "57P"))

    def error(self, exc: BaseException) -> StoreError:
        """See `Database.error`."""
        if isinstance(exc, StoreError):
            return exc
        state = getattr(exc, "sqlstate", None) or ""
        advice = {
            "22": "it does not take what is written",
            "25006": "it is a standby, or read-only: name the primary (target_session_attrs)",
            "28": "it refuses the user or the password",
            "3D": "there is no such database: make it",
            "42501": "the user has not the right to do that: grant it",
            "42P01": "its tables are gone: open the client anew",
            "42": "its tables are not of this package: choose another database or schema",
            "53100": "its disk is full: make room",
            "54": "what is written is too large for it",
            "40": "it gave this up for another transaction: it is tried again",
            "53": "it has no room for another connection: allow more, or use fewer processes",
            "55P03": "another process holds a lock for too long",
            "57014": "it takes too long: see what it is busy with",
            "57": "it is shutting down, or starting: it is tried again",
        }
        does = next((text for sign, text in advice.items() if sign and state.startswith(sign)), "")
        # Its text may quote the DSN, password included: only what is known to be safe is shown.
        said = f"{type(exc).__name__} {state}".strip()
        return StoreError(
            f"the PostgreSQL store: {does or 'it cannot be reached: see whether it runs, and DSN'}"
            f" ({said})"
        )


class PostgresConnection:
    """See `Connection`."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def run(self, acts: Sequence[Act[Any]]) -> list[list[Done]]:
        """See `Connection.run`.

        All of it is one message: a process that is stopped in the middle leaves no lock behind.
        """
        import psycopg

        cursor = self._connection.cursor()
        assert isinstance(cursor, psycopg.ClientCursor)
        texts = [
            cursor.mogrify(statement.encode(), act.values)
            for act in acts
            for statement in act.statements
        ]
        try:
            cursor.execute("; ".join([*_BOUNDS, *texts, "COMMIT"]).encode())
        except BaseException:
            with suppress(psycopg.Error):
                self._connection.execute("ROLLBACK")
            raise
        for _ in _BOUNDS:
            cursor.nextset()
        return [[self._next(cursor) for _ in act.statements] for act in acts]

    def _next(self, cursor: psycopg.Cursor[Any]) -> Done:
        done = Done(cursor.fetchall() if cursor.description else (), cursor.rowcount)
        cursor.nextset()
        return done

    def cut(self) -> None:
        """See `Connection.cut`: behind a pooler that is frozen no timeout of the kernel helps."""
        with suppress(Exception), socket.socket(fileno=os.dup(self._connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """See `Connection.close`."""
        with suppress(Exception):
            self._connection.close()
