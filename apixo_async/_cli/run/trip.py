"""What one run comes to while its outcomes come in: counts, failures, and how it ended."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from apixo_async import (
    ApixoError,
    BudgetExceededError,
    Outcome,
    Progress,
    SubmitUncertainError,
    TaskFailedError,
)
from apixo_async._cli.exits import ExitCode, exit_code
from apixo_async._cli.report.records import Failure
from apixo_async._cli.report.samples import Recorder
from apixo_async._cli.run.history import failure_of
from apixo_async._cli.run.news import Notices
from apixo_async._map.policy import ends_buying

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


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class RunResult:
    """One run, from its beginning to its end.

    Attributes:
        rows: How many there are.
        lines: The line of each row, by its key.
        balance_before: USD before it, or None.
        began_at: When it began (aware UTC).
        finished: Rows that were over in this run, and not before.
        passed_over: Rows that were read and had no turn.
        codes: How rows ended badly, as exit codes.
        failures: Why rows have no result or no files, where the journal does not say it.
        retryable: Rows whose task failed in a way that may pass.
        signal: What asked it to end, or None.
        error: What ended the buying, or None.
        progress: The last counts of the map.
        recorder: How it went over time.
        balance_after: USD after it, or None.
    """

    rows: int
    lines: Mapping[str, int]
    balance_before: Decimal | None = None
    began_at: datetime = field(default_factory=_now)
    finished: int = 0
    passed_over: int = 0
    codes: Counter[ExitCode] = field(default_factory=lambda: Counter[ExitCode]())
    failures: dict[str, Failure] = field(default_factory=dict[str, Failure])
    retryable: int = 0
    signal: signal.Signals | None = None
    error: Exception | None = None
    progress: Progress = field(default_factory=Progress)
    recorder: Recorder = field(default_factory=Recorder)
    balance_after: Decimal | None = None

    def note(self, outcome: Outcome, news: Notices) -> None:
        """Take in what became of a row, and tell it if it went wrong in this run."""
        error = outcome.error
        if error is not None and _had_no_turn(error):
            self.passed_over += 1
            return
        is_news = outcome.task is not None or not outcome.resumed
        self.finished += is_news
        if error is None:
            return
        self.codes[exit_code(error)] += 1
        if isinstance(error, TaskFailedError):
            self.retryable += error.retryable
        elif not isinstance(error, SubmitUncertainError):
            self.failures[outcome.key] = failure_of(error)
        if is_news and not ends_buying(error):
            line = self.lines.get(outcome.key)
            news.failure(f"key {outcome.key}" if line is None else f"line {line:,}", error)

    @property
    def is_cut_short(self) -> bool:
        """Whether it ended before all rows were over."""
        return self.error is not None or (self.signal is not None and self._lacks_rows())

    def _lacks_rows(self) -> bool:
        progress = self.progress
        return bool(self.passed_over or progress.in_progress or progress.read < self.rows)

    @property
    def exit_word(self) -> str:
        """How it ended, in a word or two."""
        if isinstance(self.error, BudgetExceededError):
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


def _had_no_turn(error: ApixoError) -> bool:
    return type(error) is ApixoError and error.bought is False
