"""Fields given by words or rows become an input: `--set`, prompts from stdin, required defaults."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import ValidationError

from apixo_async import ConfigurationError, Input, InputWarning, from_dict
from apixo_async._cli.console import Screen
from apixo_async._cli.figures import DEFAULTS


class Made(NamedTuple):
    """An input, and what may be a mistake in it."""

    input: Input
    doubts: tuple[str, ...]


def read_prompt(prompt: str) -> str:
    """Return the prompt, read from stdin where it is given as `-`."""
    return sys.stdin.read().strip() if prompt == "-" else prompt


def parse_sets(pairs: Sequence[str]) -> dict[str, object]:
    """Read `NAME=VALUE` pairs; a value is JSON where it is JSON, else text.

    Raises:
        ConfigurationError: A pair has no name, or no `=`.
    """
    return dict(_parse_set(pair) for pair in pairs)


def _parse_set(pair: str) -> tuple[str, object]:
    name, equals, text = pair.partition("=")
    if not equals or not name:
        raise ConfigurationError(f"--set {pair}: give NAME=VALUE")
    try:
        return name, json.loads(text)
    except (ValueError, RecursionError):
        return name, text


def make(model: str, fields: Mapping[str, object]) -> Made:
    """Build the input of a model, its required fields filled in from `DEFAULTS`.

    Raises:
        pydantic.ValidationError: Fields of a documented model are wrong.
        ConfigurationError: The model's name cannot be one, or a value is not JSON.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        try:
            made = from_dict(model, {**DEFAULTS.get(model, {}), **fields})
        except ValidationError:
            raise
        except ValueError as exc:
            raise ConfigurationError(str(exc)) from exc
    return Made(made, tuple(str(warning.message) for warning in caught))


def build_input(model: str, fields: Mapping[str, object], screen: Screen) -> Input:
    """Build the input of a model as `make` does, and say what may be a mistake in it."""
    made = make(model, fields)
    for doubt in made.doubts:
        screen.warning(doubt)
    return made.input
