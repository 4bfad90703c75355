"""Foreign text, made safe to show: what the service, files and callers say may hold anything."""

from __future__ import annotations


def printable(text: str) -> str:
    """Replace what could move a terminal's cursor, change its colours or forge a line of a log."""
    # No control character is printable, nor are the marks that reverse the direction of text.
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in text)


def one_line(text: str, most: int | None = None) -> str:
    """Fold a text into one line that terminals and logs take for text.

    Args:
        text: The text.
        most: Characters that the line has at most, 1 or more; None for no bound.
    """
    if most is not None and len(text) > most:
        text = f"{text[: most - 1]}…"
    return printable(" ".join(text.split()))


def counted(number: int, noun: str) -> str:
    """Return a number of things: "1 poll", "2 polls"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
