"""Foreign text, made safe to show: the service, files and callers write what they like."""

from __future__ import annotations


def printable(text: str) -> str:
    """Replace whatever could move a terminal's cursor, change its colours or forge a line."""
    if text.isprintable():
        return text
    return "".join(_shown(char) for char in text)


def one_line(text: str, most: int | None = None) -> str:
    """Fold a text into one line that terminals and logs take for nothing but text.

    Args:
        text: The text.
        most: Characters, at least 1, beyond which it is cut short; None for no bound.
    """
    if most is not None and len(text) > most:
        text = f"{text[: most - 1]}…"
    return printable(" ".join(text.split()))


def _shown(char: str) -> str:
    if char.isprintable():
        return char
    return " " if char.isspace() else "?"


class EventRecord:
    """What all events share: `str` is one line, whatever the service put into the fields."""

    __slots__ = ()

    def __str__(self) -> str:
        return printable(self._line())

    def _line(self) -> str:
        raise NotImplementedError
