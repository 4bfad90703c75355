"""Foreign text, made safe to show: what the service, files and callers say may hold anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pydantic import ValidationError  # Slow to import, and the command needs none for its help.

#: Where pydantic's own words would puzzle a reader who sees no Python.
_WORDS: Final[Mapping[str, str]] = {
    "missing": "is required",
    "extra_forbidden": "is no field of this model",
}


_CENT: Final = Decimal("0.01")

#: The application's own context may round: to fewer digits than a sum of prices has.
EXACT: Final = Context(prec=200)


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


def dollars(amount: Decimal) -> str:
    """Write an amount in USD with at least two decimals."""
    return f"${amount:.2f}" if amount == amount.quantize(_CENT, context=EXACT) else f"${amount}"


def counted(number: int, noun: str) -> str:
    """Return a number of things: "1 poll", "2 polls"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def field_lines(error: ValidationError) -> Iterator[str]:
    """Yield a line for each field in which an input is wrong."""
    for found in error.errors(include_url=False):
        name = ".".join(str(part) for part in found["loc"])
        message = found["msg"].removeprefix("Value error, ")
        message = _WORDS.get(found["type"], message[:1].lower() + message[1:])
        value = ""
        # A missing field's input is the whole of the fields, a model-wide one's as well.
        if name and found["type"] != "missing":
            given = repr(found["input"])
            given = given if len(given) <= 60 else f"{given[:57]}..."
            value = f" ({given} given)"
        yield one_line(f"{name}: {message}{value}" if name else f"{message}{value}")
