"""Options: their bounds, and the keywords of a simulator."""

from __future__ import annotations

import inspect
from decimal import Decimal
from typing import Any

import pytest

from apixo_async.testing import Simulator
from apixo_async.testing.open_points import OpenPoints
from apixo_async.testing.options import SimulatorOptions, known_models

OTHERS: dict[str, Any] = {
    "seed": 3,
    "speed": 2.0,
    "key": "k",
    "balance": Decimal(1),
    "keys": {"a": Decimal(1)},
    "no_credit": "400",
    "models": ("sora-2",),
    "concurrent_tasks": 2,
    "requests_per_minute": 3,
    "retry_after": 1.0,
    "durations": 5.0,
    "failure_rate": 0.1,
    "lost_callbacks": 0.2,
    "early_callbacks": 0.3,
    "duplicate_callbacks": 0.4,
    "processing_callbacks": 0.5,
    "callback_delay": 6.0,
    "callback_spread": 7.0,
    "fetch_images": True,
    "result_lifetime": 8.0,
    "expired_status": 410,
    "longest_side": 9,
    "keep_log": 10,
    "clock": float,
    "epoch": 11.0,
    "open_points": OpenPoints(cents=True),
}


def test_a_simulator_takes_its_options_as_keywords() -> None:
    """Both have the same names with the same types, and what is given arrives under its name."""
    taken, kept = (inspect.signature(one).parameters for one in (Simulator, SimulatorOptions))
    assert [*taken] == [*kept] == [*OTHERS]
    assert [one.annotation for one in taken.values()] == [one.annotation for one in kept.values()]
    given: dict[str, Any] = {name: one.default for name, one in taken.items()}
    assert Simulator().options == SimulatorOptions(**given)
    for name, other in OTHERS.items():
        assert Simulator(**{name: other}).options == SimulatorOptions(**given | {name: other})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"speed": 0.0}, "speed: 0.0 given; allowed is above 0"),
        ({"failure_rate": 1.1}, "failure_rate: 1.1 given; allowed is 0 to 1"),
        ({"concurrent_tasks": 0}, "concurrent_tasks: 0 given; allowed is 1 or more"),
        ({"requests_per_minute": 0}, "requests_per_minute: 0 given; allowed is 1 or more"),
        ({"lost_callbacks": -0.1}, r"lost_callbacks: -0\.1 given; allowed is 0 to 1"),
        ({"early_callbacks": 2}, "early_callbacks: 2 given; allowed is 0 to 1"),
        ({"duplicate_callbacks": float("nan")}, "duplicate_callbacks: nan given"),
        ({"processing_callbacks": 1.1}, r"processing_callbacks: 1\.1 given; allowed is 0 to 1"),
        (
            {"lost_callbacks": 0.5, "early_callbacks": 0.3, "duplicate_callbacks": 0.3},
            r"lost_callbacks \+ early_callbacks \+ duplicate_callbacks: 1\.1 given",
        ),
        ({"callback_delay": -1.0}, r"callback_delay: -1\.0 given; allowed is 0 or more"),
        ({"callback_spread": -1.0}, r"callback_spread: -1\.0 given; allowed is 0 or more"),
        ({"models": "sora-2"}, "models: 'sora-2' given; allowed is a collection of names"),
        ({"no_credit": "403"}, "no_credit: 403 given; allowed is 402 or 400"),
    ],
)
def test_an_option_out_of_bounds_is_refused(options: dict[str, Any], told: str) -> None:
    """A wrong option is an error that names it, its value and what is allowed."""
    with pytest.raises(ValueError, match=told):
        Simulator(**options)


def test_parts_may_add_up_to_all() -> None:
    """Three thirds are one, though their sum as floats may be a little more."""
    third = 0.33333333334
    Simulator(lost_callbacks=third, early_callbacks=third, duplicate_callbacks=third)


def test_known_models_are_names_that_stand_in_a_path() -> None:
    """A collection of names is taken once each; a text is no collection of names."""
    assert known_models(["sora-2", "happyHorse", "sora-2"]) == {"sora-2", "happyHorse"}
    assert known_models(()) == frozenset()
    for wrong in ("sora-2", ["sora-2", ""], ["a,b"], [" a"]):
        with pytest.raises(ValueError, match=r"models: .* given; allowed"):
            known_models(wrong)
