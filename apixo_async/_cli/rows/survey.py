"""What a first reading of all rows finds: how many of what at which price, and what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final, NamedTuple, TypeAlias

from apixo_async import ConfigurationError
from apixo_async._cli.figures import option_of
from apixo_async._cli.rows.formats import Problem
from apixo_async._cli.rows.rows import ParsedRow, Rows

#: Bad rows that are shown, and doubtful ones.
SHOWN: Final = 20
DOUBTS_SHOWN: Final = 5


#: Model, option and price of a lot.
_PriceKind: TypeAlias = tuple[str, str, Decimal | None]


class PriceGroup(NamedTuple):
    """Rows that cost the same for the same reason.

    Attributes:
        model: The model.
        option: The choice that makes the price, such as "resolution 4k"; "" where none does.
        price: USD a row, or None where nobody knows.
        rows: How many there are that are not bought yet.
    """

    model: str
    option: str
    price: Decimal | None
    rows: int


@dataclass(frozen=True, slots=True)
class RowsReport:
    """All rows of a source, added up.

    Attributes:
        name: What the person knows the source by.
        rows: Good rows.
        bought: How many of them were bought before, by the journal of the run.
        lots: The others, by price.
        bad: Bad rows.
        problems: The first of them.
        doubtful: Rows with something that may be a mistake.
        doubts: The first of those.
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


def _never(_row: ParsedRow) -> bool:
    return False


def check(rows: Rows, *, is_bought: Callable[[ParsedRow], bool] = _never) -> RowsReport:
    """Read all rows once, and add up what they are, what they cost and what is wrong with them.

    Args:
        rows: The rows.
        is_bought: Whether a row was bought before; it is asked once for each good row, in their
            order, and raises `ConfigurationError` for one that its key makes a bad one.

    Raises:
        ConfigurationError: The file has changed meanwhile.
        OSError: It cannot be read.
    """
    tally = _RowsTally(is_bought)
    for row in rows.read():
        tally.add(row)
    return tally.survey(rows.source.name)


@dataclass(slots=True)
class _RowsTally:
    """Adds rows up. Its memory is one number a key, and two a row that has one."""

    is_bought: Callable[[ParsedRow], bool]
    lots: Counter[_PriceKind] = field(default_factory=lambda: Counter[_PriceKind]())
    rows: int = 0
    bought: int = 0
    bad: int = 0
    problems: list[Problem] = field(default_factory=list[Problem])
    doubtful: int = 0
    doubts: list[Problem] = field(default_factory=list[Problem])
    # The hash of a key, and not the key: a hundred thousand keys may be long.
    keys: dict[int, int] = field(default_factory=dict[int, int])

    def add(self, row: ParsedRow | Problem) -> None:
        if isinstance(row, ParsedRow):
            row = self._unique(row)
        if isinstance(row, ParsedRow):
            row = self._count(row) or row
        if isinstance(row, Problem):
            self.bad += 1
            _keep(self.problems, row, SHOWN)

    def _unique(self, row: ParsedRow) -> ParsedRow | Problem:
        if row.key is None:
            return row
        first = self.keys.setdefault(hash(row.key), row.line)
        if first == row.line:
            return row
        why = f"key: {row.key!r:.60} is the key of line {first:,} already; a key names one row"
        return Problem(row.line, why)

    def _count(self, row: ParsedRow) -> Problem | None:
        try:
            is_bought = self.is_bought(row)
        except ConfigurationError as error:
            return Problem(row.line, str(error))
        self.rows += 1
        if row.doubts:
            self.doubtful += 1
            _keep(self.doubts, Problem(row.line, "; ".join(row.doubts)), DOUBTS_SHOWN)
        if is_bought:
            self.bought += 1
        else:
            self.lots[row.input.model, option_of(row.input), row.input.price] += 1
        return None

    def survey(self, name: str) -> RowsReport:
        lots = tuple(
            PriceGroup(*kind, rows) for kind, rows in sorted(self.lots.items(), key=_place)
        )
        return RowsReport(
            name,
            self.rows,
            self.bought,
            lots,
            self.bad,
            tuple(self.problems),
            self.doubtful,
            tuple(self.doubts),
        )


def _keep(problems: list[Problem], problem: Problem, most: int) -> None:
    if len(problems) < most:
        problems.append(problem)


def _place(entry: tuple[_PriceKind, int]) -> tuple[str, Decimal]:
    model, _, price = entry[0]
    return model, price or Decimal(0)
