from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from apixo_async.journal._entry import STATES
from apixo_async.journal._failures import JournalRefusal
from apixo_async.journal._schema import (
    APPLICATION_ID,
    COLUMNS,
    VERSION,
    begin_run,
    check_pages,
    is_new,
)

from ..support.journals import in_memory


@pytest.fixture
def empty() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield connection
    connection.close()


def test_an_empty_file_is_a_new_journal(empty: sqlite3.Connection) -> None:
    """A file without tables becomes a journal, marked as one for `file` and for later versions."""
    assert is_new(empty)
    begin_run(empty, new=True, now=5.0, version="1.2.3")
    assert not is_new(empty)
    assert empty.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert empty.execute("PRAGMA user_version").fetchone() == (VERSION,)
    assert empty.execute("SELECT * FROM run").fetchall() == [(1, 5.0, "1.2.3", 0, *[None] * 4)]
    assert APPLICATION_ID.to_bytes(4, "big") == b"apxj"


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("CREATE TABLE theirs (x)", "the database of another program, and was left as it is"),
        ("PRAGMA application_id = 7", "the database of another program"),
        (f"PRAGMA user_version = {VERSION + 1}", f"version {VERSION + 1}, and this .* {VERSION}:"),
    ],
)
def test_what_is_no_journal_of_ours(empty: sqlite3.Connection, statement: str, said: str) -> None:
    """Another program's database and a later version's journal are told apart, and left alone."""
    if "user_version" in statement:
        begin_run(empty, new=True, now=1.0, version="x")
    empty.execute(statement)
    if "application_id" in statement:
        empty.execute("CREATE TABLE theirs (x)")
    before = list(empty.iterdump())
    with pytest.raises(JournalRefusal, match=said):
        is_new(empty)
    assert list(empty.iterdump()) == before


def test_tables_that_lack_a_column() -> None:
    """A journal without its columns or tables is damaged, and no empty one."""
    connection = in_memory()
    connection.execute("ALTER TABLE item RENAME COLUMN files TO paths")
    with pytest.raises(JournalRefusal, match=r"it is damaged: it lacks item\.files\. Keep it"):
        is_new(connection)
    connection.execute("DROP TABLE item")
    with pytest.raises(JournalRefusal, match=r"it lacks item\.claim"):
        is_new(connection)
    connection.close()


def test_intents_of_an_earlier_run_are_uncertain() -> None:
    """Of what was an intent when a run ended nobody can know whether it was sent."""
    connection = in_memory()
    for row, state in enumerate(STATES):
        connection.execute(
            "INSERT INTO item (key, digest, model, payload, state, intent_id, intent_at) "
            "VALUES (?, 'd', 'm', '{}', ?, ?, 3.0)",
            (state, state, f"mark {row}"),
        )
    connection.execute("DROP TABLE temp.seen")
    connection.execute("DROP TABLE temp.entered")
    begin_run(connection, new=False, now=9.0, version="later")
    found = connection.execute("SELECT key, state, intent_at, error FROM item").fetchall()
    assert {key: state for key, state, *_ in found} == {
        state: "uncertain" if state == "intent" else state for state in STATES
    }
    assert {at for _, _, at, _ in found} == {3.0}
    assert [key for key, _, _, error in found if error] == ["intent"]
    assert connection.execute("SELECT number, version FROM run").fetchall() == [
        (1, "test"),
        (2, "later"),
    ]
    connection.close()


def test_an_unknown_state_cannot_be_written() -> None:
    """The file itself refuses a state that is none."""
    connection = in_memory()
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        connection.execute(
            "INSERT INTO item (key, digest, model, payload, state) VALUES ('k','d','m','{}','odd')"
        )
    connection.close()


def test_counts_and_sums_read_no_inputs() -> None:
    """States and money are read from an index alone, however long the prompts are."""
    connection = in_memory()
    for sql in ("state, count(*) FROM item GROUP BY state", "sum(cost), sum(unpriced) FROM item"):
        (plan,) = connection.execute(f"EXPLAIN QUERY PLAN SELECT {sql}").fetchall()
        assert "USING COVERING INDEX item_state" in plan[3]
    assert COLUMNS.startswith("item.row, item.key")
    connection.close()


def test_damage_is_an_error_of_the_database() -> None:
    """What the check of all pages finds is raised as damage, in SQLite's words."""
    connection = in_memory()
    check_pages(connection)
    connection.execute("INSERT INTO item (key, digest, model, payload) VALUES ('k','d','m','{}')")
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("UPDATE sqlite_master SET sql = replace(sql, 'error TEXT', 'error INT')")
    connection.execute(
        "UPDATE sqlite_master SET sql = replace(sql, 'task_id TEXT', 'task_id TEXT NOT NULL')"
    )
    connection.execute("PRAGMA schema_version = 99")
    with pytest.raises(sqlite3.DatabaseError, match="NULL value in item") as caught:
        check_pages(connection)
    assert caught.value.sqlite_errorcode == sqlite3.SQLITE_CORRUPT
    connection.close()
