"""Types come from the first bytes, and a file that was cut is never taken for whole."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from apixo_async._media import ERROR_PAGE, HEAD, SURE, UNKNOWN, Media, identify


def picture(kind: str) -> bytes:
    """Return a real image."""
    buffer = io.BytesIO()
    Image.effect_noise((24, 16), 60).save(buffer, kind)
    return buffer.getvalue()


def box(kind: bytes, content: bytes = b"") -> bytes:
    """Return a box of an ISO base media file."""
    return struct.pack(">I", 8 + len(content)) + kind + content


def film(brand: bytes, *others: bytes, index: bytes = b"moov") -> bytes:
    """Return a file of boxes: type, frames, index."""
    head = box(b"ftyp", brand + bytes(4) + b"".join(others))
    return head + box(b"mdat", b"frames" * 9) + box(index, b"index")


def still(brand: bytes, *others: bytes) -> bytes:
    """Return a file of boxes with the index of an image."""
    return film(brand, *others, index=b"meta")


def wave(length: int | None = None) -> bytes:
    """Return a RIFF file of sound, with the length that its head claims."""
    rest = b"WAVEfmt " + bytes(40)
    return b"RIFF" + struct.pack("<I", len(rest) if length is None else length) + rest


def seen(content: bytes) -> Media:
    """Identify a file as the download does, by its head alone."""
    return identify(content[:HEAD])


def is_whole(content: bytes, media: Media | None = None) -> bool:
    """Say whether a file is whole by its own type, or by the one given."""
    media = media or seen(content)
    return media.whole(len(content), lambda offset, size: content[offset : offset + size])


MARKED = {
    "png": picture("PNG"),
    "jpg": picture("JPEG"),
    "webp": picture("WEBP"),
    "gif": picture("GIF"),
    "avif": still(b"avif", b"mif1", b"miaf"),
    "heic": still(b"heic", b"mif1"),
    "mov": film(b"qt  "),
    "m4a": film(b"M4A "),
    "mp4": film(b"isom", b"iso2", b"mp41"),
    "wav": wave(),
    "svg": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"></svg>\n',
    "json": b'{"frames": []}',
}
UNMARKED = {
    "webm": b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm",
    "mkv": b"\x1aE\xdf\xa3\xa3B\x86\x81\x01B\x82\x88matroska",
    "mp3": b"ID3\x04" + bytes(9),
    "aac": b"\xff\xf1\x50\x80",
    "ogg": b"OggS" + bytes(9),
    "flac": b"fLaC" + bytes(9),
    "bin": b"Service Unavailable",
}


@pytest.mark.parametrize(("extension", "content"), [*MARKED.items(), *UNMARKED.items()])
def test_the_first_bytes_tell_the_type(extension: str, content: bytes) -> None:
    """Each type is known by its bytes, and a whole file of it is whole."""
    assert seen(content).extension == extension
    assert is_whole(content)


@pytest.mark.parametrize(
    ("extension", "content"),
    [
        ("avif", still(b"mif1", b"miaf", b"avif")),
        ("heic", still(b"mif1", b"heic")),
        ("mp3", b"\xff\xfb\x90\x64"),
        ("json", b" [1, 2]"),
        ("svg", b"\xef\xbb\xbf<!-- drawn --><SVG></SVG>"),
        ("svg", b"<svg/>"),
    ],
)
def test_types_have_more_than_one_beginning(extension: str, content: bytes) -> None:
    """A compatible brand, a bare frame, a list or a comment in front tell the type as well."""
    assert seen(content).extension == extension


@pytest.mark.parametrize(("extension", "content"), MARKED.items())
def test_a_cut_file_is_never_whole(extension: str, content: bytes) -> None:
    """No prefix of a file whose type has an end mark is whole."""
    assert extension in SURE
    media, end = seen(content), len(content.rstrip())
    assert [size for size in range(end) if is_whole(content[:size], media)] == []


@pytest.mark.parametrize(("extension", "content"), UNMARKED.items())
def test_a_type_without_an_end_mark_is_taken_as_it_comes(extension: str, content: bytes) -> None:
    """A file whose type has no end mark is whole as soon as there is a byte of it."""
    assert extension not in SURE
    media = seen(content)
    assert is_whole(content[:-1], media)
    assert not is_whole(b"", media)


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>",
        b"\n\n  <HTML><body><svg></svg></body></HTML>",
        b"\xef\xbb\xbf<h1>Service Unavailable</h1>",
        b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchKey</Code></Error>',
        b'{"code": 500, "message": "internal error", "data": null}',
        b'{\n  "error": "not ready"\n}',
    ],
)
def test_error_pages_are_known(content: bytes) -> None:
    """HTML, XML errors and the API's own envelope are what gateways answer instead of a file."""
    assert identify(content) is ERROR_PAGE


def test_an_empty_file_is_of_no_type_and_never_whole() -> None:
    """Nothing is not a file."""
    assert identify(b"") is UNKNOWN
    assert not is_whole(b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_padding_behind_the_end_is_tolerated(kind: str) -> None:
    """Zeros behind the end mark, as some stores and writers leave them, do no harm."""
    assert is_whole(picture(kind) + bytes(512))


def test_padding_behind_boxes_is_tolerated() -> None:
    """Zeros behind the last box do no harm, unless they may be the length of a box that was cut."""
    assert not is_whole(film(b"isom") + bytes(3))
    assert is_whole(film(b"isom") + bytes(4))
    assert is_whole(film(b"isom") + bytes(300))


def test_notes_behind_a_jpeg_are_tolerated() -> None:
    """What a camera or an editor appends to a JPEG does not hide its end."""
    assert is_whole(picture("JPEG") + b"SEFT" * 100)


def test_the_end_of_a_thumbnail_is_not_the_end_of_its_jpeg() -> None:
    """An end mark in a segment before the first scan does not count."""
    image = picture("JPEG")
    segment = b"Exif\0\0" + picture("JPEG")
    whole = b"\xff\xd8\xff\xff\xe1" + struct.pack(">H", 2 + len(segment)) + segment + image[2:]
    assert is_whole(whole)
    assert not is_whole(whole[:-2])
    assert not is_whole(whole[: 7 + len(segment)])


def test_a_jpeg_of_endless_segments_ends_the_walk() -> None:
    """Segments of no length at all are not followed for ever."""
    assert not is_whole(b"\xff\xd8" + b"\xff\xe1\x00\x02" * 30_000)
    assert not is_whole(b"\xff\xd8" + b"\xff\xe1\x00\x00" * 30_000)


def test_a_film_cut_between_two_boxes_is_not_whole() -> None:
    """Boxes that fit but lack the index do not make a film."""
    assert not is_whole(box(b"ftyp", b"isom" + bytes(4)))
    assert not is_whole(box(b"ftyp", b"isom" + bytes(4)) + box(b"mdat", b"frames"))
    assert not is_whole(box(b"ftyp", b"isom" + bytes(4)) + box(b"moov", b"index"))


def test_long_and_open_boxes_are_understood() -> None:
    """A box may have a length of 64 bits, or reach to the end of the file."""
    start = film(b"isom")
    long = struct.pack(">I", 1) + b"mdat" + struct.pack(">Q", 16 + 5) + b"12345"
    assert is_whole(start + long)
    assert not is_whole((start + long)[:-1])
    assert is_whole(start + bytes(4) + b"mdat" + b"12345")


@pytest.mark.parametrize("length", [b"\0\0\0\x01", b"\0\0\0\x07"])
def test_a_box_of_an_impossible_length_is_no_film(length: bytes) -> None:
    """A box that is shorter than its own head ends the walk, and the file is not whole."""
    assert not is_whole(film(b"isom") + length + b"mdat")


def test_a_film_of_endless_boxes_ends_the_walk() -> None:
    """Empty boxes are not followed for ever."""
    assert is_whole(film(b"isom") + box(b"free") * 20_000)


def test_sound_written_to_a_pipe_is_taken_as_it_comes() -> None:
    """A RIFF file whose writer could not know its length has no end mark."""
    assert is_whole(wave(0xFFFF_FFFF))
    assert not is_whole(wave(0xFFFF_FFFE))
