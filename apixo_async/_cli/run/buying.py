"""The run itself: rows go into `map`, outcomes come out, and signals end it without a loss."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterable, Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from types import FrameType, MappingProxyType
from typing import Final, TypeAlias

from apixo_async import (
    ApixoError,
    AsyncClient,
    Category,
    Input,
    Outcome,
    Outcomes,
    Progress,
    Reconciliation,
    errors,
)
from apixo_async._cli.console import Screen
from apixo_async._cli.exits import ExitCode, exit_code
from apixo_async._cli.report.records import Failure
from apixo_async._cli.report.samples import Recorder, RunSample
from apixo_async._cli.run.history import failure_of
from apixo_async._cli.run.live_view import Notices, Rate, RunSnapshot, span, watched
from apixo_async._cli.run.options import RunOptions, open_client

#: What a run buys: an input, and its key unless the journal makes one.
KeyedInputs: TypeAlias = (
    Iterable[tuple[str | None, Input]] | AsyncIterable[tuple[str | None, Input]]
)

#: What a run ends with where rows ended badly in several ways: what asks most of the reader.
_GRAVEST_FIRST: Final = (
    ExitCode.JOURNAL,
    ExitCode.UNCERTAIN,
    ExitCode.NOT_SAVED,
    ExitCode.FAILED,
    ExitCode.NO_ANSWER,
    ExitCode.RATE_LIMITED,
    ExitCode.REFUSED,
    ExitCode.USAGE,
)


@dataclass(slots=True)
class RunResult:
    """One run, from its beginning to its end."""

    rows: int
    lines: Mapping[str, int]
    balance_before: Decimal | None = None
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    #: Rows that were over in this run, and not before.
    finished: int = 0
    #: Rows that were read and had no turn.
    passed_over: int = 0
    codes: Counter[ExitCode] = field(default_factory=Counter[ExitCode])
    #: Why rows have no result or no files, where the journal does not say it.
    failures: dict[str, Failure] = field(default_factory=dict[str, Failure])
    #: Rows whose task failed, and rows without a result for other reasons, by category.
    failed: Counter[Category] = field(default_factory=Counter[Category])
    others: Counter[Category] = field(default_factory=Counter[Category])
    signal: signal.Signals | None = None
    error: Exception | None = None
    progress: Progress = field(default_factory=Progress)
    recorder: Recorder = field(default_factory=Recorder)
    balance_after: Decimal | None = None
    #: USD that earlier runs of the same journal have spent.
    spent_before: Decimal = Decimal(0)
    reconciliation: Reconciliation | None = None
    polls: int = 0

    def note(self, outcome: Outcome, notices: Notices) -> None:
        """Take in what became of a row, and show it if it went wrong in this run."""
        error = outcome.error
        if type(error) is ApixoError and error.bought is False:  # It had no turn.
            self.passed_over += 1
            return
        line = self.lines.get(outcome.key)
        where = f"key {outcome.key}" if line is None else f"line {line:,}"
        is_new = outcome.task is not None or not outcome.resumed
        self.finished += is_new
        if is_new:
            notices.outcome(where, outcome)
        if error is None:
            return
        self.codes[exit_code(error)] += 1
        is_failed = isinstance(error, errors.TaskFailedError)
        (self.failed if is_failed else self.others)[error.category] += 1
        if not is_failed and not isinstance(error, errors.SubmitUncertainError):
            self.failures[outcome.key] = failure_of(error)

    @property
    def is_interrupted(self) -> bool:
        """Whether a signal ended it before all rows were over."""
        read, in_progress = self.progress.read, self.progress.in_progress
        has_rows_left = bool(self.passed_over or in_progress or read < self.rows)
        return self.signal is not None and has_rows_left

    @property
    def is_cut_short(self) -> bool:
        """Whether it ended before all rows were over."""
        return self.error is not None or self.is_interrupted

    @property
    def exit_word(self) -> str:
        """How it ended, in a word or two."""
        if isinstance(self.error, errors.BudgetExceededError):
            return "stopped at --max-cost"
        if self.error is not None:
            return "stopped"
        return "interrupted" if self.is_cut_short else "complete"

    @property
    def code(self) -> ExitCode:
        """What the command ends with."""
        if self.error is not None:
            return exit_code(self.error)
        if self.is_cut_short:
            return ExitCode.INTERRUPTED
        other = ExitCode.DEFECT if self.codes.total() else ExitCode.OK
        return next((code for code in _GRAVEST_FIRST if self.codes[code]), other)


_NUMBERS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def first_signal(on_signal: Callable[[signal.Signals], None]) -> Generator[None]:
    """Give the first Ctrl-C or SIGTERM to a function; the next one does what it did before.

    Args:
        on_signal: Called on the running event loop.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _NUMBERS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, _frame: FrameType | None) -> None:
        restore()
        loop.call_soon_threadsafe(on_signal, signal.Signals(number))

    for number in _NUMBERS:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()


#: Seconds for which bought tasks are waited for when a signal has ended the buying. A person
#: presses Ctrl-C again if it takes too long; a program that sends SIGTERM sends SIGKILL soon.
DRAIN: Final[Mapping[signal.Signals, float]] = MappingProxyType(
    {signal.SIGINT: 300.0, signal.SIGTERM: 5.0}
)


class Runner:
    """Buy the rows of a file, and take what comes of it.

    Args:
        spent: USD that earlier runs of the same journal have spent.
    """

    def __init__(
        self,
        options: RunOptions,
        title: str,
        inputs: KeyedInputs,
        rows: int,
        screen: Screen,
        lines: Mapping[str, int] = MappingProxyType({}),
        spent: Decimal = Decimal(0),
        *,
        notices: Notices | None = None,
    ) -> None:
        self._options = options
        self._title = f"{title}, simulated" if options.simulate else title
        self._inputs = inputs
        self._rows = rows
        self._lines = lines
        self._spent_before = spent
        self._screen = screen
        self._notices = notices or Notices(screen)
        self._rate = Rate()
        self._ending = ""

    async def buy(self, balance: Decimal | None) -> RunResult:
        """Buy until all rows are over, something ends it, or a signal does."""
        result, options = RunResult(self._rows, self._lines, balance), self._options
        result.spent_before = self._spent_before
        async with open_client(options, self._screen, self._notices.event) as client:
            outcomes = client.map(
                self._inputs,
                attempts=options.attempts,
                provider=options.provider,
                journal=options.journal,
                retry=options.retry,
                resubmit_uncertain=options.resubmit_uncertain,
                max_cost=options.terms.max_cost,
                prices=options.terms.prices,
                download_to=options.out.absolute(),
                name=options.name,
            )
            look = partial(self._look, client, outcomes, result, asyncio.get_running_loop().time())
            async with watched(look, self._notices, self._screen):
                try:
                    await self._take(outcomes, result)
                except TimeoutError as error:
                    # Without an error of its own the time to drain is over: the next run goes on.
                    result.error = error if isinstance(error, ApixoError) else None
                except (ApixoError, OSError) as error:
                    result.error = error
            with suppress(ApixoError):  # The run is over, whether or not its balance is known.
                if outcomes.progress.uncertain and not outcomes.progress.in_progress:
                    result.reconciliation = await outcomes.reconcile()
                    result.balance_after = result.reconciliation.after
                else:
                    result.balance_after = await client.balance()
        return result

    async def _take(self, outcomes: Outcomes, result: RunResult) -> None:
        async with outcomes, asyncio.timeout(None) as patience:

            def stop(number: signal.Signals) -> None:
                result.signal = number
                outcomes.stop()
                patience.reschedule(asyncio.get_running_loop().time() + DRAIN[number])
                name = "Ctrl-C" if number is signal.SIGINT else number.name
                self._ending = (
                    f"{name}: buying has ended. Bought tasks are waited for, {span(DRAIN[number])}"
                    " at most; Ctrl-C leaves at once, and loses nothing."
                )
                if not self._screen.live:
                    self._screen.note(self._ending, style="yellow")

            with first_signal(stop):
                async for outcome in outcomes:
                    result.note(outcome, self._notices)

    def _look(
        self, client: AsyncClient, outcomes: Outcomes, result: RunResult, began: float
    ) -> RunSnapshot:
        counts, progress = client.statistics(), outcomes.progress
        seconds = asyncio.get_running_loop().time() - began
        result.progress, result.polls = progress, counts.polls
        self._rate.add(seconds, result.finished)
        result.recorder.add(
            RunSample(
                seconds=seconds,
                finished=result.finished,
                in_flight=counts.slots_used,
                slots_limit=counts.slots_limit,
                requests=counts.requests_in_window,
                requests_limit=counts.requests_limit,
                spent=max(Decimal(0), progress.spent - self._spent_before),
            )
        )
        left = progress.in_progress
        if not self._ending:
            left += self._rows - progress.read
        return RunSnapshot(
            title=self._title,
            rows=self._rows,
            progress=progress,
            statistics=counts,
            max_cost=self._options.terms.max_cost,
            per_minute=self._rate.per_minute,
            left=self._rate.left(left),
            ending=self._ending,
        )
