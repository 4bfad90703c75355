"""The names that callers give files by a template, such as `{row:04}-{slug}`."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from apixo_async.errors import ConfigurationError

#: What a result knows of itself, and what a map knows beside that.
RESULT_FIELDS: Final = ("task_id", "index", "model")
MAP_FIELDS: Final = ("row", "key", "slug", *RESULT_FIELDS)

_NUMBERS: Final = ("row", "index")
_WIDTH: Final = re.compile(r"0?[1-9]?\d?", re.ASCII)
#: What a name may not hold on some system, and what a terminal might obey.
_FORBIDDEN: Final = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\ud800-\udfff]')
_RESERVED: Final = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])")
_LONGEST: Final = 120  # bytes of a name: file systems take 255, and ours may get an id behind it
_LONGEST_VALUE: Final = 48  # characters of one value in a name


@dataclass(frozen=True, slots=True)
class NameTemplate:
    """A template of names, checked.

    Attributes:
        parts: Literal text, field ("" for none) and format, in turn.
    """

    parts: tuple[tuple[str, str, str], ...]

    @classmethod
    def checked(cls, template: object, fields: Iterable[str]) -> Self:
        """Read a template: text, and fields in braces, numbers with a width such as `{row:04}`.

        Raises:
            ConfigurationError: It is none, has another field, or could not be a file's name.
        """
        allowed = ", ".join(f"{{{field}}}" for field in fields)
        if not isinstance(template, str):
            raise ConfigurationError(f"name: {template!r:.100} given; a str with {allowed}")
        try:
            parsed = [*string.Formatter().parse(template)]
        except ValueError as exc:
            raise ConfigurationError(f"name: {template!r:.100}: {exc}; fields: {allowed}") from None
        parts: list[tuple[str, str, str]] = []
        for text, field, form, conversion in parsed:
            # Only whole names of fields: neither attributes nor items of what they stand for.
            if field is not None and (field not in fields or conversion):
                raise ConfigurationError(
                    f"name: {{{field}}} in {template!r:.100} is no field; there are {allowed}"
                )
            if form and not (field in _NUMBERS and _WIDTH.fullmatch(form)):
                raise ConfigurationError(
                    f"name: {{{field}:{form}}} in {template!r:.100}; only row and index have a "
                    "width, such as {row:04}"
                )
            if found := _FORBIDDEN.search(text):
                raise ConfigurationError(
                    f"name: {template!r:.100} holds {found[0]!r}; files go into one directory, by "
                    "names that every system takes"
                )
            parts.append((text, field or "", form or ""))
        if not template.strip(" .") or template.startswith("."):
            raise ConfigurationError(
                f"name: {template!r:.100} given; a name is not empty and begins with no dot"
            )
        return cls(tuple(parts))

    def stem(self, values: Mapping[str, str | int], *, several: bool) -> str:
        """Return a name without its extension, which every system takes, at most 120 bytes long.

        Args:
            values: By field.
            several: Whether the result has several files: then they are numbered in any case.
        """
        filled = "".join(
            text + (_filled(values[field], form) if field else "")
            for text, field, form in self.parts
        )
        ending = ""
        if several and all(field != "index" for _, field, _ in self.parts):
            ending = f"-{values['index']}"
        cut = filled.encode()[: _LONGEST - len(ending)].decode(errors="ignore").strip(" .")
        name = f"{cut or 'file'}{ending}"
        return f"_{name}" if _RESERVED.fullmatch(name.partition(".")[0].rstrip()) else name


@dataclass(frozen=True, slots=True)
class Naming:
    """How the files of one result are named.

    Attributes:
        template: The template.
        values: What is known beside the result, by field.
        earlier: Where an earlier run saved them.
    """

    template: NameTemplate
    values: Mapping[str, str | int]
    earlier: tuple[Path, ...] = ()


def slug(text: str) -> str:
    """Return the first words of a text as a part of a name: small letters and digits."""
    words = unicodedata.normalize("NFKC", text[: 10 * _LONGEST_VALUE]).lower()
    return re.sub(r"[\W_]+", "-", words)[:_LONGEST_VALUE].strip("-") or "untitled"


def _filled(value: str | int, form: str) -> str:
    if isinstance(value, int):
        return format(value, form)
    # Letters and digits of any script; no dots, which could make an extension.
    return re.sub(r"[^\w-]+", "_", value)[: 2 * _LONGEST_VALUE].strip("_") or "_"
