"""The end of a run: its report, its summary, and what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_UP, Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

from apixo_async import BudgetExceededError, Category, FailureCategory, JournalError, Reconciliation
from apixo_async._cli import session
from apixo_async._cli.console import Screen, counted
from apixo_async._cli.exits import ExitCode, exit_code, lines
from apixo_async._cli.report.records import RunFacts
from apixo_async._cli.report.replacing import ReportError
from apixo_async._cli.report.write import FAILED, PAGE
from apixo_async._cli.run.buying import RunResult
from apixo_async._cli.run.history import RecordView
from apixo_async._cli.run.live_view import span
from apixo_async._cli.run.options import RunOptions
from apixo_async._cli.run.report import failures_of, report_journal
from apixo_async._text import dollars
from apixo_async.errors import FAILURE_CATEGORIES

#: Categories of rows that are counted elsewhere: what is uncertain, and what had no turn.
_NO_FAILURES: Final = ("uncertain", "budget", "other")
#: What a row fails for that fails for it again.
_OF_INPUTS: Final = ("content", "prompt", "image")
_CENT: Final = Decimal("0.01")


class Step(NamedTuple):
    """One thing that can be done next."""

    why: str
    command: str


def steps(options: RunOptions, rows: Path, estimated: Decimal, result: RunResult) -> Iterator[Step]:
    """Yield what can be done after a run."""
    if isinstance(result.error, BudgetExceededError):
        enough = options.terms._replace(max_cost=estimated.quantize(_CENT, ROUND_UP))
        yield Step("To buy all rows:", options._replace(terms=enough).command_to_go_on(rows))
    elif result.is_cut_short:
        yield Step("To go on where this ended, run the same again:", options.command_to_go_on(rows))
    else:
        yield from _retries(options, rows, result)
    if uncertain := result.codes[ExitCode.UNCERTAIN]:
        known, risk = "which cannot be known: look at your account", ", at the risk of paying twice"
        found = result.reconciliation
        if found is not None and found.verdict == "none":
            known, risk = "but by the balance none was", ""
        elif found is not None and found.bought:
            known = f"and by the balance {found.bought} were: look at your account"
        why = (
            f"{counted(uncertain)} may have been bought, {known}. To buy what is uncertain"
            f" anew{risk}:"
        )
        yield Step(why, options._replace(resubmit_uncertain=True).command(rows))


def _other_failures(result: RunResult) -> Counter[Category]:
    return Counter({one: n for one, n in result.others.items() if one not in _NO_FAILURES})


def _retries(options: RunOptions, rows: Path, result: RunResult) -> Iterator[Step]:
    again = _other_failures(result)
    for category, count in result.failed.most_common():
        if category == "balance":
            again[category] += count
        elif category in _OF_INPUTS:
            failed = options.out / FAILED
            why = (
                f"{counted(count)} failed for {category}, as the same input will again. Change"
                f" it in {failed}, then:"
            )
            yield Step(why, options.command_to_go_on(failed))
        elif category in FAILURE_CATEGORIES:
            why = f"{counted(count)} failed for {category}. To buy anew:"
            retry = (cast("FailureCategory", category),)
            yield Step(why, options._replace(retry=retry, resubmit_uncertain=False).command(rows))
    if again:
        why = f"{counted(again.total())} without a result: {failures_of(again)}. To try again:"
        yield Step(why, options.command_to_go_on(rows))


class Summary(NamedTuple):
    """A run whose buying is over."""

    options: RunOptions
    result: RunResult
    title: str
    steps: Sequence[Step] = ()
    estimated: Decimal | None = None
    #: The last line of the page, or None for the steps.
    note: str | None = None
    more: Mapping[str, str] = MappingProxyType({})
    #: What earlier runs spent, and what rows say beside their inputs, by the keys of items.
    costs: Mapping[str, Decimal] = MappingProxyType({})
    kept: Mapping[str, Mapping[str, object]] = MappingProxyType({})

    def close(self, screen: Screen) -> ExitCode:
        """Write the report, print the summary and what to do next, and return the exit code."""
        code, document = self.write_report(screen)
        if screen.as_json:
            screen.document(self._document(document, code))
        else:
            self.print(document, screen)
        for step in self.steps:
            screen.note(step.why)
            screen.note(f"  {step.command}", style="bold")
        return code

    def write_report(self, screen: Screen) -> tuple[ExitCode, Mapping[str, Any]]:
        """Write the report, and return the exit code of the run, and what `report.json` says.

        What went wrong is printed. Without a report, the document is empty.
        """
        code, error = self.result.code, self.result.error
        if error is not None:
            _print_error(error, screen)
        try:
            return code, session.run(self._write())
        except (JournalError, ReportError) as unwritten:
            if not isinstance(error, JournalError):  # It would say the same again.
                _print_error(unwritten, screen)
            return code or exit_code(unwritten), {}

    async def _write(self) -> Mapping[str, Any]:
        options, result = self.options, self.result
        view = RecordView(
            options.out.absolute(),
            result.began_at,
            result.lines,
            result.failures,
            self.costs,
            self.kept,
        )
        return (await report_journal(options.journal, options.out, view, self._run())).document

    def _run(self) -> RunFacts:
        result, note = self.result, self.note
        if note is None:
            note = " ".join(f"{step.why} {step.command}" for step in self.steps)
        return RunFacts(
            started_at=result.began_at,
            ended_at=datetime.now(UTC),
            exit_word=result.exit_word,
            title=self.title,
            note=note,
            estimated=self.estimated,
            balance_before=result.balance_before,
            balance_after=result.balance_after,
            samples=result.recorder.samples,
        )

    def print(self, document: Mapping[str, Any], screen: Screen) -> None:
        """Print the summary for people."""
        for name, value in self._facts(document):
            screen.line(f"{name:<7}  {value}")

    def _facts(self, document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        result, progress = self.result, self.result.progress
        ended = {
            "succeeded": progress.succeeded,
            "failed": progress.failed,
            "uncertain": progress.uncertain,
            "not bought": progress.unbought,
            "not over": progress.in_progress,
            "not reached": result.rows - progress.read,
        }
        counts = ", ".join(f"{count:,} {word}" for word, count in ended.items() if count)
        yield "Rows", f"{result.rows:,}: {counts}"
        if failures := result.failed + _other_failures(result):
            where = f"; as rows: {self.options.out / FAILED}" if document else ""
            yield "Failed", f"{failures_of(failures)}{where}"
        if progress.resumed:
            yield "Earlier", f"{progress.resumed:,} of them come from earlier runs"
        seconds = (datetime.now(UTC) - result.began_at).total_seconds()
        yield "Time", span(seconds)
        money = f"{dollars(progress.spent)} in all"
        if result.spent_before:
            money += f", {dollars(progress.spent - result.spent_before)} in this run"
        money += ", by the documents' prices"
        if result.balance_before is not None and result.balance_after is not None:
            before, after = dollars(result.balance_before), dollars(result.balance_after)
            money += f"; balance {before} before, {after} after"
        yield "Spent", money
        if result.reconciliation is not None:
            yield "Doubts", str(result.reconciliation)
        yield from self.more.items()
        if document:
            yield "Files", f"{document['items']['files']:,} in {self.options.out}"
            yield "Report", str(self.options.out / PAGE)

    def _document(self, document: Mapping[str, Any], code: ExitCode) -> Mapping[str, object]:
        return {
            **{name: value for name, value in document.items() if name != "samples"},
            "rows": {
                "total": self.result.rows,
                "not_reached": self.result.rows - self.result.progress.read,
            },
            "folder": str(self.options.out),
            "reconciliation": _reconciliation(self.result.reconciliation),
            "exit_code": int(code),
            "next": [step._asdict() for step in self.steps],
        }


def _reconciliation(found: Reconciliation | None) -> Mapping[str, object] | None:
    if found is None:
        return None
    return {
        "verdict": found.verdict,
        "uncertain": found.uncertain,
        "bought": found.bought,
        "known": found.known,
        "known_cost": found.known_cost,
        "balance_before": found.before,
        "balance_after": found.after,
        "says": str(found),
    }


def _print_error(error: Exception, screen: Screen) -> None:
    if isinstance(error, BudgetExceededError):
        words = (
            f"--max-cost {dollars(error.max_cost)} is reached: {dollars(error.spent)} are spent,"
            f" and the next task costs {dollars(error.price)}"
        )
        screen.error(words)
        return
    for line in lines(error):
        screen.error(line)
