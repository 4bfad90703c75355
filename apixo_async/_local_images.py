"""Reference images from files and bytes, as inputs keep them: where they are, and their digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, TypeAlias

from apixo_async._canonical import LOCAL

#: Bytes of one image: the documents say 10 MB, and this is the smaller reading.
MOST_BYTES: Final = 10_000_000

#: What the models take, by extension.
_TAKEN: Final = ("jpg", "png", "webp")

#: Where an image is.
ImageSource: TypeAlias = Path | bytes


@dataclass(frozen=True, slots=True)
class LocalImage:
    """A reference image of an input that was given as a `Path` or as bytes.

    A client with `webhooks` has its receiver serve a copy while the task runs; any other refuses
    it. Two of them are equal if their content is. In JSON and `payload()` it is
    `apixo-file:sha256:` and the digest, of which no image can be made again.

    Attributes:
        source: The path, which is read again when the input is submitted, or the bytes.
        sha256: The digest of the content, as it was when the input was made, in hexadecimal.
    """

    source: ImageSource = field(compare=False)
    sha256: str

    @classmethod
    def of(cls, source: ImageSource) -> Self:
        """Read an image.

        Raises:
            ValueError: It is no JPG, PNG or WebP of at most 10 MB, or cannot be read.
        """
        from apixo_async import _media  # Here, since few inputs have images of their own.

        content = content_of(source)
        found = _media.identify(content[: _media.HEAD])
        if found.extension not in _TAKEN:
            raise ValueError(
                f"{shown(source)}: {found.name} by its bytes; a reference image is a JPG, PNG or "
                "WebP"
            )
        return cls(source, digest_of(content))

    def content(self) -> bytes:
        """Return the bytes, read again from a path.

        Raises:
            ValueError: They are not what they were when the input was made.
        """
        content = content_of(self.source)
        if digest_of(content) != self.sha256:
            raise ValueError(
                f"{shown(self.source)}: it has changed since the input was made: make the input "
                "again"
            )
        return content

    def __str__(self) -> str:
        return f"{LOCAL}{self.sha256}"

    def __repr__(self) -> str:
        return f"LocalImage({shown(self.source)}, {self.sha256[:16]}…)"


def content_of(source: ImageSource) -> bytes:
    """Return what a file or bytes hold.

    Raises:
        ValueError: It is nothing, more than 10 MB, or cannot be read.
    """
    content = source if isinstance(source, bytes) else _read(source)
    if not 0 < len(content) <= MOST_BYTES:
        size = f"{len(content):,}" if len(content) <= MOST_BYTES else f"more than {MOST_BYTES:,}"
        raise ValueError(f"{shown(source)}: {size} bytes; 1 to {MOST_BYTES:,} are allowed")
    return content


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # To open a pipe would wait for its writer.
            raise ValueError(f"{shown(path)}: this is no file")
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as exc:
        raise ValueError(f"{shown(path)}: it cannot be read: {exc.strerror}") from None


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of an image in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def shown(source: ImageSource) -> str:
    """Return what an error shows of an image."""
    return f"{len(source):,} bytes" if isinstance(source, bytes) else f"{str(source)!r:.300}"
