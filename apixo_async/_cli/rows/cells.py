"""Texts of the command line and of CSV files, as amounts, numbers, bools and lists."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, NoReturn, cast

from apixo_async import ConfigurationError
from apixo_async._cli.figures import fields_of
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


#: As spreadsheets write them, too.
_BOOLS: Final[Mapping[str, bool]] = {"true": True, "false": False}

_takes = functools.cache(fields_of)


def value_of(model: str, name: str, cell: str) -> object:
    """Return what a cell means for a field: the text itself where the field takes text.

    A list is a JSON array, or URLs with white space between them. For a model without a page
    of its own, prompts are text, `..._urls` are lists, and the rest is JSON where it is JSON.

    Raises:
        ConfigurationError: A list is broken JSON.
    """
    if _is_prompt(name):
        return cell
    text = cell.strip()
    if model not in DOCUMENTED:
        return _list(name, text) if name.lower().endswith("urls") else _scalar(text)
    types = _takes(model).get(name, frozenset({"string"}))
    if "array" in types:
        return _list(name, text)
    if "boolean" in types and text.lower() in _BOOLS:
        return _BOOLS[text.lower()]
    return text if "string" in types else _scalar(text)


def _is_prompt(name: str) -> bool:
    # negative_prompt, videoPrompt: a prompt may look like a number and stays text.
    return name.lower().endswith("prompt")


def _list(name: str, text: str) -> list[object]:
    if not text.startswith("["):
        return [*text.split()]
    try:
        return cast("list[object]", json.loads(text))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"{name}: {text!r:.60} given; a list is a JSON array, or URLs parted by spaces"
        ) from error


def _scalar(text: str) -> object:
    if text.lower() in _BOOLS:
        return _BOOLS[text.lower()]
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
