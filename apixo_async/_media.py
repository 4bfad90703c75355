"""A file's type by its first bytes, and whether it is whole by its last; names never count.

An extension in a URL and a Content-Type are what a server says; the bytes are what a viewer reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

#: How many first bytes `identify` takes.
HEAD: Final = 512

#: Last bytes in which an end mark is searched: some writers append padding or notes to it.
_TAIL: Final = 65_536

#: Segments or boxes that a walk passes at most, so that no hostile file occupies a thread.
_STEPS: Final = 10_000

#: Read bytes of a file: from an offset, at most a number of them.
Read: TypeAlias = Callable[[int, int], bytes]
Check: TypeAlias = Callable[[int, Read], bool]

#: By extension: the names that IANA has registered, or that browsers use.
_MEDIA_TYPES: Final = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "avif": "image/avif",
    "heic": "image/heic",
    "svg": "image/svg+xml",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "mkv": "video/x-matroska",
    "m4a": "audio/mp4",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "aac": "audio/aac",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
    "json": "application/json",
}


@dataclass(frozen=True, slots=True)
class Media:
    """A type of file.

    Attributes:
        name: What people call it.
        extension: What its files end in, without the dot.
        check: Returns True if a file of that size is whole; None where the type has no end mark.
    """

    name: str
    extension: str
    check: Check | None = None

    @property
    def media_type(self) -> str:
        """Its media type, as in a Content-Type."""
        return _MEDIA_TYPES.get(self.extension, "application/octet-stream")

    def whole(self, size: int, read: Read) -> bool:
        """Return True if a file of `size` bytes is whole, as far as its type shows that."""
        return size > 0 and (self.check is None or self.check(size, read))


def identify(head: bytes) -> Media:
    """Return the type of a file from its first `HEAD` bytes: `UNKNOWN` for one not in the table.

    `ERROR_PAGE` stands for what gateways answer in a file's place: HTML, XML, the API's envelope.
    """
    return next((media for pattern, media in _SIGNATURES if pattern.match(head)), UNKNOWN)


# --- ends ------------------------------------------------------------------------------------


def _tail(size: int, read: Read, start: int = 0) -> bytes:
    start = max(start, size - _TAIL)
    return read(start, max(0, size - start))


def _ends_with(mark: bytes) -> Check:
    def check(size: int, read: Read) -> bool:
        return _tail(size, read).rstrip(b"\0\t\r\n ").endswith(mark)

    return check


def _png(size: int, read: Read) -> bool:
    return b"IEND\xaeB`\x82" in _tail(size, read)


def _jpeg(size: int, read: Read) -> bool:
    # The end mark of a thumbnail stands in a segment before the first scan: it does not count.
    at = 2
    for _ in range(_STEPS):
        head = read(at, 4)
        if len(head) < 4 or head[0] != 0xFF or head[1] == 0xDA:
            break
        at += 1 if head[1] == 0xFF else 2 + int.from_bytes(head[2:], "big")
    return b"\xff\xd9" in _tail(size, read, at)


def _riff(size: int, read: Read) -> bool:
    length = int.from_bytes(read(4, 4), "little")
    return length == 0xFFFF_FFFF or 8 + length <= size  # All ones: it was written to a pipe.


def _boxes(*needed: bytes) -> Check:
    # A file that was cut exactly between two boxes lacks one of those that are needed.
    def check(size: int, read: Read) -> bool:
        at = 0
        missing = set(needed)
        for _ in range(_STEPS):
            if at >= size:
                break
            length, kind = _box(read(at, 16), size - at)
            missing.discard(kind)
            at += length
        return at <= size and not missing

    return check


def _box(head: bytes, rest: int) -> tuple[int, bytes]:
    if len(head) >= 4 and not head.strip(b"\0"):
        return rest, b""  # Padding; fewer zeros may be the beginning of a length.
    if len(head) < 8:
        return rest + 1, b""  # Its head is cut: the box would end after the file.
    length = int.from_bytes(head[:4], "big")
    if length == 1 and len(head) == 16:
        length = int.from_bytes(head[8:], "big")
    elif length == 0:
        length = rest  # The last box extends to the end of the file (ISO/IEC 14496-12, 4.2).
    return (length if length >= 8 else rest + 1), head[4:8]


# --- types -----------------------------------------------------------------------------------

UNKNOWN: Final = Media("file", "bin")
ERROR_PAGE: Final = Media("error page", "")

_film = _boxes(b"moov", b"mdat")
_still = _boxes(b"meta")  # Not `mdat`: a small image may keep its pixels in `meta`.
_TEXT = rb"(?i)(?:\xef\xbb\xbf)?\s*"
_FTYP = rb".{4}ftyp"
_COMPATIBLE = _FTYP + rb"(?:.{4}){0,8}?"  # Or one of the compatible brands.

_SIGNATURES: Final[tuple[tuple[re.Pattern[bytes], Media], ...]] = tuple(
    (re.compile(pattern, re.DOTALL), media)
    for pattern, media in (
        (rb"\x89PNG\r\n\x1a\n", Media("PNG", "png", _png)),
        (rb"\xff\xd8\xff", Media("JPEG", "jpg", _jpeg)),
        (rb"RIFF.{4}WEBP", Media("WebP", "webp", _riff)),
        (rb"GIF8[79]a", Media("GIF", "gif", _ends_with(b"\0;"))),
        (_COMPATIBLE + rb"avi[fs]", Media("AVIF", "avif", _still)),
        (_COMPATIBLE + rb"(?:hei[cx]|mif1)", Media("HEIC", "heic", _still)),
        (_FTYP + rb"qt  ", Media("QuickTime", "mov", _film)),
        (_FTYP + rb"M4[AB]", Media("M4A", "m4a", _film)),
        (_FTYP, Media("MP4", "mp4", _film)),
        (rb"\x1aE\xdf\xa3.{0,64}?webm", Media("WebM", "webm")),
        (rb"\x1aE\xdf\xa3", Media("Matroska", "mkv")),
        (rb"RIFF.{4}WAVE", Media("WAV", "wav", _riff)),
        (rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", Media("MP3", "mp3")),
        (rb"\xff[\xf0\xf1\xf8\xf9]", Media("AAC", "aac")),
        (rb"OggS", Media("Ogg", "ogg")),
        (rb"fLaC", Media("FLAC", "flac")),
        (
            _TEXT + rb"(?:<(?:\?xml|!--|!doctype svg).{0,400}?)?<svg",
            Media("SVG", "svg", _ends_with(b"</svg>")),
        ),
        (_TEXT + rb'(?:<|\{\s*"(?:code|message|error|detail)")', ERROR_PAGE),
        (_TEXT + rb"\{", Media("JSON", "json", _ends_with(b"}"))),
        (_TEXT + rb"\[", Media("JSON", "json", _ends_with(b"]"))),
    )
)

#: The extensions of the types that have an end mark.
SURE: Final = tuple(dict.fromkeys(media.extension for _, media in _SIGNATURES if media.check))
