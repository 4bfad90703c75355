"""Amounts of money that are given on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final

from apixo_async import ConfigurationError
from apixo_async.inputs import DOCUMENTED

#: What is above is a slip of the finger, and no amount.
_MOST: Final = Decimal(10**9)


def parse_amount(option: str, text: str) -> Decimal:
    """Read an amount in USD, with or without a dollar sign.

    Args:
        option: The option that it was given to, for the message.
        text: What was given.

    Raises:
        ConfigurationError: It is no amount, below zero, or a billion.
    """
    try:
        amount = Decimal(text.strip().removeprefix("$"))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not (amount.is_finite() and 0 <= amount < _MOST):
        raise ConfigurationError(f"{option} {text}: give an amount in USD, such as 0.25")
    return amount


def parse_prices(pairs: Sequence[str]) -> Mapping[str, Decimal]:
    """Read `MODEL=USD` pairs: what a task of a model without a documented price costs.

    Raises:
        ConfigurationError: A pair is none, its amount is none, or the documents have the price.
    """
    return dict(_parse_price(pair) for pair in pairs)


def _parse_price(pair: str) -> tuple[str, Decimal]:
    model, equals, amount = pair.partition("=")
    model = model.strip()
    if not equals or not model:
        raise ConfigurationError(f"--price {pair}: give MODEL=USD, such as sora-2=0.25")
    if model in DOCUMENTED:
        raise ConfigurationError(
            f"--price {pair}: the prices of {model} are known, see: apixo models {model}"
        )
    return model, parse_amount(f"--price {model}", amount)
