"""History: the fullest moment of each of the last seconds."""

from __future__ import annotations

from decimal import Decimal

from apixo_async.testing.accounts import SECONDS, Account, LimitHistory


def test_each_second_remembers_its_most() -> None:
    """A second keeps the most requests and tasks seen in it, whichever account had them."""
    history = LimitHistory()
    busy, idle = Account("a", Decimal(9)), Account("b", Decimal(9))
    busy.count_request(10.2)
    busy.buy(Decimal(1), 10.5, 10.2)
    history.note(busy, 10.2)
    history.note(idle, 10.9)
    history.note(busy, 11.0)
    assert history.since(12.0) == [(2.0, 1, 1), (1.0, 1, 0)]


def test_old_seconds_are_forgotten() -> None:
    """Neither many seconds nor a long pause keeps what is out of sight."""
    history = LimitHistory()
    account = Account("a", Decimal(9))
    for second in range(SECONDS + 20):
        history.note(account, float(second))
    assert len(history.since(SECONDS + 20.0)) == SECONDS
    assert history.since(10 * SECONDS) == []
