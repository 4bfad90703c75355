"""The files of a result: every URL in what the service sent, wherever a model puts it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final, Literal, TypeAlias, cast
from urllib.parse import urlsplit

MediaKind: TypeAlias = Literal["image", "video", "audio"]

#: What a file is by the suffix of a URL's path.
_BY_SUFFIX: Final[Mapping[str, MediaKind]] = {
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".webm", ".ogv"), "video"),
    **dict.fromkeys((".mp3", ".wav", ".m4a", ".aac", ".ogg", ".oga", ".opus", ".flac"), "audio"),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".svg"), "image"),
}
#: What it is by a word of the name under which it stands, as in `audio_url` and `coverImage`.
_BY_WORD: Final[Mapping[str, MediaKind]] = {
    **dict.fromkeys(("audio", "music", "song", "voice"), "audio"),
    "video": "video",
    **dict.fromkeys(("image", "cover", "thumbnail", "poster"), "image"),
}
_WORD: Final = re.compile(r"[A-Z]?[a-z]+")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

#: Bounds on what is looked through: anybody may have written it.
_DEEPEST: Final = 32
_MOST_FILES: Final = 1_000
_LONGEST_URL: Final = 8_192


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A URL that a result holds.

    Attributes:
        url: The URL.
        path: Where it stands in `Result.raw`, such as "tracks[0].audio_url".
        kind: What it is, by its suffix or else by its name: "image", "video" or "audio"; None where
            neither says so. Its bytes may say otherwise: `download` and `read` look at them.
    """

    url: str = field(repr=False)  # a signed one is enough to download
    path: str
    kind: MediaKind | None = None


def kind_of_url(url: str) -> MediaKind | None:
    """Guess what a URL leads to from the suffix of its path."""
    return _BY_SUFFIX.get(path_of(url).suffix.lower())


def path_of(url: str) -> PurePosixPath:
    """Return the path of a URL, or an empty one where it is no URL."""
    try:
        return PurePosixPath(urlsplit(url).path)
    except ValueError:  # Brackets that hold no address.
        return PurePosixPath()


def files_of(raw: Mapping[str, object]) -> tuple[ResultFile, ...]:
    """Return every http URL in a decoded result once, at its first place; `resultUrls` is first."""
    found: dict[str, ResultFile] = {}
    first = {"resultUrls": raw["resultUrls"]} if "resultUrls" in raw else {}
    for path, name, url in _walk({**first, **raw}, "", "", 0):
        if len(found) >= _MOST_FILES:
            break
        found.setdefault(url, ResultFile(url, path, kind_of_url(url) or _kind_of_name(name)))
    return tuple(found.values())


def _walk(value: object, path: str, name: str, depth: int) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, str):
        if _is_url(value):
            yield path, name, value
    elif depth < _DEEPEST and isinstance(value, Mapping):
        for key, inner in cast("Mapping[object, object]", value).items():
            part = str(key)
            plain = _NAME.fullmatch(part)
            step = (f".{part}" if path else part) if plain else f"[{part!r:.100}]"
            yield from _walk(inner, path + step, part, depth + 1)
    elif depth < _DEEPEST and isinstance(value, list | tuple):
        for index, inner in enumerate(cast("Sequence[object]", value)):
            yield from _walk(inner, f"{path}[{index}]", name, depth + 1)


def _is_url(text: str) -> bool:
    return (
        text[:8].lower().startswith(("https://", "http://"))
        and len(text) <= _LONGEST_URL
        and text.isprintable()
        and " " not in text
    )


def _kind_of_name(name: str) -> MediaKind | None:
    words = [word.lower() for word in _WORD.findall(name)]
    return next((_BY_WORD[word] for word in words if word in _BY_WORD), None)
