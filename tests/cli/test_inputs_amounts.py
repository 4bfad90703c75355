"""Amounts and prices of the command line."""

from __future__ import annotations

from decimal import Decimal

import pytest

from apixo_async import ConfigurationError
from apixo_async._cli.inputs import parse_amount, parse_prices


@pytest.mark.parametrize(
    ("text", "amount"), [("10", "10"), ("$0.25", "0.25"), (" 1e2 ", "100"), ("0", "0")]
)
def test_an_amount_is_exact(text: str, amount: str) -> None:
    """Money is decimal, with or without its sign."""
    assert parse_amount("--max-cost", text) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "ten", "-1", "nan", "inf", "1e999999", "1,5", "1000000000"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    """The message names option, value and a right one."""
    with pytest.raises(ConfigurationError, match=f"--max-cost {text}: .* such as 0.25"):
        parse_amount("--max-cost", text)


def test_prices_are_given_by_model() -> None:
    """Each pair is a price; the last one of a model counts."""
    prices = parse_prices(["sora-2=1", "veo-3-1 = $0.5", "sora-2=0.1"])
    assert prices == {"sora-2": Decimal("0.1"), "veo-3-1": Decimal("0.5")}


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("sora-2", "--price sora-2: give MODEL=USD"),
        ("=1", "give MODEL=USD"),
        ("sora-2=x", "--price sora-2 x: give an amount"),
        ("gpt-image-2=1", "prices of gpt-image-2 are known"),
    ],
)
def test_what_is_no_price_is_refused(pair: str, words: str) -> None:
    """A pair that is none, and a price that the documents have, are refused."""
    with pytest.raises(ConfigurationError, match=words):
        parse_prices([pair])
