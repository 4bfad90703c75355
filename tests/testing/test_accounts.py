"""Accounts: balances, tasks at once, and the requests of any 60 seconds."""

from __future__ import annotations

import hashlib
from decimal import Decimal

import pytest

from apixo_async.testing.accounts import Account, Accounts


def test_a_window_holds_exactly_the_last_60_seconds() -> None:
    """A request counts until, and not at, 60 s after its arrival."""
    account = Account("a", Decimal(1))
    account.count_request(1000.0)
    account.count_request(1030.0)
    assert account.requests(1059.999) == 2
    assert account.requests(1060.0) == 1
    assert account.requests(1090.0) == 0
    assert account.most_requests == 2


def test_a_task_counts_until_its_end() -> None:
    """A task takes a place until, and not at, its end; the ends need not be in order."""
    account = Account("a", Decimal(1))
    account.buy(Decimal("0.3"), 50.0, 0.0)
    account.buy(Decimal("0.3"), 20.0, 0.0)
    assert account.balance == Decimal("0.4")
    assert [account.tasks(now) for now in (0.0, 19.9, 20.0, 49.9, 50.0)] == [2, 2, 1, 1, 0]
    assert account.most_tasks == 2


@pytest.mark.parametrize(
    ("header", "known"),
    [
        ("Bearer one", True),
        ("bearer one", True),
        ("Bearer two", False),
        ("Basic one", False),
        ("one", False),
        ("", False),
        (None, False),
    ],
)
def test_an_account_is_found_by_its_bearer_key(header: str | None, known: bool) -> None:
    """Only a Bearer header with a known key finds an account."""
    accounts = Accounts({"one": Decimal(1)})
    assert (accounts.of(header) is not None) is known


def test_an_account_is_named_by_a_digest() -> None:
    """The key itself is no account's name."""
    (account,) = Accounts({"one": Decimal(1)})
    assert account.name == hashlib.sha256(b"one").hexdigest()[:8]
    assert len(account.name) == 8
    assert "one" not in account.name
