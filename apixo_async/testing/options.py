"""The options of a simulator, checked once; `Simulator` documents each of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

from apixo_async.testing.exchanges import MODEL_NAME
from apixo_async.testing.open_points import OpenPoints

DurationOf: TypeAlias = float | Callable[[str, dict[str, object], random.Random], float]
NoCredit: TypeAlias = Literal["402", "400"]

KEY: Final = "test-key"

#: Parts of the tasks that do not overlap.
_EXCLUSIVE: Final = ("lost_callbacks", "early_callbacks", "duplicate_callbacks")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorOptions:
    """The keywords of a `Simulator`, whose signature has their defaults, for its parts.

    Raises:
        ValueError: An option is out of its bounds.
    """

    seed: int
    speed: float
    key: str
    balance: Decimal
    keys: Mapping[str, Decimal] | None
    no_credit: NoCredit
    models: Collection[str] | None
    concurrent_tasks: int
    requests_per_minute: int
    retry_after: float | None
    durations: DurationOf | None
    failure_rate: float
    lost_callbacks: float
    early_callbacks: float
    duplicate_callbacks: float
    processing_callbacks: float
    callback_delay: float
    callback_spread: float
    fetch_images: bool
    result_lifetime: float
    expired_status: Literal[404, 410]
    longest_side: int
    keep_log: int | None
    clock: Callable[[], float] | None
    epoch: float | None
    open_points: OpenPoints

    def __post_init__(self) -> None:
        self._check("speed", "above 0", lambda value: value > 0)
        self._check("no_credit", "402 or 400", lambda value: value in ("402", "400"))
        for name in ("failure_rate", "processing_callbacks", *_EXCLUSIVE):
            self._check(name, "0 to 1", lambda value: 0 <= value <= 1)
        together = sum(getattr(self, name) for name in _EXCLUSIVE)
        if together > 1 + 1e-9:  # three times a third, in floats
            raise ValueError(f"{' + '.join(_EXCLUSIVE)}: {together:g} given; allowed is 0 to 1")
        for name in ("callback_delay", "callback_spread"):
            self._check(name, "0 or more", lambda value: value >= 0)
        for name in ("concurrent_tasks", "requests_per_minute"):
            self._check(name, "1 or more", lambda value: value >= 1)
        if self.models is not None:
            known_models(self.models)

    def _check(self, name: str, bounds: str, is_allowed: Callable[[Any], bool]) -> None:
        value = getattr(self, name)
        if not is_allowed(value):
            raise ValueError(f"{name}: {value} given; allowed is {bounds}")


def known_models(models: Collection[str]) -> frozenset[str]:
    """Return the names of models as a set.

    Raises:
        ValueError: A name could not stand in a path, or a single string was given.
    """
    if isinstance(models, str):
        raise ValueError(f"models: {models!r} given; allowed is a collection of names")
    for model in models:
        if not MODEL_NAME.fullmatch(model):
            raise ValueError(f"models: {model!r} given; allowed are names that stand in a path")
    return frozenset(models)
