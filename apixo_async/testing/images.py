"""Pictures for the results: real files of the right shape, different for every task."""

from __future__ import annotations

import colorsys
import io
import random
import textwrap
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL import Image

_COLUMNS = 44  # of the built-in font on 256 pixels
_LINES = 3
MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


def size_of(aspect_ratio: object, longest: int = 256) -> tuple[int, int]:
    """Return width and height of exactly this ratio, the longer at most ``longest`` pixels.

    What is no ``W:H`` of small whole numbers, such as ``auto``, counts as ``1:1``.
    """
    parts = aspect_ratio.split(":") if isinstance(aspect_ratio, str) else []
    if len(parts) != 2 or not all(map(_is_small, parts)):
        return longest, longest
    width, height = map(int, parts)
    unit = max(1, longest // max(width, height))
    return width * unit, height * unit


def _is_small(part: str) -> bool:
    return part.isdecimal() and len(part) <= 2 and 0 < int(part) <= 64


def draw(
    seed: str,
    text: str,
    size: tuple[int, int],
    file_type: Literal["png", "jpeg", "webp"],
) -> bytes:
    """Return an image file: a gradient with circles, coloured by ``seed``, and some of ``text``.

    Raises:
        RuntimeError: Pillow is missing; the message names the extra that brings it.
    """
    image = _picture(random.Random(seed), size)
    _write(image, text)
    target = io.BytesIO()
    image.save(target, file_type.upper(), quality=85)
    return target.getvalue()


def _picture(source: random.Random, size: tuple[int, int]) -> Image.Image:
    try:
        from PIL import Image, ImageDraw, ImageOps
    except ImportError as exc:
        message = "result images need Pillow: pip install 'apixo-async[simulator]'"
        raise RuntimeError(message) from exc
    hue = source.random()
    ramp = Image.linear_gradient("L").rotate(source.choice((0, 90, 180, 270)))
    ramp = ImageOps.fit(ramp, size)
    image = ImageOps.colorize(ramp, _colour(hue, 0.75, 0.30), _colour(hue + 0.12, 0.55, 0.95))
    brush = ImageDraw.Draw(image, "RGBA")
    for _ in range(source.randint(3, 6)):
        radius = source.uniform(0.08, 0.3) * min(size)
        x, y = source.uniform(0, size[0]), source.uniform(0, size[1] * 0.8)
        fill = (*_colour(hue + source.uniform(-0.2, 0.5), 0.6, 0.95), 96)
        brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    return image


def _write(image: Image.Image, text: str) -> None:
    from PIL import ImageDraw

    # The bitmap font of a Pillow without FreeType knows Latin-1 only.
    plain = text.encode("latin-1", "replace").decode("latin-1")
    columns = max(8, image.width * _COLUMNS // 256)
    lines = textwrap.wrap(plain, columns, max_lines=_LINES, placeholder=" ...")
    if not lines:
        return
    height = 13 * len(lines) + 8
    brush = ImageDraw.Draw(image, "RGBA")
    brush.rectangle((0, image.height - height, image.width, image.height), fill=(0, 0, 0, 150))
    brush.multiline_text((7, image.height - height + 3), "\n".join(lines), fill="white", spacing=2)


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
