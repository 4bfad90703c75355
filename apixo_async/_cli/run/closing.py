"""The end of a run: its report, its summary, and what to do next."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import ROUND_UP, Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

from apixo_async import BudgetExceededError, JournalError, __version__
from apixo_async._cli.console import Screen, dollars
from apixo_async._cli.exits import ExitCode, exit_code, lines
from apixo_async._cli.report.records import RunFacts
from apixo_async._cli.report.replacing import ReportError
from apixo_async._cli.report.write import PAGE, write_report
from apixo_async._cli.run.board import span
from apixo_async._cli.run.history import View
from apixo_async._cli.run.order import RunOptions
from apixo_async._cli.run.trip import RunResult
from apixo_async.journal._entry import Entry
from apixo_async.journal._journal import Journal

#: Of rows that ended so, the same command tries again what is free.
_FREE: Final = (ExitCode.NOT_SAVED, ExitCode.NO_ANSWER)
_CENT: Final = Decimal("0.01")


class Step(NamedTuple):
    """One thing that can be done next.

    Attributes:
        why: What it is for.
        command: The command that does it, ready to be pasted.
    """

    why: str
    command: str


def steps(order: RunOptions, rows: Path, estimated: Decimal, trip: RunResult) -> Iterator[Step]:
    """Yield what can be done after a run.

    Args:
        order: The run.
        rows: The file of its rows.
        estimated: USD that all rows cost.
        trip: What it came to.
    """
    if isinstance(trip.error, BudgetExceededError):
        enough = order.terms._replace(max_cost=estimated.quantize(_CENT, ROUND_UP))
        yield Step("To buy all rows:", order._replace(terms=enough).command_to_go_on(rows))
    elif trip.is_cut_short:
        yield Step("To go on where this ended, run the same again:", order.command_to_go_on(rows))
    else:
        yield from _after_all_rows(order, rows, trip)
    if uncertain := trip.codes[ExitCode.UNCERTAIN]:
        why = (
            f"{count(uncertain)} may have been bought, and nobody can know: look at your account."
            " To buy what is uncertain anew, at the risk of paying twice:"
        )
        yield Step(why, order._replace(resubmit_uncertain=True).command(rows))


def _after_all_rows(order: RunOptions, rows: Path, trip: RunResult) -> Iterator[Step]:
    if any(trip.codes[code] for code in _FREE):
        why = "To fetch what was not saved or not over, at no cost, run the same again:"
        yield Step(why, order.command_to_go_on(rows))
    if trip.retryable:
        more = order._replace(attempts=order.attempts + 1)
        why = f"To buy {count(trip.retryable)} again whose failure may pass:"
        yield Step(why, more.command_to_go_on(rows))


def count(rows: int) -> str:
    """Write a number of rows."""
    return "1 row" if rows == 1 else f"{rows:,} rows"


#: Items that are read between two turns of the loop.
_PAGE: Final = 1_000


class Summary(NamedTuple):
    """A run whose buying is over.

    Attributes:
        order: The run.
        rows: The file of its rows.
        estimated: USD that it was expected to cost in all.
        trip: What it came to.
    """

    order: RunOptions
    rows: Path
    estimated: Decimal
    trip: RunResult

    def close(self, screen: Screen) -> ExitCode:
        """Write the report, print the summary and what to do next, and return the exit code."""
        code, trip = self.trip.code, self.trip
        if trip.error is not None:
            _say(trip.error, screen)
        document: Mapping[str, Any] = {}
        try:
            document = self._write()
        except (JournalError, ReportError) as error:
            if not isinstance(trip.error, JournalError):  # It would say the same again.
                _say(error, screen)
            code = code or exit_code(error)
        if screen.as_json:
            screen.document(self._document(document, code))
        else:
            for name, value in self._facts(document):
                screen.line(f"{name:<7}  {value}")
        for step in self.steps:
            screen.note(step.why)
            screen.note(f"  {step.command}", style="bold")
        return code

    @property
    def steps(self) -> list[Step]:
        """What can be done next."""
        return [*steps(self.order, self.rows, self.estimated, self.trip)]

    # --- the report ----------------------------------------------------------------------

    def _write(self) -> Mapping[str, Any]:
        order, trip = self.order, self.trip
        view = View(order.out.absolute(), trip.began_at, trip.lines, trip.failures)
        with asyncio.Runner() as runner:
            journal = runner.run(Journal.open(order.journal))
            try:
                records = map(view.record, _entries(runner, journal))
                return write_report(order.out, records, self._run())
            finally:
                runner.run(journal.aclose())

    def _run(self) -> RunFacts:
        trip = self.trip
        return RunFacts(
            started_at=trip.began_at,
            ended_at=datetime.now(UTC),
            exit_word=trip.exit_word,
            title=f"apixo run: {self.rows.name}",
            note=" ".join(f"{step.why} {step.command}" for step in self.steps),
            estimated=self.estimated,
            balance_before=trip.balance_before,
            balance_after=trip.balance_after,
            samples=trip.recorder.samples,
            versions={"apixo-async": __version__, "python": platform.python_version()},
        )

    # --- the summary ---------------------------------------------------------------------

    def _facts(self, document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        trip, progress = self.trip, self.trip.progress
        yield "Rows", f"{self.trip.rows:,}: {', '.join(self._counts())}"
        if progress.resumed:
            yield "Earlier", f"{progress.resumed:,} of them come from earlier runs"
        seconds = (datetime.now(UTC) - trip.began_at).total_seconds()
        yield "Time", span(seconds)
        money = f"{dollars(progress.spent)} in all, by the documents' prices"
        if trip.balance_before is not None and trip.balance_after is not None:
            before, after = dollars(trip.balance_before), dollars(trip.balance_after)
            money += f"; balance {before} before, {after} after"
        yield "Spent", money
        if document:
            yield "Files", f"{document['items']['files']:,} in {self.order.out}"
            yield "Report", str(self.order.out / PAGE)

    def _counts(self) -> Iterator[str]:
        progress = self.trip.progress
        ended = {
            "succeeded": progress.succeeded,
            "failed": progress.failed,
            "uncertain": progress.uncertain,
            "not bought": progress.unbought,
            "not over": progress.in_progress,
            "not reached": self.trip.rows - progress.read,
        }
        yield from (f"{count:,} {word}" for word, count in ended.items() if count)

    def _document(self, document: Mapping[str, Any], code: ExitCode) -> Mapping[str, object]:
        return {
            **{name: value for name, value in document.items() if name != "samples"},
            "rows": {
                "total": self.trip.rows,
                "not_reached": self.trip.rows - self.trip.progress.read,
            },
            "folder": str(self.order.out),
            "exit_code": int(code),
            "next": [step._asdict() for step in self.steps],
        }


def _say(error: Exception, screen: Screen) -> None:
    if isinstance(error, BudgetExceededError):
        words = (
            f"--max-cost {dollars(error.max_cost)} is reached: {dollars(error.spent)} are spent,"
            f" and the next task costs {dollars(error.price)}"
        )
        screen.error(words)
        return
    for line in lines(error):
        screen.error(line)


def _entries(runner: asyncio.Runner, journal: Journal) -> Iterator[Entry]:
    """Yield the items of a journal outside of its event loop."""
    entries = journal.entries()

    async def some() -> list[Entry]:
        found: list[Entry] = []
        async for entry in entries:
            found.append(entry)
            if len(found) == _PAGE:
                break
        return found

    while found := runner.run(some()):
        yield from found
