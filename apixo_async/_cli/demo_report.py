"""What the demo leaves behind: its contact sheet and its closing summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from statistics import fmean

from apixo_async import Statistics
from apixo_async._cli.console import Screen, dollars
from apixo_async._cli.contact_sheet import Sheet, Tile
from apixo_async._cli.demo_run import Piece

NEXT = (
    ("apixo models", "what each model takes and costs"),
    ("apixo simulate", "the same service on a port, with a page on which to watch it"),
    ("APIXO_API_KEY=… apixo generate gpt-image-2 'a fox'", "the real thing: $0.02"),
)


@dataclass(frozen=True, slots=True)
class Report:
    """A demo that is over.

    Attributes:
        pieces: Its tasks.
        took: Seconds from the first submit to the last file.
        speed: How fast the simulator's time ran.
        statistics: The client's counts at the end.
        before: USD on the simulator's account at the beginning.
        after: USD on it at the end.
        page: Where the contact sheet lies.
    """

    pieces: Sequence[Piece]
    took: float
    speed: float
    statistics: Statistics
    before: Decimal
    after: Decimal
    page: Path

    @property
    def failed(self) -> int:
        """How many tasks failed."""
        return sum(piece.error is not None for piece in self.pieces)

    @property
    def files(self) -> int:
        """How many files were saved."""
        return sum(len(piece.paths) for piece in self.pieces)

    @property
    def looks(self) -> float:
        """Looks for each task, on average."""
        return self.statistics.looks / len(self.pieces)

    @property
    def delay(self) -> float | None:
        """Seconds from a task's end to the news of it, on average, or None when unknown."""
        known = [piece.delay for piece in self.pieces if piece.delay is not None]
        return fmean(known) if known else None

    def facts(self) -> Mapping[str, str]:
        """Return the names and values of the closing summary."""
        succeeded = len(self.pieces) - self.failed
        facts = {
            "Tasks": f"{len(self.pieces)}: {succeeded} succeeded, {self.failed} failed",
            "Time": f"{self.took:.1f} s, simulated at {self.speed:g} times the real speed",
            "Looks": f"{self.statistics.looks}, {self.looks:.1f} a task",
            "News": ""
            if self.delay is None
            else f"{self.delay:.2f} s after a task's end, on average",
            "Spent": f"{dollars(self.before - self.after)} of the simulator's money",
            "Files": f"{self.files}",
        }
        return {name: value for name, value in facts.items() if value}

    def sheet(self) -> Sheet:
        """Return the contact sheet."""
        return Sheet(
            title="apixo demo",
            facts=self.facts(),
            tiles=[_tile(piece) for piece in self.pieces],
            footer="Made by `apixo demo` on the embedded simulator: no model drew these pictures.",
        )

    def document(self) -> Mapping[str, object]:
        """Return the summary for programs."""
        return {
            "tasks": [_document(piece) for piece in self.pieces],
            "succeeded": len(self.pieces) - self.failed,
            "failed": self.failed,
            "seconds": round(self.took, 3),
            "looks": self.statistics.looks,
            "mean_delay_of_news": self.delay,
            "spent": self.before - self.after,
            "contact_sheet": str(self.page),
        }

    def print(self, screen: Screen) -> None:
        """Print the summary, and what to try next."""
        if screen.as_json:
            screen.document(self.document())
            return
        screen.note("")
        facts = {**self.facts(), "Sheet": str(self.page)}
        width = max(map(len, facts))
        for name, value in facts.items():
            screen.line(f"{name:<{width}}  {value}")
        screen.note("")
        screen.note("Try next:", style="bold")
        width = max(len(command) for command, _ in NEXT)
        for command, what in NEXT:
            screen.note(f"  {command:<{width}}   {what}")


def _tile(piece: Piece) -> Tile:
    return Tile(
        prompt=piece.wish.prompt,
        model=piece.wish.model,
        details=piece.wish.details,
        task_id=None if piece.task is None else piece.task.id,
        paths=piece.paths,
        elapsed=piece.elapsed,
        cost=piece.spent,
        failure=piece.failure,
    )


def _document(piece: Piece) -> Mapping[str, object]:
    return {
        "model": piece.wish.model,
        "task_id": None if piece.task is None else piece.task.id,
        "prompt": piece.wish.prompt,
        "state": piece.state,
        "fail_code": None if piece.failure is None else piece.failure[0],
        "seconds": piece.elapsed,
        "cost": piece.spent,
        "files": [str(path) for path in piece.paths],
    }
