"""What only other pages of the API bound passes with a warning at the caller's line."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from apixo_async.inputs import (
    FluxKontext,
    GptImage1,
    GptImage2,
    Input,
    InputWarning,
    OtherModel,
    from_dict,
)

URL = "https://example.com/ref.jpg"
BASE: dict[str, dict[str, Any]] = {
    "gpt-image-1": {"prompt": "x", "aspect_ratio": "1:1", "num_images": 1},
    "gpt-image-2": {"prompt": "x"},
    "flux-kontext": {"mode": "pro", "prompt": "x"},
}
ELSEWHERE: list[tuple[str, dict[str, Any], str]] = [
    ("flux-kontext", {"prompt": ""}, "prompt: 0 characters given; .* allow 1 to 10,000"),
    ("flux-kontext", {"prompt": "x" * 10_001}, "prompt: 10001 characters given; .* 1 to 10,000"),
    ("flux-kontext", {"aspect_ratio": "5:4"}, "aspect_ratio: '5:4' given; .* 1:1, 4:3, .* 21:9"),
    ("flux-kontext", {"image_urls": [URL] * 2}, "image_urls: 2 URLs given; .* allow one"),
    ("flux-kontext", {"safety_tolerance": 3}, "safety_tolerance: 3 given; .* allow 0 to 2"),
    ("flux-kontext", {"safetyTolerance": -1}, "safety_tolerance: -1 given; .* allow 0 to 2"),
    ("gpt-image-2", {"mode": "text-to-image", "image_urls": [URL]}, "image-to-image only"),
    *[
        (model, {"image_urls": [f"http://{host}/x.png"]}, "is not a public host")
        for model in BASE
        for host in ("localhost", "cat.localhost:8000", "127.0.0.1", "10.1.2.3", "[::1]")
    ],
]


@pytest.mark.parametrize(
    ("model", "fields", "words"),
    ELSEWHERE,
    ids=[f"{row[0]}-{str(row[1])[:40]}" for row in ELSEWHERE],
)
def test_it_passes_with_a_warning(model: str, fields: dict[str, Any], words: str) -> None:
    """The value goes over the wire; the warning names field, value and what pages allow."""
    with pytest.warns(InputWarning, match=words) as caught:
        made = from_dict(model, BASE[model] | fields)
    assert len(caught) == 1
    (value,) = (value for name, value in fields.items() if name != "mode")
    assert value in made.payload().values()
    assert len(str(caught[0].message)) < 500


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "[2606:4700::1111]", "example.com", "localhost.example.com"]
)
def test_public_hosts(host: str) -> None:
    """A reference image on a public host is no matter for a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert GptImage1(
            **BASE["gpt-image-1"], image_urls=(f"https://{host}:443/x.png",)
        ).image_urls


def test_other_models_never_warn() -> None:
    """Nothing of a model that nobody documents is bounded."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = OtherModel("flux-kontext", prompt="", image_urls=["http://localhost/x"])
    assert made.payload() == {"prompt": "", "image_urls": ["http://localhost/x"]}


def test_the_slightest_and_the_most() -> None:
    """A value may break several bounds; each is warned of."""
    with pytest.warns(InputWarning) as caught:
        FluxKontext(mode="pro", prompt="", aspect_ratio="x" * 9_999, safety_tolerance=9)
    assert [str(one.message).partition(":")[0] for one in caught] == [
        *("prompt", "aspect_ratio"),
        "safety_tolerance",
    ]
    assert max(len(str(one.message)) for one in caught) < 500


def subclassed() -> Input:
    """Build an input of a caller's own class."""

    class Mine(FluxKontext):
        """A caller's own defaults."""

        mode: Any = "pro"

    return Mine(prompt="")


private = ("http://localhost/x.png",)
WAYS: dict[str, Callable[[], object]] = {
    "flux": lambda: FluxKontext(mode="pro", prompt=""),
    "gpt-image-1": lambda: GptImage1(**BASE["gpt-image-1"], image_urls=private),
    "gpt-image-2": lambda: GptImage2(prompt="x", mode="text-to-image", image_urls=(URL,)),
    "from_dict": lambda: from_dict("flux-kontext", {"mode": "pro", "prompt": ""}),
    "from_dict-urls": lambda: from_dict("gpt-image-2", {"prompt": "x", "image_urls": private}),
    "model_validate": lambda: FluxKontext.model_validate({"mode": "pro", "prompt": ""}),
    "json": lambda: FluxKontext.model_validate_json('{"mode": "pro", "prompt": ""}'),
    "subclass": subclassed,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_the_warning_points_at_the_caller(way: Callable[[], object]) -> None:
    """However an input is built, the warning shows the line that builds it."""
    with pytest.warns(InputWarning) as caught:
        way()
    lines, first = inspect.getsourcelines(way)
    assert [one.filename for one in caught] == [__file__]
    assert first <= caught[0].lineno < first + len(lines)


def test_a_warning_can_be_made_an_error() -> None:
    """Who wants other pages' bounds enforced turns the warning into an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        with pytest.raises(InputWarning, match="safety_tolerance: 7 given"):
            FluxKontext(mode="pro", prompt="x", safety_tolerance=7)
