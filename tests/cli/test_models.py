"""The documents' figures, as the command reads them from the inputs."""

from __future__ import annotations

from decimal import Decimal

import pytest

from apixo_async._cli.models import FieldBound, bounds, fields_of, misspelt, option_of, tiers
from apixo_async.inputs import DOCUMENTED, from_dict


@pytest.mark.parametrize("model", DOCUMENTED)
def test_the_defaults_leave_only_the_prompt_to_give(model: str) -> None:
    """Each documented model needs a prompt and nothing else, in Python and in the command."""
    made = from_dict(model, {"prompt": "x"})
    assert made.payload()["prompt"] == "x"


@pytest.mark.parametrize(
    ("model", "prices"),
    [
        ("gpt-image-1", {"num_images 1": "0.35", "num_images 2": "0.70", "num_images 4": "1.40"}),
        (
            "gpt-image-2",
            {"resolution 1k": "0.02", "resolution 2k": "0.03", "resolution 4k": "0.04"},
        ),
        ("flux-kontext", {"mode pro": "0.03", "mode max": "0.06"}),
    ],
)
def test_every_price_of_a_model_is_listed(model: str, prices: dict[str, str]) -> None:
    """Each choice that makes a price is a row with that price."""
    listed = {tier.option: tier.price for tier in tiers(model)}
    assert listed == {option: Decimal(price) for option, price in prices.items()}


def test_each_resolution_has_its_own_times() -> None:
    """The times of gpt-image-2 follow the resolution."""
    assert [(t.times.first, t.times.typical_high) for t in tiers("gpt-image-2")] == [
        (30, 120), (60, 180), (120, 240)
    ]  # fmt: skip


def test_a_model_without_a_page_has_a_guess() -> None:
    """Any other model is one row without a price, and without fields."""
    (tier,) = tiers("sora-2")
    assert (tier.option, tier.price, tier.times.first) == ("", None, 60)
    assert bounds("sora-2") == []


def test_the_bounds_of_a_model_are_read_from_its_class() -> None:
    """Choices, lengths, defaults and requirements are those of the input class."""
    assert bounds("gpt-image-1") == [
        FieldBound("prompt", "text of 1 to 10,000 characters", "required"),
        FieldBound("mode", "gpt-image-1", "gpt-image-1"),
        FieldBound("aspect_ratio", "1:1 | 2:3 | 3:2", "1:1"),
        FieldBound("num_images", "1 | 2 | 4", "1"),
        FieldBound("image_urls", "up to 5 URLs", ""),
    ]
    flux = {bound.name: bound for bound in bounds("flux-kontext")}
    assert flux["output_format"] == FieldBound("output_format", "jpeg | png", "")
    assert flux["safety_tolerance"].takes == "whole number"
    assert flux["watermark"].takes == "any text, true | false"
    assert flux["image_urls"].takes == "URLs"


def test_what_is_said_of_a_misspelt_name() -> None:
    """It names what may be meant, and how to buy it all the same."""
    said = "did you mean gpt-image-1 or gpt-image-2? If not, buy it with --yes-unknown-model"
    assert misspelt("gpt-image") == said
    assert misspelt("sora-2") is misspelt("gpt-image-2") is None


def test_the_option_of_an_input_is_that_of_its_price() -> None:
    """An input names the choice that makes its price as the list of prices does."""
    for model in DOCUMENTED:
        for tier in tiers(model):
            field, _, choice = tier.option.partition(" ")
            value = int(choice) if choice.isdigit() else choice
            made = from_dict(model, {"prompt": "x", field: value})
            assert option_of(made) == tier.option
    assert option_of(from_dict("sora-2", {})) == ""


@pytest.mark.parametrize("model", DOCUMENTED)
def test_the_types_of_all_fields_are_known(model: str) -> None:
    """Every field is there by the names of Python and of the wire, with a type at least."""
    types = fields_of(model)
    for name, field in DOCUMENTED[model].model_fields.items():
        assert types[name]
        assert types[field.serialization_alias or name] == types[name]
    assert types["prompt"] == {"string"}
