"""`apixo report`: the report of any journal, at any moment, without a key and without a network."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, cast

import typer

from apixo_async import ConfigurationError, JournalError, __version__
from apixo_async._cli import exits, options, session
from apixo_async._cli.console import Screen
from apixo_async._cli.exits import ExitCode
from apixo_async._cli.report.records import RunFacts
from apixo_async._cli.report.replacing import replacing
from apixo_async._cli.report.write import PAGE, ReportWriter, line
from apixo_async._cli.run.history import RecordView
from apixo_async._cli.run.options import JOURNALS
from apixo_async._text import dollars
from apixo_async.journal import open_journal

#: What rows say beside their inputs, which no journal has: a line for each, and for all runs.
_KEPT: Final = "kept.jsonl"

Kept = Mapping[str, Mapping[str, object]]


def read_kept(folder: Path) -> Kept:
    """Return what rows of all runs say beside their inputs, by key; none where nothing is kept."""
    path, kept = folder / _KEPT, dict[str, Mapping[str, object]]()
    if path.exists():
        with path.open("rb") as file:
            for text in file:
                try:
                    key, fields = json.loads(text)
                    kept[str(key)] = dict(fields)
                except (ValueError, TypeError, RecursionError):
                    continue  # It was changed by hand; the report goes without it.
    return kept


def write_kept(folder: Path, kept: Kept) -> Kept:
    """Add to what rows of earlier runs say, and return all of it.

    Raises:
        ReportError: It cannot be written.
    """
    if not kept:
        return read_kept(folder)
    merged = {**read_kept(folder), **kept}
    with replacing(folder / _KEPT) as draft:
        for pair in merged.items():
            draft.write(line(pair) + b"\n")
    return merged


class WrittenReport(NamedTuple):
    """What was written."""

    #: What `report.json` says.
    document: Mapping[str, Any]
    #: Rows that cannot be read, and are left out.
    damaged: tuple[JournalError, ...] = ()


async def report_journal(
    journal: Path, folder: Path, view: RecordView, run: RunFacts, *, leave_out: bool = False
) -> WrittenReport:
    """Write the report of a journal into a folder.

    Args:
        journal: The journal.
        folder: Where the report goes.
        view: What is known of the items beside the journal.
        run: What is known of the run.
        leave_out: Whether a row that cannot be read is left out, and raises nothing.

    Raises:
        JournalError: The journal, or a row of it, cannot be read.
        ReportError: A file cannot be written.
    """
    damaged: list[JournalError] = []
    async with open_journal(journal) as reader:
        if run.started_at is None and reader.in_use:
            view = view._replace(in_use=True)
            run = run._replace(exit_word="a run is under way")
        with ReportWriter(folder, run.title) as report:
            async for entry in reader.entries():
                if leave_out and isinstance(entry.error, JournalError):
                    damaged.append(entry.error)
                else:
                    report.add(view.record(entry))
            facts = {"apixo-async": __version__, "python": platform.python_version()}
            document = report.finish(run._replace(ended_at=datetime.now(UTC), versions=facts))
    return WrittenReport(document, tuple(damaged))


def failures_of(counts: Counter[Any]) -> str:
    """Return how many items failed for what, most of them first."""
    return ", ".join(f"{count:,} {category}" for category, count in counts.most_common())


def report(
    place: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a run, or the journal of any map.")
    ],
    as_json: options.AsJson = False,
) -> None:
    """Write the report of a run at any moment: while it goes on, and after a kill.

    It reads the journal alone, and needs no key and no network. index.html,
    results.jsonl, failed.jsonl and report.json are written beside it.
    """
    screen, journal = Screen(as_json=as_json), _journal_in(place)
    folder = journal.parent
    view = RecordView(folder.absolute(), kept=read_kept(folder))
    now = datetime.now(UTC)
    run = RunFacts(None, now, f"as of {now:%Y-%m-%d %H:%M} UTC", f"apixo report: {journal}")
    document, damaged = session.run(report_journal(journal, folder, view, run, leave_out=True))
    for error in damaged:
        for words in exits.lines(error):
            screen.error(words)
    if screen.as_json:
        screen.document({name: value for name, value in document.items() if name != "samples"})
    else:
        _show(document, folder, screen)
    raise typer.Exit(ExitCode.JOURNAL if damaged else ExitCode.OK)


def _journal_in(place: Path) -> Path:
    if not place.is_dir():
        return place
    found = [place / name for name in JOURNALS if (place / name).exists()]
    if not found:
        names = " or ".join(JOURNALS)
        raise ConfigurationError(
            f"{place} holds no {names}: give the folder of a run, or a journal"
        )
    return found[0]


def _show(document: Mapping[str, Any], folder: Path, screen: Screen) -> None:
    items, money = document["items"], document["money"]
    states = cast("Mapping[str, int]", items["states"])
    counts = ", ".join(f"{count:,} {state}" for state, count in states.items() if count)
    screen.line(f"{'Items':<7}  {items['total']:,}: {counts or 'none yet'}")
    if items["failures"]:
        screen.line(f"{'Failed':<7}  {failures_of(Counter(items['failures']))}")
    spent = f"{dollars(money['spent'])} by the documents' prices"
    if money["uncertain"]:
        spent += f", and perhaps {dollars(money['uncertain'])} for what is uncertain"
    screen.line(f"{'Spent':<7}  {spent}")
    screen.line(f"{'Report':<7}  {folder / PAGE}")
