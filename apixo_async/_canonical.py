"""The identity of inputs: a canonical form, its digest, and the key made of it.

A journal finds by it what an earlier run bought, so it must not change between versions.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from apixo_async._types import TaskInput

#: What stands before the SHA-256 of an image that is no URL.
LOCAL: Final = "apixo-file:sha256:"

#: The last part of the URL of a shared file: its SHA-256, a token, and its type.
SHARED: Final = r"apixo-file-([0-9a-f]{64})-([A-Za-z0-9_-]{60})\.([a-z0-9]{3,4})"

#: Such a URL, as the whole of a text: a quote within one stands behind a backslash.
_SHARED_URL: Final = re.compile(rf'(?<!\\)"https?://[^"\\]+/{SHARED}"')

#: Hexadecimal digits of a key: 64 bits. The digest distinguishes inputs whose keys are equal.
_DIGITS: Final = 16

#: Characters of an input that an error shows, and how many of them precede the difference.
_SHOWN: Final = 100
_BEFORE: Final = 30


class Identity(NamedTuple):
    """An input as a journal stores it.

    Attributes:
        model: The model's name.
        provider: The route, or None.
        payload: The `input` object of the wire as canonical JSON: sorted, without spaces, ASCII;
            with the SHA-256 of local images, and of shared files in place of their URLs.
        digest: SHA-256 of the three, in hexadecimal.
    """

    model: str
    provider: str | None
    payload: str
    digest: str

    @property
    def text(self) -> str:
        """The canonical form in one line."""
        return canonical(self.model, self.provider, self.payload)


def identity(task_input: TaskInput, provider: str | None) -> Identity:
    """Return the identity of an input that is sent by this route.

    An image counts by its content, whether it was given as a path, as bytes or as a shared URL.
    """
    payload = json.dumps(task_input.payload(), sort_keys=True, separators=(",", ":"))
    # The same image has another URL in each process and on each day.
    payload = _SHARED_URL.sub(rf'"{LOCAL}\1"', payload)
    text = canonical(task_input.model, provider, payload)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Identity(task_input.model, provider, payload, digest)


def canonical(model: str, provider: str | None, payload: str) -> str:
    """Return the canonical form of an input, given its canonical payload."""
    return f"[{json.dumps(model)},{json.dumps(provider)},{payload}]"


def key_of(digest: str, occurrence: int) -> str:
    """Return the key of the n-th occurrence of an input, counted from 1.

    The same input may be wanted several times: each occurrence is a purchase of its own.
    """
    return f"{digest[:_DIGITS]}-{occurrence}"


def short_forms(one: str, other: str) -> tuple[str, str]:
    """Return two different texts, each cut to the part where they begin to differ."""
    same = next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    start = max(0, same - _BEFORE)
    return _cut(one, start), _cut(other, start)


def _cut(text: str, start: int) -> str:
    head = "…" if start else ""
    tail = "…" if len(text) > start + _SHOWN else ""
    return f"{head}{text[start : start + _SHOWN]}{tail}"
