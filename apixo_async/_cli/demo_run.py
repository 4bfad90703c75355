"""The demo's work: buy each wish, wait for it, save it, and note how it went."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from apixo_async import ApixoError, AsyncClient, Input, Polling, Task, TaskFailedError
from apixo_async._cli.prompts import Wish
from apixo_async._core.plans import Plan


@dataclass(slots=True, eq=False)
class Piece:
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

    wish: Wish
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


class Run:
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
        pieces: Sequence[Piece],
        folder: Path,
        on_over: Callable[[Piece], None],
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

    async def _finish(self, piece: Piece, task: Task) -> None:
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

    def _end(self, piece: Piece, error: ApixoError | None) -> None:
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

    def plan_for(self, kind: str) -> Plan:
        """Return the documented plan, divided by the speed."""
        plan = Polling.documented().plan_for(kind)
        return Plan(plan.first / self.speed, plan.interval / self.speed)
