"""What the client costs, measured: one file a question, ``python -m benchmarks`` for all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """What every question is told.

    Attributes:
        rounds: How often everything is measured, interleaved; medians of these are shown.
        out: The directory that takes the table and the plots.
        tasks: How many tasks there are at once, where a question has many.
        seconds: How long each takes the service, where tasks take a time.
    """

    rounds: int = 5
    out: Path = Path("benchmarks/results")
    tasks: int = 1000
    seconds: float = 20.0


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        question: What is asked; told once, however many rows answer it.
        measured: What was measured, and against what.
        ratio: The answer as a ratio, such as "1.42x".
        figures: The medians behind it, such as "92 against 65 µs".
        target: What was to be reached.
        reached: Whether it was, or None where there is no target or no answer.
    """

    question: str
    measured: str
    ratio: str
    figures: str
    target: str = ""
    reached: bool | None = None


def unanswered(question: str, missing: str) -> Row:
    """Return the row that says what must be installed before the question can be answered."""
    return Row(question, f"{missing} is not installed", "-", "pip install --group benchmarks")
