"""What the client costs, measured: one file a question, ``python -m benchmarks`` for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """What every benchmark is told.

    Attributes:
        tasks: How many tasks there are at once.
        seconds: How long each takes the service, about.
    """

    tasks: int = 200
    seconds: float = 20.0


@dataclass(frozen=True)
class Answer:
    """What was measured for one question in one setting: figures by name, for a table."""

    question: str
    figures: Mapping[str, str]
