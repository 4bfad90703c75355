"""Fields become an input, from the words of a command line."""

from __future__ import annotations

import io

import pytest
from pydantic import ValidationError

from apixo_async import ConfigurationError, FluxKontext, GptImage1, OtherModel
from apixo_async._cli.console import Screen
from apixo_async._cli.inputs import build_input, make_input, parse_sets, read_prompt


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("n=4", 4),
        ("n=true", True),
        ("n=null", None),
        ("n=1.5", 1.5),
        ('n=["a","b"]', ["a", "b"]),
        ('n="4"', "4"),
        ("n=1k", "1k"),
        ("n=a=b", "a=b"),
        ("n=", ""),
    ],
)
def test_a_value_is_json_where_it_is_json(pair: str, value: object) -> None:
    """`--set NAME=VALUE` reads numbers, booleans and lists as such, and all else as text."""
    assert parse_sets([pair]) == {"n": value}


@pytest.mark.parametrize("pair", ["seconds", "=1"])
def test_a_pair_has_a_name_and_a_value(pair: str) -> None:
    """What is no pair is refused, and shown."""
    with pytest.raises(ConfigurationError, match=f"--set {pair}: give NAME=VALUE"):
        parse_sets([pair])


def test_the_prompt_can_come_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt of `-` is read from stdin, without the line's end."""
    monkeypatch.setattr("sys.stdin", io.StringIO("a fox\nin the snow\n"))
    assert read_prompt("-") == "a fox\nin the snow"
    assert read_prompt("--") == "--"


def test_required_fields_are_filled_in_and_can_be_given() -> None:
    """What the documents require has a default here, which any option overrides."""
    made = build_input("gpt-image-1", {"prompt": "x", "num_images": 2}, Screen())
    assert made == GptImage1(prompt="x", aspect_ratio="1:1", num_images=2)


def test_a_misspelt_model_is_not_bought_unasked() -> None:
    """A name that looks like a documented model's is refused, unless it is said to be right."""
    with pytest.raises(ConfigurationError, match="gpt-imge-2: did you mean gpt-image-2"):
        build_input("gpt-imge-2", {"prompt": "x"}, Screen())
    made = build_input("gpt-imge-2", {"prompt": "x"}, Screen(), yes_unknown_model=True)
    assert made.model == "gpt-imge-2"


def test_other_models_get_exactly_what_is_given() -> None:
    """A model without a page is given no default, and its fields stay in their order."""
    made = build_input("sora-2", {"prompt": "x", "seconds": 8}, Screen())
    assert made == OtherModel("sora-2", prompt="x", seconds=8)
    assert list(made.payload()) == ["prompt", "seconds"]


def test_a_doubtful_value_warns_once(capsys: pytest.CaptureFixture[str]) -> None:
    """What only other pages bound is sent, with one line of warning."""
    made = build_input("flux-kontext", {"prompt": "x", "aspect_ratio": "5:4"}, Screen())
    assert made.payload()["aspect_ratio"] == "5:4"
    assert isinstance(made, FluxKontext)
    err = capsys.readouterr().err
    assert err.startswith("apixo: warning: aspect_ratio: '5:4'")
    assert err.count("\n") == 1


def test_wrong_fields_are_refused() -> None:
    """A wrong field of a documented model is pydantic's error, a wrong name a configuration's."""
    with pytest.raises(ValidationError):
        build_input("gpt-image-1", {"prompt": ""}, Screen())
    with pytest.raises(ConfigurationError, match="letters"):
        build_input("../etc", {"prompt": "x"}, Screen())


@pytest.mark.parametrize("levels", [200, 5_000, 100_000])
def test_a_value_that_is_nested_too_deep_is_an_error_of_usage(levels: int) -> None:
    """No depth of a value is a defect of the command: the error names the field."""
    pair = f"n={'[' * levels}{']' * levels}"
    with pytest.raises(ConfigurationError, match=r"n.*nested"):
        make_input("sora-2", parse_sets([pair]))
    with pytest.raises(ConfigurationError, match=r"n.*nested"):
        parse_sets(["n=" + '{"a":' * 100_000])
