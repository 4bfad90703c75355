"""Images: real files, of exactly the right shape, different for every seed."""

from __future__ import annotations

import io
import sys
from typing import Literal

import pytest
from PIL import Image

from apixo_async.testing.results import draw, size_of


@pytest.mark.parametrize("ratio", ["1:1", "2:3", "3:2", "4:3", "3:4", "16:9", "9:16", "21:9"])
def test_a_size_has_exactly_the_ratio(ratio: str) -> None:
    """Every documented ratio is met to the pixel, the longer side nearly as long as allowed."""
    width, height = size_of(ratio, 256)
    wide, high = map(int, ratio.split(":"))
    assert width * high == height * wide
    assert 240 <= max(width, height) <= 256


@pytest.mark.parametrize(
    "ratio",
    [
        "auto",
        None,
        5,
        "a:b",
        "1:2:3",
        "0:1",
        "99:1",
        pytest.param("9" * 5000 + ":1", id="long"),
        "",
    ],
)
def test_what_is_no_ratio_is_a_square(ratio: object) -> None:
    """auto, nothing and nonsense count as 1:1."""
    assert size_of(ratio, 100) == (100, 100)


def test_a_size_is_never_nothing() -> None:
    """A ratio larger than the longest side still has pixels."""
    assert size_of("21:9", 8) == (21, 9)


@pytest.mark.parametrize("file_type", ["png", "jpeg", "webp"])
def test_files_are_real(file_type: Literal["png", "jpeg", "webp"]) -> None:
    """A file opens as what it says it is, whole and of the asked size."""
    content = draw("seed", "a cozy cyberpunk cafe " * 20, (120, 80), file_type)
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        assert (image.format, image.size) == (file_type.upper(), (120, 80))


def test_pictures_follow_seed_and_text() -> None:
    """The same seed and text make the same file; another of either makes another."""
    first = draw("1", "a", (64, 64), "png")
    assert draw("1", "a", (64, 64), "png") == first
    assert draw("2", "a", (64, 64), "png") != first
    assert draw("1", "b", (64, 64), "png") != first
    assert draw("1", "", (64, 64), "png") != first


def test_any_text_can_be_written() -> None:
    """Text that the font cannot show harms nothing."""
    assert draw("1", "日本 \u0000 \ud800".encode("utf-8", "replace").decode(), (64, 64), "png")


def test_without_pillow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing Pillow is a clear error that names what to install."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(RuntimeError, match=r"apixo-async\[simulator\]"):
        draw("1", "", (64, 64), "png")
