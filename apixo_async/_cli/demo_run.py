"""The work of the demo, and what it leaves behind: its contact sheet and its summary."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from statistics import fmean

from apixo_async import ApixoError, AsyncClient, Input, Polling, Statistics, Task, TaskFailedError
from apixo_async._cli.console import Screen, dollars
from apixo_async._cli.contact_sheet import Sheet, Tile
from apixo_async._cli.prompts import DemoPrompt
from apixo_async._polling.schedule import PollTimes


@dataclass(slots=True, eq=False)
class DemoTask:
    """One task of the demo, from the wish to the files.

    Attributes:
        wish: What is wanted.
        input: What is submitted.
        task: The task, once it is bought.
        error: Why it ended badly, or None.
        paths: The saved files.
        elapsed: Seconds from the submit's answer to the news of the outcome, or None.
        delay: Seconds from the outcome to the news of it, by the service's stamps, or None.
        over: Whether nothing more will happen to it.
    """

    wish: DemoPrompt
    input: Input
    task: Task | None = None
    error: ApixoError | None = None
    paths: tuple[Path, ...] = ()
    elapsed: float | None = None
    delay: float | None = None
    over: bool = False

    @property
    def state(self) -> str:
        """Where it is in its life: a key of `dashboard.STATES`, or the service's own word."""
        if self.error is not None:
            return "failed"
        return "waiting" if self.task is None else self.task.state

    @property
    def spent(self) -> Decimal:
        """USD by the documents' prices; a failed task was bought as well."""
        return self.input.price or Decimal(0) if self.task is not None else Decimal(0)

    @property
    def failure(self) -> tuple[str, str] | None:
        """The code and the words of what went wrong, or None."""
        if self.error is None:
            return None
        if isinstance(self.error, TaskFailedError):
            return self.error.fail_code or "failed", self.error.fail_msg or ""
        return type(self.error).__name__, str(self.error)


class DemoRun:
    """All pieces of one demo.

    Args:
        client: The client that buys them.
        pieces: What to buy, in this order.
        folder: Where the files go.
        on_over: Called with each piece that is over.
    """

    def __init__(
        self,
        client: AsyncClient,
        pieces: Sequence[DemoTask],
        folder: Path,
        on_over: Callable[[DemoTask], None],
    ) -> None:
        self._client = client
        self._pieces = pieces
        self._folder = folder
        self._on_over = on_over

    async def make_all(self) -> None:
        """Buy one after the other as slots become free, and wait for all of them at once."""
        async with asyncio.TaskGroup() as group:
            for piece in self._pieces:
                try:
                    piece.task = await self._client.submit(piece.input)
                except ApixoError as error:
                    self._end(piece, error)
                else:
                    group.create_task(self._finish(piece, piece.task))

    async def _finish(self, piece: DemoTask, task: Task) -> None:
        began = asyncio.get_running_loop().time()
        try:
            await task.wait()
            piece.elapsed = asyncio.get_running_loop().time() - began
            result = await task
            if result.completed_at is not None:
                piece.delay = (datetime.now(UTC) - result.completed_at).total_seconds()
            piece.paths = tuple(await self._client.download(result, self._folder))
        except ApixoError as error:
            self._end(piece, error)
        else:
            self._end(piece, None)

    def _end(self, piece: DemoTask, error: ApixoError | None) -> None:
        piece.error = error
        piece.over = True
        self._on_over(piece)


@dataclass(frozen=True, slots=True)
class Hastened(Polling):
    """The documents' plan for a service whose time runs faster.

    Attributes:
        speed: How many of its seconds pass in one of ours.
    """

    speed: float = 1.0

    def plan_for(self, kind: str) -> PollTimes:
        """Return the documented plan, divided by the speed."""
        plan = Polling.documented().plan_for(kind)
        return PollTimes(plan.first / self.speed, plan.interval / self.speed)


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

    pieces: Sequence[DemoTask]
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
    def polls(self) -> float:
        """Polls for each task, on average."""
        return self.statistics.polls / len(self.pieces)

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
            "Polls": f"{self.statistics.polls}, {self.polls:.1f} a task",
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
            "polls": self.statistics.polls,
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


def _tile(piece: DemoTask) -> Tile:
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


def _document(piece: DemoTask) -> Mapping[str, object]:
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
