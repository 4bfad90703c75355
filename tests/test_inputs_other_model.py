"""The input of any model passes through untouched, in the order given."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async.inputs import InputWarning, OtherModel, check_model_name

FIELDS = {"mode": "text-to-video", "prompt": "a 🏰", "n": 1, "cfg": 7.0, "urls": ["x"], "on": True}
VIDEO = OtherModel("sora-2", **FIELDS)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False).filter(lambda number: abs(number) < float("inf")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None, database=None)
@given(st.dictionaries(st.text(), values, max_size=6))
def test_whatever_json_holds_passes_through(fields: dict[str, object]) -> None:
    """Names, order, nesting and the types of numbers are those that were given."""
    made = OtherModel("sora-2", **fields)
    # Texts tell 1 from 1.0 and from true, and one order from another.
    assert json.dumps(made.payload()) == json.dumps(fields)
    for twin in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert twin == made
        assert hash(twin) == hash(made)
        assert json.dumps(twin.payload()) == json.dumps(fields)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"a-b": 1, "class": 2, "": 3},
        {"model": "x", "self": "y", "fields": "z", "name": 0},
        {"n": 1, "x": 1.0, "big": 10**30, "tiny": 5e-324, "zero": -0.0},
        {"prompt": "x" * 1_000_000},
        {"z": {"y": [{"x": None}]}, "a": []},
        {"resolution": "1K", "nVariants": 2, "aspect": "16:9"},
    ],
    ids=lambda fields: ",".join(fields)[:20] or "none",
)
def test_nothing_is_checked(fields: dict[str, object]) -> None:
    """No name, number or text is too odd for a model that nobody documents."""
    assert json.dumps(OtherModel("m", **fields).payload()) == json.dumps(fields)


def test_a_payload_is_the_callers_own() -> None:
    """What is done to a payload, or to what was given, does not change the input."""
    given = {"urls": ["x"]}
    made = OtherModel("m", **given)
    given["urls"].append("y")
    made.payload()["urls"] = None
    assert made.payload() == {"urls": ["x"]}


def test_what_it_says_of_itself() -> None:
    """Such an input has a model and no price."""
    assert (VIDEO.model, VIDEO.price) == ("sora-2", None)
    assert repr(OtherModel("sora-2", n=1, prompt="x")) == "OtherModel('sora-2', n=1, prompt='x')"


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"prompt": "x"}, "m"),
        ({"prompt": "x", "seconds": 8, "mode": "pro"}, "m/mode=pro/seconds=8"),
        ({"resolution": "1K", "nVariants": 2, "aspect": "16:9"}, "m/resolution=1K/nVariants=2"),
        ({"size": "x" * 100}, f"m/size={'x' * 32}"),
    ],
    ids=["none", "two", "of others", "long"],
)
def test_what_drives_its_time(fields: dict[str, object], kind: str) -> None:
    """Mode, resolution, length and number make another kind of task; the prompt does not."""
    assert OtherModel("m", **fields).kind == kind


def test_equality() -> None:
    """Inputs are equal when model, fields, their order and their types are."""
    same = OtherModel("sora-2", **FIELDS)
    assert same == VIDEO
    assert {VIDEO: 1}[same] == 1
    others = [
        OtherModel("sora-3", **FIELDS),
        OtherModel("sora-2", **(FIELDS | {"n": 1.0})),
        OtherModel("sora-2", **(FIELDS | {"on": 1})),
        OtherModel("sora-2", **dict(reversed(FIELDS.items()))),
        "sora-2",
        None,
    ]
    assert VIDEO not in others


def test_it_is_frozen() -> None:
    """An input cannot be changed once it is made."""
    with pytest.raises(AttributeError, match="frozen: model cannot be set"):
        VIDEO.model = "x"
    with pytest.raises(AttributeError, match="frozen: news cannot be set"):
        VIDEO.news = 1
    with pytest.raises(AttributeError, match="frozen: model cannot be deleted"):
        del VIDEO.model


def nested(levels: int) -> list[Any]:
    """Return a list in a list, and so on, with marks in its texts that are none."""
    value: list[Any] = ["[{", '\\"[']
    for _ in range(levels - 1):
        value = [value, "["]
    return value


@pytest.mark.parametrize("levels", [101, 900, 100_000])
def test_what_is_nested_too_deeply(levels: int) -> None:
    """A value is refused that could not be written again where the stack is deeper."""
    with pytest.raises(ValueError, match="sora-2: 'odd': nested deeper than 100 levels"):
        OtherModel("sora-2", odd=nested(levels))
    with pytest.raises(ValueError, match="nested deeper"):
        OtherModel("sora-2", odd={"a": [{"b": nested(levels - 1)}]})


def test_what_is_nested_less_deeply() -> None:
    """A hundred levels are allowed, however many lists there are beside each other."""
    made = OtherModel("sora-2", deep=nested(100), wide=[[]] * 1_000, text="[" * 1_000)
    assert made.payload()["deep"] == nested(100)


def test_a_number_that_python_does_not_write() -> None:
    """An integer of more digits than Python writes is refused by its field's name."""
    with pytest.raises(ValueError, match="sora-2: odd: a int given"):
        OtherModel("sora-2", odd=10**5_000)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({1}, "set is not JSON serializable"),
        (b"x", "bytes is not JSON serializable"),
        (Decimal("0.1"), "Decimal is not JSON serializable"),
        (datetime(2026, 1, 1), "datetime is not JSON serializable"),  # noqa: DTZ001 - any will do
        (float("nan"), "Out of range float values are not JSON compliant"),
        (float("inf"), "Out of range float values are not JSON compliant"),
        ([{"deep": object}], "type is not JSON serializable"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_hold(value: object, reason: str) -> None:
    """Such a value is refused before anything is sent, by its field's name and its value."""
    with pytest.raises(ValueError, match=r"^sora-2: odd: .*allowed is what JSON holds") as caught:
        OtherModel("sora-2", fine=1, odd=value)
    assert reason in str(caught.value)
    assert repr(value)[:20] in str(caught.value)


def test_a_circle() -> None:
    """A value that holds itself is no JSON."""
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(ValueError, match=r"m: round: .*Circular"):
        OtherModel("m", round=circle)


def test_a_huge_value_makes_no_huge_message() -> None:
    """What is wrong is shown as far as a person would read."""
    with pytest.raises(ValueError, match="odd: ") as caught:
        OtherModel("m", odd=b"x" * 10_000_000)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    "name", ["sora-2", "happyHorse", "wan-2-6-video", "a", "9", "flux.2_x", "A" * 200]
)
def test_names(name: str) -> None:
    """A model's name is letters, digits, dashes, dots and underscores."""
    check_model_name(name)
    assert OtherModel(name).model == name


@pytest.mark.parametrize(
    "name",
    ["", " ", ".", "..", "-x", "_x", "a/b", "a b", "a?b", "a#b", "a%2Fb", "é", "sora-2\n", "a\0"],
    ids=ascii,
)
def test_names_that_could_not_stand_in_a_url(name: str) -> None:
    """Any other name is refused, and shown."""
    with pytest.raises(ValueError, match="a name is letters, digits") as caught:
        OtherModel(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", [None, 7, b"sora-2", ["sora-2"]], ids=repr)
def test_names_that_are_none(name: object) -> None:
    """A name is a str, nothing else."""
    with pytest.raises(TypeError, match="a model is named by a str such as 'sora-2'"):
        OtherModel(name)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("half", ["\ud83d", "a \udd25 b"])
@pytest.mark.parametrize("where", ["text", "deep", "name", "key"])
def test_half_a_character_is_refused(half: str, where: str) -> None:
    """What cannot be read at the service is not bought; the error names the field."""
    fields: dict[str, dict[str, object]] = {
        "text": {"prompt": half},
        "deep": {"prompt": ["x", {"y": half}]},
        "name": {f"prompt{half}": 1},
        "key": {"prompt": {half: 1}},
    }
    with pytest.raises(ValueError, match=r"sora-2: 'prompt.*half a character") as caught:
        OtherModel("sora-2", **fields[where])
    assert str(caught.value).isprintable()


def test_a_misspelt_name_warns_at_the_callers_line() -> None:
    """Any model can be bought, and the name of a documented one is not misspelt in silence."""
    with pytest.warns(InputWarning, match="'gpt-imge-2' given; did you mean 'gpt-image-2'") as seen:
        OtherModel("gpt-imge-2", prompt="x")
    assert seen[0].filename == __file__
    OtherModel("gpt-image-3", prompt="x")
