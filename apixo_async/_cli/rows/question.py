"""All rows added up, and the question of the price: whether to go on, to ask, or to stop."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

import typer
from rich.prompt import Confirm
from rich.text import Text

from apixo_async import ConfigurationError
from apixo_async._cli.console import Screen, dollars
from apixo_async._cli.exits import ExitCode
from apixo_async._cli.models import option_of
from apixo_async._cli.rows.rows import ParsedRow, Rows
from apixo_async._cli.rows.source import Problem, RowsSource

#: Bad rows that are shown, and doubtful ones.
SHOWN: Final = 20
DOUBTS_SHOWN: Final = 5


class PriceGroup(NamedTuple):
    """Rows that cost the same for the same reason.

    Attributes:
        option: The choice that makes the price, such as "resolution 4k"; "" where none does.
        price: USD a row, or None where nobody knows.
    """

    model: str
    option: str
    price: Decimal | None
    rows: int


@dataclass(frozen=True, slots=True)
class RowsReport:
    """All rows of a source, added up.

    Attributes:
        bought: How many of them were bought before, by the journal of the run.
    """

    name: str
    rows: int
    bought: int
    lots: tuple[PriceGroup, ...]
    bad: int = 0
    problems: tuple[Problem, ...] = ()
    doubtful: int = 0
    doubts: tuple[Problem, ...] = ()

    @property
    def to_buy(self) -> int:
        """Rows that are still to be bought."""
        return self.rows - self.bought

    @property
    def total(self) -> Decimal:
        """USD for the rows that are still to be bought and have a price."""
        return sum((lot.price * lot.rows for lot in self.lots if lot.price is not None), Decimal(0))

    @property
    def unpriced(self) -> dict[str, int]:
        """Rows that are still to be bought and have no known price, by model."""
        return {lot.model: lot.rows for lot in self.lots if lot.price is None}

    def priced(self, prices: Mapping[str, Decimal]) -> RowsReport:
        """Return the same with prices given for models that have none, USD a row."""
        lots = (
            lot if lot.price is not None else lot._replace(price=prices.get(lot.model))
            for lot in self.lots
        )
        return replace(self, lots=tuple(lots))


def check(rows: Rows, *, is_bought: Callable[[ParsedRow], bool] = lambda _row: False) -> RowsReport:
    """Read all rows once, and add up what they are, what they cost and what is wrong with them.

    Memory is that of one number for each key, and of two for each row that has a key.

    `is_bought` is asked once for each good row, in their order; it raises `ConfigurationError` for
    one that its key makes a bad one.

    Raises:
        ConfigurationError: The file has changed meanwhile.
    """
    counts = Counter[str]()
    groups = Counter[tuple[str, str, Decimal | None]]()
    problems: list[Problem] = []
    doubts: list[Problem] = []
    first_lines: dict[int, int] = {}  # By the hash of a key: the keys may be long.
    for row in rows.read():
        found = row if isinstance(row, Problem) else _repeated_key(row, first_lines)
        if not isinstance(row, Problem) and found is None:
            try:
                was_bought = is_bought(row)
            except ConfigurationError as error:
                found = Problem(row.line, str(error))
            else:
                counts["rows"] += 1
                counts["bought"] += was_bought
                if not was_bought:
                    groups[row.input.model, option_of(row.input), row.input.price] += 1
                if row.doubts:
                    counts["doubtful"] += 1
                    if len(doubts) < DOUBTS_SHOWN:
                        doubts.append(Problem(row.line, "; ".join(row.doubts)))
        if found is not None:
            counts["bad"] += 1
            if len(problems) < SHOWN:
                problems.append(found)
    lots = [PriceGroup(*kind, count) for kind, count in groups.items()]
    return RowsReport(
        name=rows.source.name,
        rows=counts["rows"],
        bought=counts["bought"],
        lots=tuple(sorted(lots, key=lambda lot: (lot.model, lot.price or Decimal(0)))),
        bad=counts["bad"],
        problems=tuple(problems),
        doubtful=counts["doubtful"],
        doubts=tuple(doubts),
    )


def _repeated_key(row: ParsedRow, first_lines: dict[int, int]) -> Problem | None:
    first = row.line if row.key is None else first_lines.setdefault(hash(row.key), row.line)
    if first == row.line:
        return None
    why = f"key: {row.key!r:.60} is the key of line {first:,} already; a key names one row"
    return Problem(row.line, why)


class Terms(NamedTuple):
    """What the command line allows.

    Attributes:
        max_cost: The most that the whole run may cost in USD, what it cost before included.
        prices: USD a task, for models without a documented price.
    """

    yes: bool = False
    yes_unknown_price: bool = False
    max_cost: Decimal | None = None
    prices: Mapping[str, Decimal] = MappingProxyType({})


class AccountState(NamedTuple):
    """How things stand."""

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
