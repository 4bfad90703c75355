from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import partial

import pytest

from apixo_async.journal._entry import STATES
from apixo_async.journal._moves import enter
from apixo_async.journal._reads import PAGE, counts, page, spent

from ..support.journals import in_memory, known, moved


@pytest.fixture
def file() -> Iterator[sqlite3.Connection]:
    connection = in_memory()
    yield connection
    connection.close()


def test_nothing_is_there(file: sqlite3.Connection) -> None:
    """An empty journal counts nothing in every state, and has cost nothing."""
    assert counts(file) == dict.fromkeys(STATES, 0)
    assert spent(file) == (0, 0)
    assert page(file, after=0, pending=False) == []


def test_counts_are_all_items(file: sqlite3.Connection) -> None:
    """Every item is counted in the state that it is in."""
    for number in range(5):
        enter(file, None, known(number))
    moved(file, "intend", (1, None, 5.0, 1))
    moved(file, "intend", (1, None, 5.0, 2))
    moved(file, "uncertain", ("{}", 2))
    assert counts(file) == dict.fromkeys(STATES, 0) | {"new": 3, "intent": 1, "uncertain": 1}


def test_what_was_spent(file: sqlite3.Connection) -> None:
    """The money of every purchase is summed up, and those without a price are counted."""
    for number in range(3):
        enter(file, None, known(number))
    moved(file, "intend", (20_000, None, 5.0, 1))
    moved(file, "intend", (None, None, 5.0, 2))
    moved(file, "intend", (350_000, None, 5.0, 3))
    assert spent(file) == (370_000, 1)
    moved(file, "refused", (2,))
    assert spent(file) == (370_000, 0)


def test_damaged_money(file: sqlite3.Connection) -> None:
    """What is no amount of money is none: it neither fails nor makes room for more purchases."""
    for number, damaged in enumerate((30_000, "x", -50_000, b"x", 10_000)):
        enter(file, None, known(number))
        file.execute("UPDATE item SET cost = ? WHERE row = ?", (damaged, number + 1))
    assert spent(file) == (40_000, 0)


def test_pages_hold_every_item_once(file: sqlite3.Connection) -> None:
    """All rows come page by page, in the order of their first entry."""
    count = 2 * PAGE + 1
    for number in range(count):
        enter(file, f"key {-number}", known(number))
    pages = list(iter_pages(file))
    assert [len(one) for one in pages] == [PAGE, PAGE, 1]
    assert [row for one in pages for row in one] == [*range(1, count + 1)]


def iter_pages(file: sqlite3.Connection) -> Iterator[list[int]]:
    after, read = 0, partial(page, file, pending=False)
    while rows := read(after=after):
        yield [row.row for row in rows]
        after = rows[-1].row


def test_what_is_pending_and_was_not_entered(file: sqlite3.Connection) -> None:
    """Submitted and uncertain items of earlier runs are pending until this run enters them."""
    for row, state in enumerate(STATES, 1):
        enter(file, state, known(row))
        file.execute("UPDATE item SET state = ? WHERE row = ?", (state, row))
    assert page(file, after=0, pending=True) == []
    file.execute("DELETE FROM entered")
    assert [row.key for row in page(file, after=0, pending=True)] == ["submitted", "uncertain"]
    enter(file, "submitted", known(1 + STATES.index("submitted")))
    assert [row.key for row in page(file, after=0, pending=True)] == ["uncertain"]
    assert page(file, after=1 + STATES.index("uncertain"), pending=True) == []
