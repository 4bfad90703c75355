"""Folders of small pictures of different sizes, made of nothing but bytes."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from pathlib import Path

SIZES = ((96, 96), (144, 96), (96, 144), (160, 90), (90, 160), (210, 90))


def png(width: int, height: int, number: int) -> bytes:
    """Return a picture: a gradient, in a colour of its number."""
    red, green, blue = (number * step % 160 for step in (37, 61, 83))
    lines = (
        b"\0" + bytes((red + x * 95 // width, green + y * 95 // height, blue)[channel]
                      for x in range(width) for channel in range(3))
        for y in range(height)
    )  # fmt: skip
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"".join(lines), 1)
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def fill(folder: Path, count: int) -> None:
    """Put pictures `1.png` and so on into a folder: thirty of them, under all these names."""
    folder.mkdir(parents=True)
    kept = folder.with_name(f"{folder.name}-kept")
    kept.mkdir()
    for number in range(30):
        path = kept / f"{number}.png"
        path.write_bytes(png(*SIZES[number % len(SIZES)], number))
    for number in range(1, count + 1):
        _same(kept / f"{number % 30}.png", folder / f"{number}.png")


def _same(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
