"""Words become values: `--set`, prices, cells of CSV files, and the input that they make."""

from __future__ import annotations

import functools
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple, NoReturn, cast

from pydantic import ValidationError

from apixo_async import ConfigurationError, Input, InputWarning, from_dict
from apixo_async._cli.console import Screen
from apixo_async._cli.models import fields_of, misspelt
from apixo_async.inputs import DOCUMENTED

#: An amount of this size or above is a typing error.
_MOST: Final = Decimal(10**9)

#: As spreadsheets write them, too.
_BOOLS: Final[Mapping[str, bool]] = {"true": True, "false": False}

_takes = functools.cache(fields_of)


class InputWithDoubts(NamedTuple):
    """An input, and what may be a mistake in it."""

    input: Input
    doubts: tuple[str, ...]


def read_prompt(prompt: str) -> str:
    """Return the prompt, read from stdin if it is given as `-`."""
    return sys.stdin.read().strip() if prompt == "-" else prompt


def parse_sets(pairs: Sequence[str]) -> dict[str, object]:
    """Read `NAME=VALUE` pairs; a value is JSON if it can be read as JSON, else text."""
    fields: dict[str, object] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise ConfigurationError(f"--set {pair}: give NAME=VALUE")
        try:
            fields[name] = json.loads(text)
        except ValueError:
            fields[name] = text
        except RecursionError:
            raise ConfigurationError(f"--set {name}: it is nested too deep to be read") from None
    return fields


def parse_amount(option: str, text: str) -> Decimal:
    """Read an amount in USD, with or without a dollar sign."""
    try:
        amount = Decimal(text.strip().removeprefix("$"))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not (amount.is_finite() and 0 <= amount < _MOST):
        raise ConfigurationError(f"{option} {text}: give an amount in USD, such as 0.25")
    return amount


def parse_prices(pairs: Sequence[str]) -> Mapping[str, Decimal]:
    """Read `MODEL=USD` pairs: what a task of a model without a documented price costs."""
    prices: dict[str, Decimal] = {}
    for pair in pairs:
        model, equals, amount = pair.partition("=")
        model = model.strip()
        if not equals or not model:
            raise ConfigurationError(f"--price {pair}: give MODEL=USD, such as sora-2=0.25")
        if model in DOCUMENTED:
            raise ConfigurationError(
                f"--price {pair}: the prices of {model} are known, see: apixo models {model}"
            )
        prices[model] = parse_amount(f"--price {model}", amount)
    return prices


def make_input(model: str, fields: Mapping[str, object]) -> InputWithDoubts:
    """Build the input of a model, and find what may be a mistake in it, but for the model's name.

    Raises:
        ConfigurationError: The model's name cannot be one, or a value is not JSON.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        try:
            made = from_dict(model, fields)
        except ValidationError:
            raise
        except ValueError as exc:
            raise ConfigurationError(str(exc)) from exc
    doubts = (str(warning.message) for warning in caught)
    return InputWithDoubts(made, tuple(doubt for doubt in doubts if not doubt.startswith("model:")))


def build_input(
    model: str, fields: Mapping[str, object], screen: Screen, *, yes_unknown_model: bool = False
) -> Input:
    """Build the input of a model as `make_input` does, and print what may be a mistake in it.

    Raises:
        ConfigurationError: As `make_input` does; or the model's name looks misspelt.
    """
    if not yes_unknown_model and (near := misspelt(model)):
        raise ConfigurationError(f"{model}: {near}")
    made = make_input(model, fields)
    for doubt in made.doubts:
        screen.warning(doubt)
    return made.input


def value_of(model: str, name: str, cell: str) -> object:
    """Return what a cell means for a field: the text itself if the field takes text.

    A list is a JSON array, or URLs with white space between them. For a model that is not
    documented, prompts are text, `..._urls` are lists, and the rest is JSON if it can be read so.

    Raises:
        ConfigurationError: A list is broken JSON.
    """
    if name.lower().endswith("prompt"):  # negative_prompt, videoPrompt: one may look like a number.
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
        return json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        return text


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and the infinities, which Python's reader of JSON takes."""
    raise ValueError(f"{name} is no JSON")
