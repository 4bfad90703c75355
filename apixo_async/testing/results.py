"""The results of tasks: pictures of the right shape, videos and tones, as an object store has."""

from __future__ import annotations

import colorsys
import functools
import io
import random
import re
import textwrap
from collections import OrderedDict
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from apixo_async.testing.exchanges import Call, Reply
from apixo_async.testing.options import SimulatorOptions
from apixo_async.testing.submissions import FileType
from apixo_async.testing.tasks import SimulatedTask
from apixo_async.webhooks._served_files import part_of

if TYPE_CHECKING:
    from PIL import Image

_COLUMNS: Final = 44  # of the built-in font on 256 pixels
_LINES: Final = 3


_RATIO: Final = re.compile(r"(\d{1,2}):(\d{1,2})", re.ASCII)


def size_of(aspect_ratio: object, longest: int = 256) -> tuple[int, int]:
    """Return width and height of exactly this ratio, the longer at most ``longest`` pixels.

    What is no ``W:H`` of whole numbers from 1 to 64, such as ``auto``, counts as ``1:1``.
    """
    match = _RATIO.fullmatch(aspect_ratio) if isinstance(aspect_ratio, str) else None
    width, height = map(int, match.groups()) if match else (1, 1)
    if not (1 <= width <= 64 and 1 <= height <= 64):
        return longest, longest
    unit = max(1, longest // max(width, height))
    return width * unit, height * unit


def draw(seed: str, text: str, size: tuple[int, int], file_type: FileType) -> bytes:
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


_CACHED = 512  # files, of some 20 kB each
_MISSING: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code>'
    b"<Message>The specified key does not exist.</Message></Error>"
)


class Results:
    """Draw, keep and serve the files of tasks."""

    def __init__(self, options: SimulatorOptions) -> None:
        self._options = options
        self._files: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def reply(self, task: SimulatedTask | None, index: int, call: Call, now: float) -> Reply:
        """Return the answer to a request for one file of a task."""
        if task is None or task.state(now) != "success" or index >= len(task.file_types):
            return _missing(404)
        if now >= task.ends + self._options.result_lifetime:
            return _missing(self._options.expired_status)
        content, tag = self.content(task, index), f'"{task.id}-{index}"'
        headers = {
            "content-type": _content_type(task.file_types[index]),
            "etag": tag,
        }
        if not self._options.open_points.ranges:
            return Reply(200, content, headers)
        headers["accept-ranges"] = "bytes"
        asked = call.method == "GET" and call.headers.get("if-range", tag) == tag
        part = part_of(len(content), call.headers.get("range", "").lower() if asked else None)
        if part.content_range is not None:
            headers["content-range"] = part.content_range
        return Reply(part.status, content[part.start : part.start + part.length], headers)

    def content(self, task: SimulatedTask, index: int) -> bytes:
        """Return the bytes of a file, drawn at its first use."""
        file_type = task.file_types[index]
        if file_type in ("mp4", "mp3"):
            return _sample(f"sample.{file_type}")
        key = (task.id, index)
        found = self._files.get(key)
        if found is None:
            names = ("aspect_ratio", "aspect", "ratio")  # the last two are other models' spellings
            ratio = next((task.input[name] for name in names if name in task.input), None)
            size = size_of(ratio, self._options.longest_side)
            seed = f"{task.model}/{task.id}/{index}"
            found = self._files[key] = draw(seed, task.prompt, size, file_type)
        self._files.move_to_end(key)
        if len(self._files) > _CACHED:
            self._files.popitem(last=False)
        return found


@functools.cache
def _sample(name: str) -> bytes:
    """Return a video or a tone of one second: encoded once, and the same for every task."""
    return (files("apixo_async.testing") / name).read_bytes()


def _content_type(file_type: FileType) -> str:
    return {"mp4": "video/mp4", "mp3": "audio/mpeg"}.get(file_type, f"image/{file_type}")


def _missing(status: int) -> Reply:
    return Reply(status, _MISSING, {"content-type": "application/xml"})
