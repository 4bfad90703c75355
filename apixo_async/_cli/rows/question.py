"""All rows added up, and the question of the price: whether to go on, to ask, or to stop."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias, cast

import typer
from rich.prompt import Confirm
from rich.text import Text

from apixo_async import ConfigurationError
from apixo_async._cli.console import Screen, counted
from apixo_async._cli.exits import ExitCode
from apixo_async._cli.models import fields_of, misspelt, option_of
from apixo_async._cli.rows.rows import ParsedRow, Rows
from apixo_async._cli.rows.source import Problem, RowsSource
from apixo_async._text import dollars

#: Bad rows that are shown, and doubtful ones.
SHOWN: Final = 20
DOUBTS_SHOWN: Final = 5


class PriceGroup(NamedTuple):
    """Rows that cost the same for the same reason."""

    model: str
    #: The choice that makes the price, such as "resolution 4k"; "" where none does.
    option: str
    #: USD a row, or None if it is not known.
    price: Decimal | None
    rows: int


@dataclass(frozen=True, slots=True)
class RowsReport:
    """All rows of a source, added up."""

    name: str
    rows: int
    #: How many of them were bought before, by the journal of the run.
    bought: int
    groups: tuple[PriceGroup, ...]
    bad: int = 0
    problems: tuple[Problem, ...] = ()
    doubtful: int = 0
    doubts: tuple[Problem, ...] = ()
    #: What rows give that is no field of their model, each with the first such row and its model.
    unknown: Mapping[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])

    @property
    def to_buy(self) -> int:
        """Rows that are still to be bought."""
        return self.rows - self.bought

    @property
    def total(self) -> Decimal:
        """USD for the rows that are still to be bought and have a price."""
        return sum(
            (group.price * group.rows for group in self.groups if group.price is not None),
            Decimal(0),
        )

    @property
    def unpriced(self) -> dict[str, int]:
        """Rows that are still to be bought and have no known price, by model."""
        return {group.model: group.rows for group in self.groups if group.price is None}

    def priced(self, prices: Mapping[str, Decimal]) -> RowsReport:
        """Return the same with prices given for models that have none, USD a row."""
        groups = (
            group if group.price is not None else group._replace(price=prices.get(group.model))
            for group in self.groups
        )
        return replace(self, groups=tuple(groups))


def check(rows: Rows, *, is_bought: Callable[[ParsedRow], bool] = lambda _row: False) -> RowsReport:
    """Read all rows once, and add up what they are, what they cost and what is wrong with them.

    Memory is that of one number for each key, and of two for each row that has a key.

    `is_bought` is asked once for each good row, in their order; it raises `ConfigurationError` for
    one that its key makes a bad one.
    """
    counts = Counter[str]()
    kinds = Counter[tuple[str, str, Decimal | None]]()
    problems: list[Problem] = []
    doubts: list[Problem] = []
    unknown: dict[str, tuple[int, str]] = {}
    first_lines: dict[int, int] = {}  # By the hash of a key: the keys may be long.
    for row in rows.read():
        was_bought = row if isinstance(row, Problem) else _asked(row, first_lines, is_bought)
        if isinstance(row, Problem) or isinstance(was_bought, Problem):
            counts["bad"] += 1
            if len(problems) < SHOWN:
                problems.append(cast("Problem", was_bought))
            continue
        for name in row.unknown[: SHOWN - len(unknown)]:
            unknown.setdefault(name, (row.line, row.input.model))
        counts["rows"] += 1
        counts["bought"] += was_bought
        if not was_bought:
            kinds[row.input.model, option_of(row.input), row.input.price] += 1
        if row.doubts:
            counts["doubtful"] += 1
            if len(doubts) < DOUBTS_SHOWN:
                doubts.append(Problem(row.line, "; ".join(row.doubts)))
    groups = [PriceGroup(*kind, count) for kind, count in kinds.items()]
    return RowsReport(
        name=rows.source.name,
        rows=counts["rows"],
        bought=counts["bought"],
        groups=tuple(sorted(groups, key=lambda group: (group.model, group.price or Decimal(0)))),
        bad=counts["bad"],
        problems=tuple(problems),
        doubtful=counts["doubtful"],
        doubts=tuple(doubts),
        unknown=unknown,
    )


def _asked(
    row: ParsedRow, first_lines: dict[int, int], is_bought: Callable[[ParsedRow], bool]
) -> bool | Problem:
    try:
        return _repeated_key(row, first_lines) or is_bought(row)
    except ConfigurationError as error:
        return Problem(row.line, str(error))


def _repeated_key(row: ParsedRow, first_lines: dict[int, int]) -> Problem | None:
    first = row.line if row.key is None else first_lines.setdefault(hash(row.key), row.line)
    if first == row.line:
        return None
    why = f"key: {row.key!r:.60} is the key of line {first:,} already; a key names one row"
    return Problem(row.line, why)


class Terms(NamedTuple):
    """What the command line allows."""

    yes: bool = False
    yes_unknown_price: bool = False
    #: The most that the whole run may cost in USD, what it cost before included.
    max_cost: Decimal | None = None
    #: USD a task, for models without a documented price.
    prices: Mapping[str, Decimal] = MappingProxyType({})
    yes_unknown_model: bool = False


class AccountState(NamedTuple):
    """How things stand."""

    balance: Decimal | None = None
    spent: Decimal = Decimal(0)
    interactive: bool = False


class Go(NamedTuple):
    """Print the notes, and go on."""

    notes: tuple[str, ...] = ()


class Ask(NamedTuple):
    """Print the notes, and ask the question."""

    notes: tuple[str, ...]
    question: str


class Stop(NamedTuple):
    """Print the notes and the errors, and end: nothing is bought."""

    errors: tuple[str, ...]
    notes: tuple[str, ...] = ()
    code: ExitCode = ExitCode.USAGE


Decision: TypeAlias = Go | Ask | Stop


def decide(report: RowsReport, terms: Terms, account: AccountState) -> Decision:
    """Decide whether a run may begin, or go on."""
    report = report.priced(terms.prices)
    wrong_models = () if terms.yes_unknown_model else tuple(_misspelt(report))
    if errors := (*wrong_models, *_faults(report)):
        return Stop(errors)
    if not report.to_buy:
        return Go((f"all {counted(report.rows)} are bought already; nothing is bought now",))
    if report.unpriced and terms.max_cost is not None:
        return Stop((f"{_no_price(report)}: --max-cost could not hold without it",))
    if report.unpriced and not terms.yes_unknown_price:
        return Stop((f"{_no_price(report)}, or buy at any price with --yes-unknown-price",))
    # What is spent at most from now on.
    cost = report.total
    if terms.max_cost is not None:
        cost = min(cost, max(terms.max_cost - account.spent, Decimal(0)))
    if not _fitting(report.groups, cost)[1]:
        cheapest = dollars(min(group.price for group in report.groups if group.price is not None))
        why = f"the cheapest row costs {cheapest}"
        if report.bought or account.spent:
            return Go((f"{_limit(terms, account)} is reached: {why}; no more is bought",))
        return Stop((f"{_limit(terms, account)} buys nothing: {why}",))
    notes = tuple(_notes(report, cost, terms, account))
    if terms.yes:
        return Go(notes)
    if not account.interactive:
        return Stop(("there is no terminal to ask on: give --yes to buy at this price",), notes)
    return Ask(notes, _question(report, cost))


def _faults(report: RowsReport) -> Iterator[str]:
    """Yield what is wrong with the rows, the sum of it last."""
    if report.unknown:
        yield f"{report.name}: {_unknown_fields(report.unknown)}"
    if report.bad:
        yield from map(str, report.problems)
        if more := report.bad - len(report.problems):
            yield f"... and {more:,} more"
        unusable = f"{report.bad:,} of {counted(report.bad + report.rows)} cannot be used"
        yield f"{report.name}: {unusable}; nothing is bought (apixo models MODEL: what it takes)"
    elif not report.rows:
        yield f"{report.name} holds no rows"


def _misspelt(report: RowsReport) -> Iterator[str]:
    """Yield what to do about each model that is probably another one, once for all of its rows."""
    rows = Counter[str]()
    for group in report.groups:
        rows[group.model] += group.rows
    for model, count in rows.items():
        if near := misspelt(model):
            yield f"{report.name}: {model} ({counted(count)}): {near}"


def _unknown_fields(unknown: Mapping[str, tuple[int, str]]) -> str:
    words: list[str] = []
    for name, (line, model) in unknown.items():
        what = f"{name!r:.60} (line {line:,}) is no field of {model}"
        if name.startswith("Unnamed: "):
            what = f"{name!r} (line {line:,}) is a column without a name, such as an index"
        elif near := get_close_matches(name.lower(), fields_of(model), 1):
            what += f" (did you mean {near[0]!r}?)"
        words.append(what)
    ignore, keep = (
        " ".join(f"{option} {shlex.quote(name)}" for name in unknown)
        for option in ("--ignore", "--keep")
    )
    return f"{'; '.join(words)}. Leave it out with {ignore}, or have it in the report: {keep}"


def _no_price(report: RowsReport) -> str:
    listed = ", ".join(f"{model} ({counted(count)})" for model, count in report.unpriced.items())
    return f"no known price: {listed}; give it, such as --price {next(iter(report.unpriced))}=0.25"


def _limit(terms: Terms, account: AccountState) -> str:
    spent = f" (spent before: {dollars(account.spent)})" if account.spent else ""
    return f"--max-cost {terms.max_cost}{spent}"


def _notes(report: RowsReport, cost: Decimal, terms: Terms, account: AccountState) -> Iterator[str]:
    if report.bought:
        yield f"{report.bought:,} of {counted(report.rows)} are bought already"
    if cost < report.total:
        fewest, most = _fitting(report.groups, cost)
        fits = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
        enough = f"is enough for {fits} of {counted(report.to_buy)}"
        yield f"{_limit(terms, account)} {enough}; the run stops there"
    if account.balance is not None and account.balance < cost:
        yield f"the balance of {dollars(account.balance)} is less than {dollars(cost)}"


def _question(report: RowsReport, cost: Decimal) -> str:
    """Word the question: how many tasks, for how much."""
    unpriced = sum(report.unpriced.values())
    priced = report.to_buy - unpriced
    parts = [f"{counted(priced, 'task')} for {dollars(cost)}"] if priced else []
    if cost < report.total:
        parts = [f"tasks for up to {dollars(cost)}"]
    if unpriced:
        parts.append(f"{counted(unpriced, 'task')} at an unknown price")
    return f"Buy {' and '.join(parts)}?"


def _fitting(groups: Iterable[PriceGroup], amount: Decimal) -> tuple[int, int]:
    """Return how many rows an amount is enough for: if the dearest come first, and last."""
    cheapest_first = sorted((group.price or Decimal(0), group.rows) for group in groups)
    return _fit(reversed(cheapest_first), amount), _fit(cheapest_first, amount)


def _fit(groups: Iterable[tuple[Decimal, int]], left: Decimal) -> int:
    """Return how many rows an amount is enough for in this order, up to the first too dear."""
    count = 0
    for price, rows in groups:
        fit = min(rows, int(left // price)) if price else rows
        left -= fit * price
        count += fit
        if fit < rows:
            break
    return count


_HEAD = ("rows", "model", "task", "price each", "sum")


def is_attended(screen: Screen) -> bool:
    """Return True if a person can be asked: stdin may be a pipe that holds the rows."""
    return sys.stdin.isatty() and screen.err.is_terminal


def show(source: RowsSource, report: RowsReport, screen: Screen) -> None:
    """Print what is to be bought at which price, and what may be a mistake, beside the results."""
    if source.is_copy:
        screen.note(f"{source.name} is kept as {source.path}; to go on later, give that file")
    if report.bad:
        return
    if report.groups:
        screen.table(_HEAD, [*_lines(report)], aside=True)
    for doubt in report.doubts:
        screen.warning(str(doubt))
    if more := report.doubtful - len(report.doubts):
        screen.warning(f"... and {more:,} more rows with something that may be a mistake")


def _lines(report: RowsReport) -> Iterator[tuple[str, ...]]:
    for group in report.groups:
        each, whole = "unknown", "unknown"
        if group.price is not None:
            each, whole = dollars(group.price), dollars(group.price * group.rows)
        yield f"{group.rows:,}", group.model, group.option, each, whole
    if len(report.groups) > 1:
        known = dollars(report.total)
        whole = f"{known} + unknown" if report.unpriced else known
        yield f"{report.to_buy:,}", "all", "", "", whole


def carry_out(decision: Decision, screen: Screen) -> None:
    """Return if the run goes on.

    Raises:
        typer.Exit: It may not; the reasons have been printed.
        typer.Abort: A person was asked, and answered no.
    """
    for note in decision.notes:
        screen.note(note)
    if isinstance(decision, Stop):
        for error in decision.errors:
            screen.error(error)
        raise typer.Exit(decision.code)
    if isinstance(decision, Ask):
        try:
            # On stderr: stdout holds results only.
            if Confirm.ask(Text(decision.question), console=screen.err, default=False):
                return
        except EOFError:
            pass
        raise typer.Abort
