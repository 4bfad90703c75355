"""The question of the price: whether to go on, to ask, or to stop; and how it is put."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import typer
from rich.prompt import Confirm
from rich.text import Text

from apixo_async._cli.console import Screen, dollars
from apixo_async._cli.exits import ExitCode
from apixo_async._cli.rows.source import RowsSource
from apixo_async._cli.rows.survey import PriceGroup, RowsReport


class Terms(NamedTuple):
    """What the command line allows.

    Attributes:
        yes: Buy without a question.
        yes_unknown_price: Buy what has no known price, too.
        max_cost: The most that the whole run may cost in USD, what it cost before included.
        prices: USD a task, for models without a documented price.
    """

    yes: bool = False
    yes_unknown_price: bool = False
    max_cost: Decimal | None = None
    prices: Mapping[str, Decimal] = MappingProxyType({})


class AccountState(NamedTuple):
    """How things stand.

    Attributes:
        balance: USD left on the key, or None where nobody knows.
        spent: USD that the run cost before, by its journal.
        interactive: Whether somebody is there to be asked.
    """

    balance: Decimal | None = None
    spent: Decimal = Decimal(0)
    interactive: bool = False


class Go(NamedTuple):
    """Go on, and say the notes."""

    notes: tuple[str, ...] = ()


class Ask(NamedTuple):
    """Say the notes, and ask the question."""

    notes: tuple[str, ...]
    question: str


class Stop(NamedTuple):
    """Say the notes and the errors, and end: nothing is bought."""

    errors: tuple[str, ...]
    notes: tuple[str, ...] = ()
    code: ExitCode = ExitCode.USAGE


Decision: TypeAlias = Go | Ask | Stop


def decide(survey: RowsReport, terms: Terms, standing: AccountState) -> Decision:
    """Decide whether a run may begin, or go on."""
    survey = survey.priced(terms.prices)
    if errors := tuple(_faults(survey)):
        return Stop(errors)
    if not survey.to_buy:
        return Go((f"all {_rows(survey.rows)} are bought already; nothing is bought now",))
    if survey.unpriced and terms.max_cost is not None:
        return Stop((f"{_no_price(survey)}: --max-cost could not hold without it",))
    if survey.unpriced and not terms.yes_unknown_price:
        return Stop((f"{_no_price(survey)}, or buy at any price with --yes-unknown-price",))
    cost = _cost(survey.total, terms, standing)
    if not _fitting(survey.lots, cost)[1]:
        return _no_room(survey, terms, standing)
    notes = tuple(_notes(survey, cost, terms, standing))
    if terms.yes:
        return Go(notes)
    if not standing.interactive:
        return Stop(("nobody is here to be asked: give --yes to buy at this price",), notes)
    return Ask(notes, _question(survey, cost))


def _cost(total: Decimal, terms: Terms, standing: AccountState) -> Decimal:
    """Return what is spent at most from now on, in USD."""
    if terms.max_cost is None:
        return total
    return min(total, max(terms.max_cost - standing.spent, Decimal(0)))


def _faults(survey: RowsReport) -> Iterator[str]:
    """Say what is wrong with the rows, the sum of it last."""
    if survey.bad:
        yield from map(str, survey.problems)
        if more := survey.bad - len(survey.problems):
            yield f"... and {more:,} more"
        unusable = f"{survey.bad:,} of {_rows(survey.bad + survey.rows)} cannot be used"
        yield f"{survey.name}: {unusable}; nothing is bought (apixo models MODEL: what it takes)"
    elif not survey.rows:
        yield f"{survey.name} holds no rows"


def _no_price(survey: RowsReport) -> str:
    listed = ", ".join(f"{model} ({_rows(count)})" for model, count in survey.unpriced.items())
    return f"no known price: {listed}; give it, such as --price {next(iter(survey.unpriced))}=0.25"


def _no_room(survey: RowsReport, terms: Terms, standing: AccountState) -> Go | Stop:
    limit = _limit(terms, standing)
    cheapest = dollars(min(lot.price for lot in survey.lots if lot.price is not None))
    if survey.bought or standing.spent:
        return Go((f"{limit} is reached: the cheapest row costs {cheapest}; no more is bought",))
    return Stop((f"{limit} buys nothing: the cheapest row costs {cheapest}",))


def _limit(terms: Terms, standing: AccountState) -> str:
    spent = f" (spent before: {dollars(standing.spent)})" if standing.spent else ""
    return f"--max-cost {terms.max_cost}{spent}"


def _notes(
    survey: RowsReport, cost: Decimal, terms: Terms, standing: AccountState
) -> Iterator[str]:
    if survey.bought:
        yield f"{survey.bought:,} of {_rows(survey.rows)} are bought already"
    if cost < survey.total:
        fewest, most = _fitting(survey.lots, cost)
        fits = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
        enough = f"is enough for {fits} of {_rows(survey.to_buy)}"
        yield f"{_limit(terms, standing)} {enough}; the run stops there"
    if standing.balance is not None and standing.balance < cost:
        yield f"the balance of {dollars(standing.balance)} is less than {dollars(cost)}"


def _question(survey: RowsReport, cost: Decimal) -> str:
    """Word the question: how many tasks, for how much."""
    unpriced = sum(survey.unpriced.values())
    priced = survey.to_buy - unpriced
    parts = [f"{_tasks(priced)} for {dollars(cost)}"] if priced else []
    if cost < survey.total:
        parts = [f"tasks for up to {dollars(cost)}"]
    if unpriced:
        parts.append(f"{_tasks(unpriced)} at an unknown price")
    return f"Buy {' and '.join(parts)}?"


def _fitting(lots: Iterable[PriceGroup], amount: Decimal) -> tuple[int, int]:
    """Return how many rows an amount is enough for: if the dearest come first, and last."""
    cheapest_first = sorted((lot.price or Decimal(0), lot.rows) for lot in lots)
    return _fit(reversed(cheapest_first), amount), _fit(cheapest_first, amount)


def _fit(lots: Iterable[tuple[Decimal, int]], left: Decimal) -> int:
    """Return how many rows an amount is enough for in this order, up to the first too dear."""
    count = 0
    for price, rows in lots:
        fit = min(rows, int(left // price)) if price else rows
        left -= fit * price
        count += fit
        if fit < rows:
            break
    return count


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count:,} tasks"


_HEAD = ("rows", "model", "task", "price each", "sum")


def is_attended(screen: Screen) -> bool:
    """Return whether somebody is there to be asked: stdin may be a pipe that holds the rows."""
    return sys.stdin.isatty() and screen.err.is_terminal


def show(source: RowsSource, survey: RowsReport, screen: Screen) -> None:
    """Print what is to be bought at which price, and what may be a mistake, beside the results."""
    if source.is_copy:
        screen.note(f"{source.name} is kept as {source.path}; to go on later, give that file")
    if survey.bad:
        return
    if survey.lots:
        screen.table(_HEAD, [*_lines(survey)], aside=True)
    for doubt in survey.doubts:
        screen.warning(str(doubt))
    if more := survey.doubtful - len(survey.doubts):
        screen.warning(f"... and {more:,} more rows with something that may be a mistake")


def _lines(survey: RowsReport) -> Iterator[tuple[str, ...]]:
    for lot in survey.lots:
        each, whole = "unknown", "unknown"
        if lot.price is not None:
            each, whole = dollars(lot.price), dollars(lot.price * lot.rows)
        yield f"{lot.rows:,}", lot.model, lot.option, each, whole
    if len(survey.lots) > 1:
        known = dollars(survey.total)
        whole = f"{known} + unknown" if survey.unpriced else known
        yield f"{survey.to_buy:,}", "all", "", "", whole


def carry_out(decision: Decision, screen: Screen) -> None:
    """Return if the run goes on.

    Raises:
        typer.Exit: It may not; the reasons have been said.
        typer.Abort: Somebody was asked, and said no.
    """
    for note in decision.notes:
        screen.note(note)
    if isinstance(decision, Stop):
        for error in decision.errors:
            screen.error(error)
        raise typer.Exit(decision.code)
    if isinstance(decision, Ask) and not _says_yes(decision.question, screen):
        raise typer.Abort


def _says_yes(question: str, screen: Screen) -> bool:
    try:
        # On stderr: stdout holds results only.
        return Confirm.ask(Text(question), console=screen.err, default=False)
    except EOFError:
        return False
