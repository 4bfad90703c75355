"""The tables of a journal, and whether a file holds them."""

from __future__ import annotations

import sqlite3
from typing import Final, cast

from apixo_async.journal._entry import STATES, Row
from apixo_async.journal._error_forms import CUT_OFF, uncertain_text
from apixo_async.journal._failures import ACCEPT, RESCUE, JournalRefusal, as_sqlite

#: "apxj": tells a journal from every other SQLite database.
APPLICATION_ID: Final = 0x6170786A
VERSION: Final = 2

COLUMNS: Final = ", ".join(f"item.{name}" for name in Row._fields)

_STATES: Final = ", ".join(f"'{state}'" for state in STATES)

#: `row` is also the order of first entry. `price` and `prior_…` are what a refusal takes back.
_ITEM: Final = f"""
CREATE TABLE item (
    row INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,
    model TEXT NOT NULL,
    provider TEXT,
    payload TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'new' CHECK (state IN ({_STATES})),
    purchases INTEGER NOT NULL DEFAULT 0,
    cost INTEGER NOT NULL DEFAULT 0,
    unpriced INTEGER NOT NULL DEFAULT 0,
    price INTEGER,
    prior_state TEXT,
    prior_intent_id TEXT,
    prior_intent_at REAL,
    prior_claim TEXT,
    intent_id TEXT,
    intent_at REAL,
    claim TEXT,
    submitted_at REAL,
    ended_at REAL,
    task_id TEXT,
    result TEXT,
    error TEXT,
    files TEXT
)
"""
#: 1 in the file itself as long as a run writes, and always 0 in its log: see `settle`.
_NEEDS_LOG: Final = "ALTER TABLE run ADD COLUMN needs_log INTEGER NOT NULL DEFAULT 0"
_TABLES: Final = (
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
    _ITEM,
    # It holds all that the counts and sums need, so that they read no inputs.
    "CREATE INDEX item_state ON item (state, cost, unpriced)",
    "CREATE UNIQUE INDEX item_intent ON item (intent_id) WHERE intent_id IS NOT NULL",
    "CREATE TABLE run (number INTEGER PRIMARY KEY, opened_at REAL NOT NULL, version TEXT NOT NULL)",
    _NEEDS_LOG,
)
#: What the balance is compared with. Not part of the version: a journal is complete without it.
_OF_BALANCE: Final = (
    # What the account had as a run began to buy, and what the items had cost until then.
    ("run", "balance", "INTEGER"),
    ("run", "cost", "INTEGER"),
    ("run", "unpriced", "INTEGER"),
    ("run", "purchases", "INTEGER"),
    # The run of an item's last submit; what a refusal takes back, as `prior_state`.
    ("item", "run", "INTEGER"),
    ("item", "prior_price", "INTEGER"),
    # Uncertain submits that were bought anew: how many, what they cost, and the run of the first.
    ("item", "doubted", "INTEGER NOT NULL DEFAULT 0"),
    ("item", "doubted_cost", "INTEGER DEFAULT 0"),
    ("item", "doubted_run", "INTEGER"),
)
#: Version 1 had no such mark: nothing is known of its log, and its files are taken as they are.
_FROM_1: Final = (
    _NEEDS_LOG,
    "ALTER TABLE item ADD COLUMN claim TEXT",
    "ALTER TABLE item ADD COLUMN prior_claim TEXT",
    f"PRAGMA user_version = {VERSION}",
)
_NEW_IN_2: Final = frozenset({"claim"})

_MARK: Final = "UPDATE run SET needs_log = 1 WHERE number = (SELECT max(number) FROM run)"
#: What one run remembers of itself; not in Python, so that memory stays flat.
_OF_THIS_RUN: Final = (
    "CREATE TEMP TABLE seen (digest TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TEMP TABLE entered (row INTEGER PRIMARY KEY)",
)


def is_new(connection: sqlite3.Connection) -> bool:
    """Return True if the file is empty, and not a journal yet; change nothing.

    Raises:
        JournalRefusal: It is something else, or a journal that this version cannot read.
    """
    application_id = _number(connection, "PRAGMA application_id")
    version = _number(connection, "PRAGMA user_version")
    if not application_id and not _number(connection, "SELECT count(*) FROM sqlite_master"):
        return True
    if application_id != APPLICATION_ID:
        raise JournalRefusal(
            "it is the database of another program, and was left as it is. Name another file"
        )
    if version not in (1, VERSION):
        raise JournalRefusal(
            f"it has version {version}, and this apixo-async knows version {VERSION}: "
            "update apixo-async (python -m pip install -U apixo-async), or name another file"
        )
    has = connection.execute("SELECT name FROM pragma_table_info('item')").fetchall()
    needed = {*Row._fields} - (_NEW_IN_2 if version == 1 else set())
    lacks = sorted(needed - {name for (name,) in cast("list[tuple[str]]", has)})
    if lacks:
        raise JournalRefusal(f"it is damaged: it lacks item.{lacks[0]}. {RESCUE}")
    return False


def begin_run(connection: sqlite3.Connection, *, new: bool, now: float, version: str) -> None:
    """Make the tables of a new file, note this run, and settle what the last one left open.

    An intent of an earlier run is uncertain: whether it was sent cannot be known.
    """
    if new:
        for statement in _TABLES:
            connection.execute(statement)
    upgrade(connection)
    connection.execute("INSERT INTO run (opened_at, version) VALUES (?, ?)", (now, version))
    settle_intents(connection)
    for statement in _OF_THIS_RUN:
        connection.execute(statement)


def upgrade(connection: sqlite3.Connection) -> None:
    """Bring the tables of version 1 to this version, and add what any file may lack."""
    if _number(connection, "PRAGMA user_version") == 1:
        for statement in _FROM_1:
            connection.execute(statement)
    for table, name, kind in _OF_BALANCE:
        has = f"SELECT 1 FROM pragma_table_info('{table}') WHERE name = '{name}'"
        if connection.execute(has).fetchone() is None:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")


def settle_intents(connection: sqlite3.Connection) -> None:
    """Have every submit that was under way be uncertain, as its process is gone."""
    connection.execute(
        "UPDATE item SET state = 'uncertain', error = ? WHERE state = 'intent'",
        (uncertain_text(CUT_OFF),),
    )


def settle(connection: sqlite3.Connection) -> None:
    """Copy the log into the file, which then says by a mark that it needs its log.

    The log takes the mark back at once: only a file that has lost its log shows it. A file into
    which SQLite has copied all of the log, as any program does that opens both, shows none.

    Raises:
        sqlite3.Error: It cannot be written, or was not copied whole.
    """
    connection.execute(_MARK)
    try:
        done = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        busy, frames, copied = cast("tuple[int, int, int]", done)
        if busy or copied != frames:
            raise as_sqlite(sqlite3.SQLITE_IOERR, f"{copied} of {frames} pages left the log")
    finally:
        connection.execute(f"{ACCEPT} WHERE needs_log")


def needs_log(connection: sqlite3.Connection) -> float | None:
    """Return when the run began whose log the file needs, or None if it needs none or is old."""
    if _number(connection, "PRAGMA user_version") == 1:
        return None
    found = connection.execute("SELECT max(opened_at) FROM run WHERE needs_log").fetchone()
    return cast("tuple[float | None]", found)[0]


def check_pages(connection: sqlite3.Connection) -> None:
    """Look for damage in every page, and for keys by which no item would be found.

    Raises:
        sqlite3.DatabaseError: There is some.
    """
    # `quick_check` does not compare the index of the keys with the rows.
    (found,) = cast("tuple[str]", connection.execute("PRAGMA integrity_check(1)").fetchone())
    if found != "ok":
        raise as_sqlite(sqlite3.SQLITE_CORRUPT, found)
    lost = connection.execute("SELECT row FROM item WHERE typeof(key) != 'text'").fetchone()
    if lost is not None:
        raise as_sqlite(sqlite3.SQLITE_CORRUPT, f"the key of row {lost[0]} is no text")


def _number(connection: sqlite3.Connection, sql: str) -> int:
    (number,) = cast("tuple[int]", connection.execute(sql).fetchone())
    return number
