"""The tables of a store over SQL, and where the words of SQLite and PostgreSQL differ."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

#: Written into each new store; a later layout only adds to it.
VERSION: Final = 3


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where the two databases differ.

    Attributes:
        now: The time of the store, in seconds.
        row: The type of a row's number.
        real: The type of a time.
        unlogged: What makes a table that may be lost.
        lock_account: What holds other intents of the account off until the transaction ends.
        lock_key: What holds other changes of the entry of a key off, so that all statements of the
            transaction see it the same.
        lock_attempt: The same, for the entry of a POST.
        lock_rows: What leaves rows alone that another transaction changes.
        find_text: The function that finds a text in another.
        tell: What tells other processes of an entry that was changed, found by its POST.
        tell_key: The same, by its key.
        tell_any: What tells them that any entry may have changed.
        hashed: What makes an index for texts of any length.
        named: How a parameter is written.
        is_made: Has a row if the tables are there.
        alone: What lets one process at a time make them.
        other_clock: One of this process that is not set together with that of the database.
        more: Tables beside those of the entries; a file of SQLite has that of the limits elsewhere.
    """

    now: str
    row: str
    real: str
    unlogged: str
    lock_account: str
    lock_key: str
    lock_attempt: str
    lock_rows: str
    find_text: str
    tell: str
    tell_key: str
    tell_any: str
    hashed: str
    named: str
    is_made: str
    alone: str
    other_clock: Callable[[], float]
    more: tuple[str, ...] = ()

    @property
    def schema(self) -> tuple[str, ...]:
        """What makes the tables."""
        return tuple(text for text in (self.alone, *self.more, *SCHEMA) if text)

    @lru_cache(maxsize=256)  # noqa: B019  # there are two of them, which live for ever
    def render(self, text: str) -> str:
        """Return a statement in the words of this database."""
        for word in ("now", "row", "real", "unlogged", "lock_rows", "find_text", "hashed"):
            text = text.replace(f"<{word}>", getattr(self, word))
        text = text.replace("<open>", _OPEN_TASKS.replace("<now>", self.now))
        return re.sub(r"(?<!:):([a-z]\w*)", self.named, text)


#: How many tasks of an account exist, or may exist.
_OPEN_TASKS: Final = """(SELECT coalesce(sum(CASE WHEN slot_until > <now> THEN 1 ELSE 0 END
    + CASE WHEN held_until > <now> THEN 1 ELSE 0 END), 0) FROM apixo_entry
    WHERE account = :account AND state IN ('intent', 'submitted', 'uncertain'))"""

#: The table of the limits, which may be lost at any time.
LIMITS: Final = """CREATE <unlogged> IF NOT EXISTS apixo_limits (
    account text PRIMARY KEY, version bigint NOT NULL, body text NOT NULL)"""


def _since_boot() -> float:
    """Return seconds of a clock that goes on while the host sleeps, where it has one."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


SQLITE: Final = Dialect(
    now="((julianday('now') - 2440587.5) * 86400.0)",
    row="integer PRIMARY KEY AUTOINCREMENT",
    real="real",
    unlogged="TABLE",
    lock_account="",  # A transaction that writes has the whole file.
    lock_key="",
    lock_attempt="",
    lock_rows="",
    find_text="instr",
    tell="",  # They see it by the version of the file.
    tell_key="",
    tell_any="",
    hashed="",
    named=r":\1",
    is_made="SELECT 1 FROM sqlite_master WHERE name = 'apixo_store'",
    alone="",
    other_clock=_since_boot,  # All are on one host, whose time SQLite tells.
)

POSTGRES: Final = Dialect(
    now="extract(epoch FROM clock_timestamp())::double precision",
    row="bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    real="double precision",
    unlogged="UNLOGGED TABLE",
    lock_account="SELECT 1 FROM apixo_account WHERE account = :account FOR UPDATE",
    lock_key="""SELECT 1 FROM apixo_entry WHERE namespace = :namespace AND key = :key
        FOR UPDATE""",
    lock_attempt="SELECT 1 FROM apixo_entry WHERE attempt = :attempt FOR UPDATE",
    lock_rows="FOR UPDATE SKIP LOCKED",
    find_text="strpos",
    # Of the namespace that it is in: a callback may come to a process of another one.
    tell="""SELECT pg_notify('apixo_' || left(encode(sha256(convert_to(namespace, 'UTF8')), 'hex'),
        16), left(:own || ':' || key, 1000)) FROM apixo_entry WHERE attempt = :attempt""",
    tell_key="SELECT pg_notify(:channel, left(:own || ':' || :key, 1000))",
    tell_any="SELECT pg_notify(:channel, :own || ':')",
    hashed="USING hash",
    named=r"%(\1)s",
    is_made="SELECT 1 WHERE to_regclass('apixo_store') IS NOT NULL",
    # CREATE TABLE IF NOT EXISTS fails where two do it at once.
    alone="SELECT pg_advisory_xact_lock(4122198374)",
    other_clock=time.time,
    more=(LIMITS,),
)

SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS apixo_store (version integer NOT NULL)",
    """CREATE TABLE IF NOT EXISTS apixo_account (
        account text PRIMARY KEY, seen_at <real> NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS apixo_entry (
        row <row>, namespace text NOT NULL, key text NOT NULL, account text NOT NULL,
        digest text NOT NULL, model text NOT NULL, provider text, kind text NOT NULL,
        payload text NOT NULL, price text, tag text, traceparent text,
        state text NOT NULL, owner text, attempt text NOT NULL, prior_state text,
        prior_attempt text, purchases integer NOT NULL, intent_at <real> NOT NULL,
        slot_until <real> NOT NULL, held_until <real> NOT NULL, submitted_at <real>,
        ended_at <real>, task_id text, also text NOT NULL,
        called_at <real>, claimed text NOT NULL DEFAULT '', outcome text, taken text,
        UNIQUE (namespace, key))""",
    """CREATE INDEX IF NOT EXISTS apixo_entry_open ON apixo_entry (account, owner)
        WHERE state IN ('intent', 'submitted', 'uncertain')""",
    "CREATE INDEX IF NOT EXISTS apixo_entry_attempt ON apixo_entry (attempt)",
    """CREATE INDEX IF NOT EXISTS apixo_entry_task ON apixo_entry <hashed> (task_id)
        WHERE task_id IS NOT NULL""",
    """CREATE INDEX IF NOT EXISTS apixo_entry_ended ON apixo_entry (ended_at)
        WHERE ended_at IS NOT NULL""",
    f"INSERT INTO apixo_store SELECT {VERSION} WHERE NOT EXISTS (SELECT 1 FROM apixo_store)",
)

Row = Sequence[Any]


class Done(NamedTuple):
    """What one statement did: its rows, and how many it changed."""

    rows: Sequence[Row]
    changed: int


@dataclass(frozen=True, slots=True)
class Act(Generic[T]):
    """Statements of one transaction, and what their results mean.

    Attributes:
        statements: In the words of `Dialect`.
        values: The parameters of all of them.
        read: Makes the result.
        writes: Whether it changes anything.
    """

    statements: Sequence[str]
    values: dict[str, Any]
    read: Callable[[Sequence[Done]], T]
    writes: bool = True
