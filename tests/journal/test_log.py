"""Logs as SQLite writes them, and what a crash, a bad disk or a broken copy makes of them."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from apixo_async.journal._log import condition_of

PAGE = 512
FRAME = 24 + PAGE


@pytest.fixture
def file(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Return a database of small pages with a log that is never copied by itself."""
    connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    for statement in (
        f"PRAGMA page_size = {PAGE}",
        "PRAGMA journal_mode = WAL",
        "PRAGMA wal_autocheckpoint = 0",
        "CREATE TABLE item (text TEXT)",
    ):
        connection.execute(statement)
    yield connection
    connection.close()


def log_of(file: sqlite3.Connection, transactions: int) -> bytes:
    """Return the log after so many more transactions of four frames or more."""
    for _ in range(transactions):
        file.execute("INSERT INTO item VALUES (?)", ("x" * 3 * PAGE,))
    ((_, _, path),) = file.execute("PRAGMA database_list")
    return Path(f"{path}-wal").read_bytes()


def condition(log: bytes) -> str:
    return condition_of(BytesIO(log))


def commits(log: bytes) -> list[int]:
    """Return which frames end a transaction."""
    heads = (log[at : at + 24] for at in range(32, len(log), FRAME))
    return [number for number, head in enumerate(heads) if any(head[4:8])]


def flipped(log: bytes, at: int) -> bytes:
    return log[:at] + bytes([log[at] ^ 1]) + log[at + 1 :]


def test_a_whole_log(file: sqlite3.Connection) -> None:
    """A log with whatever number of transactions is whole, be it longer than what is read once."""
    assert {condition(log_of(file, 1)) for _ in range(5)} == {"whole"}
    log = log_of(file, 200)
    assert len(log) > 2 * 256 * FRAME
    assert condition(log) == "whole"


@pytest.mark.parametrize("byte", [0, 16, 24, PAGE])
def test_a_frame_is_damaged(file: sqlite3.Connection, byte: int) -> None:
    """A damaged frame means a torn end in the last transaction, and a loss in all others."""
    log = log_of(file, 3)
    *_, last_but_one, last = commits(log)
    for number in range(last + 1):
        lost = number <= last_but_one
        damaged = flipped(log, 32 + number * FRAME + byte)
        assert condition(damaged) == ("damaged" if lost else "whole"), number


def test_a_frame_lost_its_salts(file: sqlite3.Connection) -> None:
    """A frame that seems to be of another generation is damaged where this one goes on after it."""
    log = log_of(file, 3)
    last_but_one = commits(log)[-2]
    for number in range(last_but_one):
        assert condition(flipped(log, 32 + number * FRAME + 9)) == "damaged", number


def test_the_end_is_missing(file: sqlite3.Connection) -> None:
    """A log that ends within its last transaction is whole, as it is after any kill."""
    log = log_of(file, 3)
    before = 32 + (commits(log)[-2] + 1) * FRAME
    for end in range(before, len(log), 100):
        assert condition(log[:end]) == "whole"
        assert condition(log[:end] + bytes(len(log) - end)) == "whole"


def test_a_frame_that_is_cut_off(file: sqlite3.Connection) -> None:
    """The beginning of a frame is enough to show that a transaction before it was committed."""
    log = log_of(file, 3)
    end = 32 + (commits(log)[1] + 1) * FRAME
    assert condition(flipped(log[: end + 30], end - 1)) == "damaged"
    assert condition(flipped(log[:end], end - 1)) == "whole"


@pytest.mark.parametrize("left", [0, 31, 32, 33, 32 + FRAME])
def test_nothing_to_read(file: sqlite3.Connection, left: int) -> None:
    """A log without a transaction is empty, whatever stands behind it."""
    log = log_of(file, 3)
    for cut in (log[:left], log[:left] + bytes(len(log) - left), bytes(len(log))):
        assert condition(cut) == "empty"


@pytest.mark.parametrize("at", [3, 11, 16, 30])
def test_a_damaged_header(file: sqlite3.Connection, at: int) -> None:
    """A log whose header is damaged is empty to SQLite."""
    assert condition(flipped(log_of(file, 3), at)) == "empty"


def test_a_log_that_is_begun_anew(file: sqlite3.Connection) -> None:
    """A log whose frames are all in the file may have a new header before its first new frame."""
    old = log_of(file, 3)
    file.execute("PRAGMA wal_checkpoint")
    file.execute("PRAGMA user_version = 5")  # One frame.
    new = log_of(file, 0)
    torn = new[:32] + old[32:]
    assert len(new) == len(old)
    assert {condition(log) for log in (new, torn, flipped(new, 40))} == {"whole"}
    assert condition(torn[: 32 + FRAME]) == condition(flipped(torn, 3)) == "empty"
    assert condition(new[:32] + bytes(len(new) - 32)) == "empty"


def test_a_log_of_the_other_byte_order(file: sqlite3.Connection) -> None:
    """A log that a machine of the other byte order has written is summed up in its order."""
    log = log_of(file, 3)
    for order in "<>":
        other = summed_up(log, order)
        assert (condition(other), other == log) == ("whole", other[3] == log[3])
        assert condition(flipped(other, 32 + 100)) == "damaged"


def summed_up(log: bytes, order: str) -> bytes:
    """Return a log with the checksums of a machine of this byte order, made word by word."""
    head = struct.pack(">I", 0x377F0682 + (order == ">")) + log[4:24]
    one, two = sums(head, order, 0, 0)
    done = head + struct.pack(">II", one, two)
    for at in range(32, len(log), FRAME):
        head, page = log[at : at + 16], log[at + 24 : at + FRAME]
        one, two = sums(head[:8] + page, order, one, two)
        done += head + struct.pack(">II", one, two) + page
    return done


def sums(data: bytes, order: str, one: int, two: int) -> tuple[int, int]:
    for even, odd in struct.iter_unpack(f"{order}II", data):
        one = (one + even + two) % 2**32
        two = (two + odd + one) % 2**32
    return one, two
