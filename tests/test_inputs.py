"""Inputs have the fields, bounds, defaults, wire names and prices that the documents give."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from apixo_async.inputs import DOCUMENTED, FluxKontext, GptImage1, GptImage2, from_dict

URL = "https://example.com/ref.jpg"
ONE: dict[str, Any] = {"prompt": "a cozy cafe", "aspect_ratio": "3:2", "num_images": 2}
TWO: dict[str, Any] = {"prompt": "a cozy cafe"}
FLUX: dict[str, Any] = {"mode": "pro", "prompt": "a castle"}
BASE = {"gpt-image-1": ONE, "gpt-image-2": TWO, "flux-kontext": FLUX}

#: What each model takes: model, field, values.
TAKEN: list[tuple[str, str, list[object]]] = [
    ("gpt-image-1", "mode", ["gpt-image-1"]),
    ("gpt-image-1", "prompt", ["x", "x" * 10_000, "城" * 10_000, "🏰" * 10_000, "\0"]),
    ("gpt-image-1", "aspect_ratio", ["1:1", "2:3", "3:2"]),
    ("gpt-image-1", "num_images", [1, 2, 4]),
    ("gpt-image-1", "image_urls", [[], (URL,), [URL] * 5]),
    ("gpt-image-2", "prompt", ["x", "x" * 20_000]),
    ("gpt-image-2", "image_urls", [[], [URL], [URL] * 16]),
    ("gpt-image-2", "aspect_ratio", ["auto", "1:1", "4:3", "3:4", "16:9", "9:16"]),
    ("gpt-image-2", "resolution", ["1k", "2k", "4k"]),
    ("gpt-image-2", "mode", ["text-to-image"]),
    ("flux-kontext", "mode", ["pro", "max"]),
    ("flux-kontext", "prompt", ["x", "x" * 10_000]),
    ("flux-kontext", "aspect_ratio", ["1:1", "4:3", "3:4", "9:16", "16:9", "21:9"]),
    ("flux-kontext", "image_urls", [[], [URL]]),
    ("flux-kontext", "output_format", ["jpeg", "png"]),
    ("flux-kontext", "safety_tolerance", [0, 1, 2]),
    ("flux-kontext", "prompt_upsampling", [True, False]),
    ("flux-kontext", "enable_translation", [True, False]),
    ("flux-kontext", "watermark", ["mine", "", True, False]),
]
WIRE_NAMES = {
    "safety_tolerance": "safetyTolerance",
    "prompt_upsampling": "promptUpsampling",
    "enable_translation": "enableTranslation",
}
#: What each model refuses: model, field, value, and what the error says of what is allowed.
BAD_TEXT = [(b"x", "valid string"), (7, "valid string"), (None, "valid string")]
BAD_URLS: list[tuple[object, str]] = [
    (URL, "give a list of URLs, such as [url]"),
    (None, "valid tuple"),
    (7, "valid tuple"),
    ([7], "valid string"),
    ([b"https://example.com/x"], "file by its bytes; a reference image is a JPG, PNG or WebP"),
    (b"https://example.com/x", "a bytes given; give a list"),
    (Path("cat.png"), "a Path given; give a list"),
    ([Path("no.png")], "'no.png': it cannot be read: No such file"),
    (["apixo-file:sha256:" + 64 * "a"], "give its Path or its bytes again"),
    ([""], "http(s):// URL"),
    (["ref.jpg"], "http(s):// URL"),
    (["file:///etc/passwd"], "http(s):// URL"),
    (["data:image/png;base64,iVBORw0KGgo="], "http(s):// URL"),
    (["https://"], "http(s):// URL"),
    (["https://[::1"], "Invalid IPv6 URL"),
    (["https://example.com/\ud800"], "surrogates"),
]
REFUSED: list[tuple[str, str, object, str]] = [
    ("gpt-image-1", "mode", "text-to-image", "'gpt-image-1'"),
    ("gpt-image-1", "prompt", "", "at least 1 character"),
    ("gpt-image-1", "prompt", "x" * 10_001, "at most 10000 characters"),
    ("gpt-image-1", "prompt", "\ud800", "unicode"),
    *[("gpt-image-1", "prompt", *bad) for bad in BAD_TEXT],
    *[("gpt-image-1", "aspect_ratio", bad, "'1:1', '2:3' or '3:2'") for bad in ("16:9", "", None)],
    *[("gpt-image-1", "num_images", bad, "1, 2 or 4") for bad in (0, 3, 5, -1, "1", 1.5, None)],
    *[("gpt-image-1", "num_images", bad, "1, 2 and 4") for bad in (True, False)],
    ("gpt-image-1", "image_urls", [URL] * 6, "at most 5 items"),
    *[("gpt-image-1", "image_urls", *bad) for bad in BAD_URLS],
    ("gpt-image-2", "mode", "edit", "'text-to-image' or 'image-to-image'"),
    ("gpt-image-2", "prompt", "", "at least 1 character"),
    ("gpt-image-2", "prompt", "x" * 20_001, "at most 20000 characters"),
    ("gpt-image-2", "prompt", "\udfff", "unicode"),
    *[("gpt-image-2", "prompt", *bad) for bad in BAD_TEXT],
    ("gpt-image-2", "image_urls", [URL] * 17, "at most 16 items"),
    *[("gpt-image-2", "image_urls", *bad) for bad in BAD_URLS],
    *[("gpt-image-2", "aspect_ratio", bad, "'auto', '1:1', '4:3'") for bad in ("21:9", None)],
    *[("gpt-image-2", "resolution", bad, "'1k', '2k' or '4k'") for bad in ("1K", "8k", 1, None)],
    *[("flux-kontext", "mode", bad, "'pro' or 'max'") for bad in ("dev", "PRO", None)],
    ("flux-kontext", "prompt", "\ud800", "surrogates"),
    *[("flux-kontext", "prompt", *bad) for bad in BAD_TEXT],
    ("flux-kontext", "aspect_ratio", 1, "valid string"),
    ("flux-kontext", "aspect_ratio", "\ud800", "surrogates"),
    *[("flux-kontext", "image_urls", *bad) for bad in BAD_URLS],
    *[("flux-kontext", "output_format", bad, "'jpeg' or 'png'") for bad in ("jpg", "webp", 1)],
    *[("flux-kontext", "safety_tolerance", bad, "valid integer") for bad in (True, "2", 1.0)],
    *[("flux-kontext", "prompt_upsampling", bad, "valid boolean") for bad in (1, "yes")],
    *[("flux-kontext", "enable_translation", bad, "valid boolean") for bad in (0, "true")],
    *[("flux-kontext", "watermark", bad, "valid string") for bad in (1, b"mine")],
]


def shown(value: object) -> str:
    """Return a short name of a test's value."""
    return ascii(value)[:24]


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [
        pytest.param(model, field, value, id=f"{model}-{field}-{shown(value)}")
        for model, field, values in TAKEN
        for value in values
    ],
)
def test_what_a_field_takes(model: str, field: str, value: Any) -> None:
    """A value within bounds is kept, and goes over the wire under the documents' name."""
    made = DOCUMENTED[model](**(BASE[model] | {field: value}))
    kept = tuple(value) if field == "image_urls" else value
    assert getattr(made, field) == kept
    sent = made.payload()
    name = WIRE_NAMES.get(field, field)
    if kept == ():
        assert name not in sent
    else:
        assert sent[name] == (list(kept) if field == "image_urls" else kept)
        assert type(sent[name]) is not tuple
    assert json.loads(json.dumps(sent)) == sent
    assert from_dict(model, BASE[model] | {name: value}) == made


@pytest.mark.parametrize(
    ("model", "field", "value", "allowed"),
    [pytest.param(*row, id=f"{row[0]}-{row[1]}-{shown(row[2])}") for row in REFUSED],
)
def test_what_a_field_refuses(model: str, field: str, value: object, allowed: str) -> None:
    """A value out of bounds is refused; the error names field and value, and what is allowed."""
    fields = BASE[model] | {field: value}
    ways: list[Callable[[], object]] = [
        partial(DOCUMENTED[model], **fields),
        partial(from_dict, model, fields),
    ]
    for build in ways:
        with pytest.raises(ValidationError) as caught:
            build()
        words = str(caught.value)
        assert len(words) < 2_000
        assert allowed in words
        (first, *_) = caught.value.errors()
        assert first["loc"][0] == field
        assert first["input"] in ([value, *value] if isinstance(value, list) else [value])


@pytest.mark.parametrize(
    ("model", "required"),
    [
        ("gpt-image-1", ["prompt"]),
        ("gpt-image-2", ["prompt"]),
        ("flux-kontext", ["prompt"]),
    ],
)
def test_required_fields(model: str, required: list[str]) -> None:
    """Without its required fields an input is refused, by their names; the rest has defaults."""
    with pytest.raises(ValidationError) as caught:
        from_dict(model, {})
    assert [error["loc"] for error in caught.value.errors()] == [(name,) for name in required]
    assert {error["type"] for error in caught.value.errors()} == {"missing"}
    made = from_dict(model, BASE[model])
    assert isinstance(made, BaseModel)
    assert set(required) <= made.model_fields_set


@pytest.mark.parametrize("name", ["n", "Prompt", "negative_prompt", "kind", "price"])
@pytest.mark.parametrize("model", BASE)
def test_unknown_fields(model: str, name: str) -> None:
    """A field that the model does not have is refused, not passed on and not dropped."""
    with pytest.raises(ValidationError, match=rf"{name}\n  Extra inputs are not permitted"):
        from_dict(model, BASE[model] | {name: 1})


def test_the_bodies_of_the_documents() -> None:
    """The documents' examples are built as they stand, defaults and order included."""
    one = GptImage1(prompt="a cozy cyberpunk cafe", aspect_ratio="3:2", num_images=2)
    assert json.dumps(one.payload()) == (
        '{"mode": "gpt-image-1", "prompt": "a cozy cyberpunk cafe", "aspect_ratio": "3:2", '
        '"num_images": 2}'
    )
    two = GptImage2(prompt="x")
    assert two.payload() == {
        "mode": "text-to-image",
        "prompt": "x",
        "aspect_ratio": "auto",
        "resolution": "1k",
    }
    flux = FluxKontext(
        mode="max",
        prompt="transform this into a watercolor painting",
        aspect_ratio="16:9",
        image_urls=("https://example.com/ref.jpg",),
        output_format="png",
        safety_tolerance=2,
    )
    assert flux.payload() == {
        "mode": "max",
        "prompt": "transform this into a watercolor painting",
        "aspect_ratio": "16:9",
        "image_urls": ["https://example.com/ref.jpg"],
        "output_format": "png",
        "safetyTolerance": 2,
    }
    assert FluxKontext(mode="pro", prompt="x").payload() == {"mode": "pro", "prompt": "x"}


@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        ({}, "text-to-image"),
        ({"image_urls": []}, "text-to-image"),
        ({"image_urls": [URL]}, "image-to-image"),
        ({"mode": None, "image_urls": [URL]}, "image-to-image"),
        ({"mode": None}, "text-to-image"),
        ({"mode": "image-to-image", "image_urls": [URL]}, "image-to-image"),
    ],
    ids=str,
)
def test_the_mode_follows_from_the_images(fields: dict[str, Any], mode: str) -> None:
    """The mode of gpt-image-2 is that of its images, unless it is given; what was given stays."""
    before = copy.deepcopy(fields)
    assert GptImage2(prompt="x", **fields).mode == mode
    assert from_dict("gpt-image-2", {"prompt": "x"} | fields).payload()["mode"] == mode
    assert fields == before


def test_a_mode_without_its_images() -> None:
    """Image-to-image without images is refused; the error names the field that is missing."""
    with pytest.raises(ValidationError, match=r"image_urls: \[\] given; .* takes 1 to 16 URLs"):
        GptImage2(prompt="x", mode="image-to-image")


@pytest.mark.parametrize(
    ("made", "price", "kind"),
    [
        (GptImage1(**(ONE | {"num_images": 1})), "0.35", "gpt-image-1/1"),
        (GptImage1(**(ONE | {"num_images": 2})), "0.70", "gpt-image-1/2"),
        (GptImage1(**(ONE | {"num_images": 4})), "1.40", "gpt-image-1/4"),
        (GptImage2(prompt="x"), "0.02", "gpt-image-2/1k"),
        (GptImage2(prompt="x", resolution="2k"), "0.03", "gpt-image-2/2k"),
        (GptImage2(prompt="x", resolution="4k"), "0.04", "gpt-image-2/4k"),
        (FluxKontext(mode="pro", prompt="x"), "0.03", "flux-kontext/pro"),
        (FluxKontext(mode="max", prompt="x"), "0.06", "flux-kontext/max"),
    ],
    ids=["1-image", "2-images", "4-images", "1k", "2k", "4k", "pro", "max"],
)
def test_prices(made: GptImage1 | GptImage2 | FluxKontext, price: str, kind: str) -> None:
    """A task costs what the documents say, by images, resolution or mode, exactly."""
    assert (made.price, made.kind) == (Decimal(price), kind)
    assert made.model == kind.partition("/")[0]


def test_given_images_make_another_kind() -> None:
    """A task with images to work on takes a time of its own."""
    url = "https://example.com/a.png"
    assert GptImage1(**(ONE | {"num_images": 2, "image_urls": [url]})).kind == "gpt-image-1/2/edit"
    assert GptImage2(prompt="x", image_urls=(url,)).kind == "gpt-image-2/1k/edit"
    assert FluxKontext(mode="max", prompt="x", image_urls=(url,)).kind == "flux-kontext/max/edit"


MADE = [GptImage1(**ONE), GptImage2(image_urls=(URL,), **TWO), FluxKontext(watermark="w", **FLUX)]
each_input = pytest.mark.parametrize("made", MADE, ids=lambda made: made.model)


@each_input
def test_inputs_are_values(made: GptImage1 | GptImage2 | FluxKontext) -> None:
    """An input cannot be changed, and is equal to its copies, pickles and dumps."""
    with pytest.raises(ValidationError, match="frozen"):
        made.prompt = "another"
    twins = [copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))]
    twins += [from_dict(made.model, made.payload()), type(made)(**made.model_dump())]
    for twin in twins:
        assert twin == made
        assert hash(twin) == hash(made)
    assert len({made, *twins}) == 1
