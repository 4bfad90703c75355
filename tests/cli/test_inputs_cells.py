"""Cells of a CSV file become what their fields take."""

from __future__ import annotations

import pytest

from apixo_async import ConfigurationError
from apixo_async._cli.inputs import value_of


@pytest.mark.parametrize(
    ("model", "name", "cell", "value"),
    [
        ("gpt-image-1", "prompt", " 12 ", " 12 "),
        ("gpt-image-1", "num_images", " 2 ", 2),
        ("gpt-image-1", "num_images", "two", "two"),
        ("gpt-image-1", "aspect_ratio", " 3:2 ", "3:2"),
        ("gpt-image-1", "colour", "1", "1"),
        ("gpt-image-1", "image_urls", "http://a/b", ["http://a/b"]),
        ("gpt-image-1", "image_urls", " http://a/b\nhttp://c/d ", ["http://a/b", "http://c/d"]),
        ("gpt-image-1", "image_urls", '["http://a/b, c", "d"]', ["http://a/b, c", "d"]),
        ("flux-kontext", "safety_tolerance", "2", 2),
        ("flux-kontext", "safetyTolerance", "2", 2),
        ("flux-kontext", "promptUpsampling", "TRUE", True),
        ("flux-kontext", "enable_translation", "false", False),
        ("flux-kontext", "watermark", "False", False),
        ("flux-kontext", "watermark", "12", "12"),
        ("sora-2", "negative_prompt", "7", "7"),
        ("sora-2", "videoPrompt", "true", "true"),
        ("sora-2", "seconds", "8", 8),
        ("sora-2", "ratio", "16:9", "16:9"),
        ("sora-2", "loop", "TRUE", True),
        ("sora-2", "seed", "NaN", "NaN"),
        ("sora-2", "zip", "007", "007"),
        ("sora-2", "title", '"2024"', "2024"),
        ("sora-2", "points", "[1, 2]", [1, 2]),
        ("sora-2", "deep", "[" * 200_000, "[" * 200_000),
        ("sora-2", "image_urls", "http://a/b", ["http://a/b"]),
        ("sora-2", "imageUrls", "http://a/b c", ["http://a/b", "c"]),
        ("sora-2", "image_url", "http://a/b", "http://a/b"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_cell_means_what_its_field_takes(model: str, name: str, cell: str, value: object) -> None:
    """Prompts stay text, numbers and bools become such where the field takes them."""
    found = value_of(model, name, cell)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("cell", ["[http://a/b]", '["a"', "[" * 200_000])
def test_a_broken_list_is_refused(cell: str) -> None:
    """What begins as a JSON array must be one."""
    with pytest.raises(ConfigurationError, match=r"image_urls: .* a list is a JSON array, or URLs"):
        value_of("gpt-image-1", "image_urls", cell)
