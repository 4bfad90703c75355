"""Reference images from files and bytes, as inputs keep them: where they are, and their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, TypeAlias

from apixo_async._canonical import LOCAL

#: Bytes of one image: the documents say 10 MB, and this is the smaller reading.
MOST_BYTES: Final = 10_000_000

#: Bytes of a file that are read at once.
_CHUNK: Final = 1 << 20

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

        sha256, head = read(source)
        found = _media.identify(head[: _media.HEAD])
        if found.extension not in _TAKEN:
            raise ValueError(
                f"{shown(source)}: {found.name} by its bytes; a reference image is a JPG, PNG or "
                "WebP"
            )
        return cls(source, sha256)

    def __str__(self) -> str:
        return f"{LOCAL}{self.sha256}"

    def __repr__(self) -> str:
        return f"LocalImage({shown(self.source)}, {self.sha256[:16]}…)"


def read(source: ImageSource) -> tuple[str, bytes]:
    """Read a file to its end; return its SHA-256 in hexadecimal, and its first bytes.

    Raises:
        ValueError: It is nothing, more than 10 MB, or cannot be read.
    """
    digest, head = hashlib.sha256(), b""
    for chunk in chunks_of(source):
        digest.update(chunk)
        head = head or chunk
    return digest.hexdigest(), head


def chunks_of(source: ImageSource) -> Iterator[bytes]:
    """Yield what a file or bytes hold; of a file, a little at a time.

    Raises:
        ValueError: It is nothing, more than 10 MB, or cannot be read.
    """
    size = 0
    for chunk in [source] if isinstance(source, bytes) else _read(source):
        size += len(chunk)
        if size > MOST_BYTES:
            raise ValueError(f"{shown(source)}: more than 10 MB; 1 to {MOST_BYTES:,} bytes")
        yield chunk
    if not size:
        raise ValueError(f"{shown(source)}: it is empty; 1 to {MOST_BYTES:,} bytes")


def _read(path: Path) -> Iterator[bytes]:
    try:
        if path.exists() and not path.is_file():  # To open a pipe would wait for its writer.
            raise ValueError(f"{shown(path)}: this is no file")
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as exc:
        raise ValueError(f"{shown(path)}: it cannot be read: {exc.strerror}") from None


def changed(source: ImageSource) -> ValueError:
    """Return the error for a file that is not what it was."""
    return ValueError(
        f"{shown(source)}: it has changed since the input was made: make the input again"
    )


def shown(source: ImageSource) -> str:
    """Return what an error shows of an image."""
    return f"{len(source):,} bytes" if isinstance(source, bytes) else f"{str(source)!r:.300}"
