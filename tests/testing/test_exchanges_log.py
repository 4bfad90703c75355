"""Log: what came, when it was answered, and the fullest window."""

from __future__ import annotations

from dataclasses import replace

import pytest

from apixo_async.testing.exchanges import Call, Exchange, Log, Route, exchange, most_in_window

RECORD = Exchange(at=1.0, kind="poll", method="GET", host="h", path="/p", account="a", counted=True)


def test_a_record_never_holds_the_key() -> None:
    """A record says that a key and a cookie came, and keeps neither."""
    headers = {"authorization": "Bearer secret", "cookie": "c=secret", "range": "bytes=0-"}
    record = exchange(Call("GET", "/p", headers=headers, host="h"), Route("download"), 1.0, "")
    assert record.had_authorization
    assert record.had_cookie
    assert record.headers == {"range": "bytes=0-"}
    assert "secret" not in repr(record)
    assert record.fault is None


def test_an_answer_is_recorded_in_its_place() -> None:
    """The time of an answer goes to the record of its request."""
    log = Log()
    first = log.add(RECORD)
    log.add(RECORD)
    log.answered(first, 2.0)
    assert [record.answered_at for record in log] == [2.0, None]


def test_a_bounded_log_forgets_the_oldest_and_keeps_the_totals() -> None:
    """Only the last records are kept; totals count all; late answers of forgotten ones pass."""
    log = Log(keep=2)
    numbers = [log.add(replace(RECORD, at=float(at))) for at in range(5)]
    log.answered(numbers[0], 9.0)
    assert [record.at for record in log] == [3.0, 4.0]
    assert log.total() == log.total("poll") == 5
    assert log.total("submit") == 0


def test_connections_never_made_count_as_no_request() -> None:
    """Totals count what arrived."""
    log = Log()
    log.add(replace(RECORD, arrived=False))
    log.add(replace(RECORD, status=429))
    assert (log.total(), log.refused) == (1, 1)


@pytest.mark.parametrize(
    ("times", "most"),
    [([], 0), ([0, 60], 1), ([0, 59.9, 60], 2), ([0, 10, 20, 65, 69, 79], 4)],
)
def test_the_fullest_window_is_found(times: list[float], most: int) -> None:
    """Of all windows [t, t + 60) the fullest counts."""
    assert most_in_window([replace(RECORD, at=at) for at in times]) == most


def test_windows_are_those_of_one_key_and_of_counted_requests() -> None:
    """Keys have windows of their own, and what the limit does not count is in none."""
    records = [
        RECORD,
        replace(RECORD, account="b"),
        replace(RECORD, counted=False),
    ]
    assert most_in_window(records) == 1
    assert most_in_window([RECORD, replace(RECORD, at=1.5)], seconds=0.5) == 1
