"""The live picture of many tasks: states, both limits, money, and the latest news."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Protocol

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from apixo_async import Statistics
from apixo_async._cli.console import dollars

#: States in the order of a task's life, each with its word and its colour.
STATES: Final = {
    "waiting": ("waiting for a slot", "bright_black"),
    "pending": ("pending", "yellow"),
    "processing": ("processing", "cyan"),
    "success": ("succeeded", "green"),
    "failed": ("failed", "red"),
}
_BAR: Final = 32


class ShownTask(Protocol):
    """What the picture needs of one task."""

    @property
    def state(self) -> str:
        """One of `STATES`; any other counts as processing."""
        ...

    @property
    def spent(self) -> Decimal:
        """USD spent on it so far."""
        ...


@dataclass(slots=True)
class Dashboard:
    """Draws the pieces as they are at this moment.

    Attributes:
        title: The line above.
        pieces: The tasks.
        news: The latest lines, the newest last.
    """

    title: str
    pieces: Sequence[ShownTask]
    news: deque[Text] = field(default_factory=lambda: deque[Text](maxlen=6))

    def draw(self, statistics: Statistics) -> RenderableType:
        """Return the picture."""
        grid = Table.grid(padding=(0, 2))
        counts = Counter(self._known(piece.state) for piece in self.pieces)
        for state, (word, colour) in STATES.items():
            grid.add_row(word, _bar(counts[state], len(self.pieces), colour), str(counts[state]))
        grid.add_row()
        used, limit = statistics.slots_used, statistics.slots_limit
        grid.add_row("tasks in flight", _bar(used, limit), f"{used:,} of {limit:,}")
        used, limit = statistics.requests_in_window, statistics.requests_limit
        grid.add_row("requests", _bar(used, limit), f"{used:,} of {limit:,} in any 60 s")
        spent = sum((piece.spent for piece in self.pieces), Decimal(0))
        grid.add_row("spent", "", f"{dollars(spent)} by the documents' prices")
        return Group(Text(self.title, style="bold"), Text(), grid, Text(), *self.news)

    def _known(self, state: str) -> str:
        return state if state in STATES else "processing"


def _bar(part: int, whole: int, colour: str = "blue") -> ProgressBar:
    return ProgressBar(whole, part, width=_BAR, complete_style=colour, finished_style=colour)
