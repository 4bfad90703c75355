"""Images of files and bytes: what is taken, what is kept of them, and what a change means."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from apixo_async import LocalImage
from apixo_async._local_images import MOST_BYTES, chunks_of

from .support.pictures import png

PNG = png(8, 8, 1)
JPEG = b"\xff\xd8\xff\xe0" + bytes(20)
WEBP = b"RIFF\x10\x00\x00\x00WEBP" + bytes(20)


@pytest.mark.parametrize("content", [PNG, JPEG, WEBP], ids=["PNG", "JPEG", "WebP"])
def test_what_is_taken(tmp_path: Path, content: bytes) -> None:
    """JPG, PNG and WebP are known by their bytes, whatever a file is called."""
    path = tmp_path / "cat.txt"
    path.write_bytes(content)
    from_path, from_bytes = LocalImage.of(path), LocalImage.of(content)
    assert from_path == from_bytes
    assert hash(from_path) == hash(from_bytes)
    assert from_path.sha256 == hashlib.sha256(content).hexdigest()
    assert [b"".join(chunks_of(image.source)) for image in (from_path, from_bytes)] == [content] * 2
    assert str(from_path) == f"apixo-file:sha256:{from_path.sha256}"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"GIF89a" + bytes(9), ": GIF by its bytes; a reference image is a JPG, PNG or WebP"),
        (b"<html>", ": error page by its bytes"),
        (b"cat", ": file by its bytes"),
        (b"", "it is empty; 1 to 10,000,000 bytes"),
        (PNG + bytes(MOST_BYTES), "more than 10 MB; 1 to 10,000,000 bytes"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_not_taken(tmp_path: Path, content: bytes, why: str) -> None:
    """Anything else is refused, as bytes and as a file, and the error says what is allowed."""
    path = tmp_path / "cat.png"
    path.write_bytes(content)
    for source in (content, path):
        with pytest.raises(ValueError, match=why):
            LocalImage.of(source)


def test_the_largest_one() -> None:
    """10,000,000 bytes are allowed: the documents' 10 MB in the smaller reading."""
    assert LocalImage.of(PNG + bytes(MOST_BYTES - len(PNG)))


def test_what_is_no_file(tmp_path: Path) -> None:
    """A missing file, a folder and a pipe are refused at once."""
    os.mkfifo(tmp_path / "pipe")
    for name, why in [("none", "No such file"), ("", "this is no file"), ("pipe", "no file")]:
        with pytest.raises(ValueError, match=why):
            LocalImage.of(tmp_path / name)


def test_a_file_is_read_a_little_at_a_time(tmp_path: Path) -> None:
    """No more than 1 MiB of a file is in memory at once."""
    path = tmp_path / "cat.png"
    path.write_bytes(PNG + bytes(MOST_BYTES - len(PNG)))
    assert [len(chunk) for chunk in chunks_of(path)] == [1 << 20] * 9 + [MOST_BYTES - 9 * (1 << 20)]


def test_it_shows_no_bytes() -> None:
    """A repr has a size or a path, and the beginning of the digest."""
    assert repr(LocalImage.of(PNG)).startswith(f"LocalImage({len(PNG)} bytes, ")
