"""A raw row becomes a key and an input, or a problem that names field and value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async import FluxKontext, GptImage1, GptImage2, OtherModel
from apixo_async._cli.rows.rows import NO_DEFAULTS, Defaults, ParsedRow, Raw, row_of
from apixo_async._cli.rows.source import Format, Problem


def row(
    fields: dict[str, Any], defaults: Defaults = NO_DEFAULTS, form: Format = Format.JSONL
) -> ParsedRow | Problem:
    """Make a row of line 7."""
    return row_of(Raw(7, fields), form, defaults)


def why(fields: dict[str, Any], defaults: Defaults = NO_DEFAULTS) -> str:
    """Make a bad row, and return what is wrong with it."""
    problem = row(fields, defaults)
    assert isinstance(problem, Problem)
    assert problem.line == 7
    return problem.why


def test_a_row_says_everything_itself() -> None:
    """Model and key are the row's own, all else is the input's."""
    fields = {"prompt": "x", "model": "gpt-image-1", "num_images": 2, "key": "fox"}
    wanted = GptImage1(prompt="x", aspect_ratio="1:1", num_images=2)
    assert row(fields) == ParsedRow(7, "fox", wanted)


def test_defaults_fill_in_what_a_row_lacks() -> None:
    """The command line gives model and fields to rows without them, and a row wins."""
    defaults = Defaults("gpt-image-2", {"resolution": "4k", "prompt": "p"})
    assert row({}, defaults) == ParsedRow(7, None, GptImage2(prompt="p", resolution="4k"))
    own = {"prompt": "x", "resolution": "2k"}
    assert row(own, defaults) == ParsedRow(7, None, GptImage2(prompt="x", resolution="2k"))
    other = row({"model": "sora-2", "prompt": "x"}, defaults)
    assert other == ParsedRow(7, None, OtherModel("sora-2", resolution="4k", prompt="x"))


@pytest.mark.parametrize("given_as", ["safety_tolerance", "safetyTolerance"])
@pytest.mark.parametrize("default_as", ["safety_tolerance", "safetyTolerance"])
def test_a_row_wins_by_either_name(given_as: str, default_as: str) -> None:
    """A field has two names, and a default by one gives way to a row by the other."""
    defaults = Defaults("flux-kontext", {default_as: 1})
    wanted = FluxKontext(mode="pro", prompt="x", safety_tolerance=2)
    assert row({"prompt": "x", given_as: 2}, defaults) == ParsedRow(7, None, wanted)


def test_cells_are_decoded_for_their_model() -> None:
    """Rows of a CSV file are text until the model is known."""
    fields = {"prompt": "12", "num_images": "2", "model": " gpt-image-1 ", "key": "3"}
    wanted = GptImage1(prompt="12", aspect_ratio="1:1", num_images=2)
    assert row(fields, form=Format.CSV) == ParsedRow(7, "3", wanted)
    assert "num_images" in why(fields)


def test_a_doubtful_value_is_kept() -> None:
    """What only other pages bound is no problem: it is told with the row."""
    found = row({"model": "flux-kontext", "prompt": "x", "aspect_ratio": "5:4"})
    assert isinstance(found, ParsedRow)
    assert found.doubts[0].startswith("aspect_ratio: '5:4' given")


@pytest.mark.parametrize(("given_key", "key"), [("a", "a"), (" b ", "b"), (17, "17"), ("ü", "ü")])
def test_a_key_is_text(given_key: object, key: str) -> None:
    """Numbers of a database are keys as well."""
    found = row({"model": "sora-2", "key": given_key})
    assert isinstance(found, ParsedRow)
    assert found.key == key


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": "x"}, "model: is required, in the row or as --model"),
        ({"prompt": "x", "model": None}, "model: is required"),
        ({"prompt": "x", "model": 7}, "model: 7 given"),
        ({"prompt": "x", "model": "../etc"}, "a name is letters"),
        ({"model": "gpt-image-1"}, "prompt: is required"),
        ({"model": "gpt-image-1", "prompt": 5}, "prompt: "),
        ({"model": "gpt-image-1", "prompt": "x", "_kept": 1}, "_kept: 1 given"),
        ({"model": "gpt-image-1", "num_images": 3}, "num_images: input should be 1, 2 or 4"),
        ({"model": "sora-2", "Prompt": "x"}, "'Prompt': write it as 'prompt'"),
        ({"model": "sora-2", " key": "x"}, "write it as 'key'"),
        ({"model": "sora-2", "x": float("inf")}, "allowed is what JSON holds"),
        ({"model": "sora-2", "key": ""}, "key: '' given"),
        ({"model": "sora-2", "key": None}, "key: None given"),
        ({"model": "sora-2", "key": True}, "key: True given"),
        ({"model": "sora-2", "key": "a\nb"}, "no control characters"),
        ({"model": "sora-2", "key": "\ud800"}, "no control characters"),
    ],
    ids=str,
)
def test_a_bad_row_names_field_and_value(fields: dict[str, Any], words: str) -> None:
    """A problem says which field has which value, and what would do."""
    assert words in why(fields)


@pytest.mark.parametrize(
    ("model", "form", "unknown"),
    [
        ("gpt-image-2", Format.CSV, ("note", "Unnamed: 0")),
        ("gpt-image-2", Format.JSONL, ("note", "Unnamed: 0")),
        ("sora-2", Format.CSV, ("Unnamed: 0",)),
        ("sora-2", Format.JSONL, ()),
    ],
)
def test_what_is_no_field(model: str, form: Format, unknown: tuple[str, ...]) -> None:
    """A documented model has its fields, any other one what has a name; the rest is set aside."""
    fields = {"model": model, "prompt": "x", "note": "dusk", "Unnamed: 0": "7"}
    found = row(fields, NO_DEFAULTS, form)
    assert isinstance(found, ParsedRow)
    assert found.unknown == unknown
    assert not {*unknown} & found.input.payload().keys()


def test_what_is_ignored_or_kept_is_not_sent() -> None:
    """An ignored field is gone, a kept one stays beside the input; so does what was kept before."""
    defaults = Defaults("sora-2", ignore=frozenset({"id"}), keep=frozenset({"note", "none"}))
    fields = {"prompt": "x", "id": 7, "note": "dusk", "_failure": {"code": 1}, "_kept": {"a": 1}}
    found = row(fields, defaults)
    assert isinstance(found, ParsedRow)
    assert found.input.payload() == {"prompt": "x"}
    assert (found.kept, found.unknown) == ({"a": 1, "note": "dusk"}, ())


def test_two_faults_are_told_at_once() -> None:
    """A row that is wrong twice is mended once."""
    assert why({"model": "gpt-image-1", "prompt": "", "num_images": 3}).count(" given)") == 2


def test_a_deep_value_is_a_problem() -> None:
    """A value too deep for JSON is refused like any other."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert why({"model": "sora-2", "x": deep}) == "sora-2: 'x': nested deeper than 100 levels"


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())
NAMES = st.text() | st.sampled_from(["prompt", "model", "key", "num_images", "image_urls", "mode"])


@given(
    st.dictionaries(NAMES, VALUES),
    st.sampled_from([None, "gpt-image-1", "gpt-image-2", "flux-kontext", "sora-2"]),
    st.sampled_from([Format.JSONL, Format.CSV]),
)
def test_any_row_is_a_row_or_a_problem(
    fields: dict[str, Any], model: str | None, form: Format
) -> None:
    """Nothing that a row may hold is more than a problem in one line."""
    if form is Format.CSV:
        fields = {name: str(value) for name, value in fields.items()}
    found = row(fields, Defaults(model), form)
    assert found.line == 7
    if isinstance(found, Problem):
        assert found.why
        assert found.why.isprintable()
