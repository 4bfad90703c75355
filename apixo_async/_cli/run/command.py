"""`apixo run`: from the file of rows to the report."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from apixo_async import ConfigurationError, FailureCategory, JournalWarning, Limits
from apixo_async._cli import options, session
from apixo_async._cli.console import Screen, counted
from apixo_async._cli.inputs import parse_amount, parse_prices
from apixo_async._cli.rows.question import (
    AccountState,
    RowsReport,
    Stop,
    Terms,
    carry_out,
    check,
    decide,
    is_attended,
    show,
)
from apixo_async._cli.rows.source import Format
from apixo_async._cli.run.buying import Runner
from apixo_async._cli.run.history import JournalHistory, read_history
from apixo_async._cli.run.options import RunOptions, ask_balance
from apixo_async._cli.run.report import write_kept
from apixo_async._cli.run.summary import Summary, steps
from apixo_async._cli.simulate import check_installed
from apixo_async.errors import FAILURE_CATEGORIES

_DOCUMENTED: Final = Limits()


def run(
    rows: Annotated[
        str,
        typer.Argument(metavar="FILE", help="Rows: JSON Lines, CSV or plain prompts; - for stdin."),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Folder of the files, the journal, the report."),
    ],
    model: Annotated[
        str | None, typer.Option("--model", help="Model of the rows that name none.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A field for rows that lack it. Repeatable."
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="COLUMN", help="Leave a column out. Repeatable."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep",
            metavar="COLUMN",
            help="Do not send a column, and have it in the report. Repeatable.",
        ),
    ] = None,
    format_: Annotated[
        Format | None, typer.Option("--format", help="Unless FILE's name or first line tells it.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Buy without a question.")] = False,
    max_cost: Annotated[
        str | None,
        typer.Option(metavar="USD", help="The most that all may cost, earlier runs included."),
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=USD", help="Price of a task, where none is known. Repeatable."),
    ] = None,
    yes_unknown_price: Annotated[
        bool, typer.Option("--yes-unknown-price", help="Buy what has no known price, too.")
    ] = False,
    yes_unknown_model: options.YesUnknownModel = False,
    attempts: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Tasks bought for a row at most, if they fail."),
    ] = 1,
    retry_failed: Annotated[
        list[str] | None,
        typer.Option(
            options.RETRY_FAILED,
            metavar="[=CATEGORY]",
            help="Buy anew what failed in an earlier run: all, or such as =timeout,upstream.",
        ),
    ] = None,
    resubmit_uncertain: Annotated[
        bool,
        typer.Option("--resubmit-uncertain", help="Buy anew what may have been bought already."),
    ] = False,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="TEMPLATE",
            help="Names of the files, such as '{row:04}-{slug}': also {key}, {model}, {task_id},"
            " {index}.",
        ),
    ] = None,
    provider: options.ByProvider = None,
    concurrent_tasks: Annotated[
        int, typer.Option(min=1, metavar="N", help="The account's limit of tasks at once.")
    ] = _DOCUMENTED.concurrent_tasks,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            envvar="APIXO_STORE",
            metavar="STORE",
            help="Share the limits with the other processes of this store: a file of SQLite, or a"
            " postgresql:// URL, which is better in APIXO_STORE.",
        ),
    ] = None,
    requests_per_minute: Annotated[
        int, typer.Option(min=1, metavar="N", help="The account's limit of requests.")
    ] = _DOCUMENTED.requests_per_minute,
    simulate: Annotated[
        bool,
        typer.Option(
            "--simulate", help="On the embedded simulator: no key, no network, nothing is bought."
        ),
    ] = False,
    as_json: options.AsJson = False,
    key_file: options.KeyFile = None,
    base_url: options.BaseUrl = None,
) -> None:
    """Buy all rows of a FILE, and save what comes of it, with a report to look at.

    The same command goes on where an earlier one ended: nothing is bought
    twice. Ctrl-C ends the buying and waits for what is bought; a second
    one leaves at once. Nothing is lost in either case.
    """
    options = RunOptions(
        rows=rows,
        out=out,
        terms=Terms(
            yes=yes or simulate,  # No money is spent.
            yes_unknown_price=yes_unknown_price,
            yes_unknown_model=yes_unknown_model,
            max_cost=None if max_cost is None else parse_amount("--max-cost", max_cost),
            prices=parse_prices(price or ()),
        ),
        limits=Limits(concurrent_tasks, requests_per_minute),
        store=store,
        access=session.Access(key_file, base_url),
        form=format_,
        model=model,
        sets=tuple(set_ or ()),
        provider=provider,
        name=name,
        attempts=attempts,
        retry=_categories(retry_failed or ()),
        ignore=tuple(ignore or ()),
        keep=tuple(keep or ()),
        resubmit_uncertain=resubmit_uncertain,
        simulate=simulate,
    )
    screen = Screen(as_json=as_json)
    with session.terminated_as_interrupted(), journal_warnings(screen):
        _run(options, screen)


def _categories(given: Iterable[str]) -> tuple[FailureCategory, ...]:
    named = {name.strip() for value in given for name in value.split(",")}
    if unknown := named - {"all", *FAILURE_CATEGORIES}:
        raise ConfigurationError(
            f"{options.RETRY_FAILED}={min(unknown)}: a task fails for "
            f"{', '.join(FAILURE_CATEGORIES)}; "
            "all else that has no result is tried again anyway"
        )
    if "all" in named:
        return FAILURE_CATEGORIES
    return tuple(one for one in FAILURE_CATEGORIES if one in named)


@contextmanager
def journal_warnings(screen: Screen) -> Generator[None]:
    """Print each warning of a journal once, as a line: it is opened several times in a run."""
    shown: set[str] = set()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_once(*given: Any, **more: Any) -> None:
            message, category = given[:2]
            if not issubclass(category, JournalWarning):
                show(*given, **more)
            elif str(message) not in shown:
                shown.add(str(message))
                screen.warning(str(message))

        warnings.simplefilter("always", JournalWarning)
        warnings.showwarning = show_once
        yield


def _run(options: RunOptions, screen: Screen) -> None:
    if options.simulate:
        check_installed()
    rows = options.open_rows()
    history = session.run(read_history(options))
    report = check(rows, is_bought=history.is_bought)
    show(rows.source, report.priced(options.terms.prices), screen)
    balance = _agree(options, report, history, screen)
    kept = write_kept(options.out, history.kept)
    runner = Runner(
        options,
        f"apixo run: {counted(report.rows)} of {rows.source.name} into {options.out}",
        rows.entries(),
        report.rows,
        screen,
        history.lines,
        history.spent,
    )
    try:
        result = session.run(runner.buy(balance))
    except typer.Exit:
        screen.note("Nothing is lost, and no report was written. To go on, run the same again:")
        screen.note(f"  {options.command_to_go_on(rows.source.path)}", style="bold")
        raise
    path = rows.source.path
    estimated = history.spent + report.priced(options.terms.prices).total
    summary = Summary(
        options,
        result,
        f"apixo run: {path.name}",
        [*steps(options, path, estimated, result)],
        estimated,
        costs=history.costs,
        kept=kept,
    )
    raise typer.Exit(summary.close(screen))


def _agree(
    options: RunOptions, report: RowsReport, history: JournalHistory, screen: Screen
) -> Decimal:
    """Return the balance, once it is agreed that the run may begin."""
    account = AccountState(spent=history.spent, interactive=is_attended(screen))
    before = decide(report, options.terms, account)
    if isinstance(before, Stop):  # It needs no network to say so.
        carry_out(before, screen)
    balance = session.run(ask_balance(options, screen))
    carry_out(decide(report, options.terms, account._replace(balance=balance)), screen)
    return balance
