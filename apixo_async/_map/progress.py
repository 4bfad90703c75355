"""How far a map is: a count for every end that an input can come to, and the money spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from apixo_async._types import TaskInput, price_of
from apixo_async.errors import (
    ApixoError,
    BudgetExceededError,
    ConfigurationError,
    DownloadError,
    SubmitUncertainError,
)


class Spending:
    """What purchases cost by the documents' prices, and how much they may.

    Every purchase is reserved before it is made, and given back if nothing was bought.

    Args:
        max_cost: USD that they may cost in all, or None.
        prices: USD of one task of a model, where the documents give none.

    Attributes:
        prices: Those that were given.
        spent: USD of the purchases that were made, or may have been.
        unpriced: How many of them have no known price.
    """

    def __init__(
        self, max_cost: Decimal | None = None, prices: Mapping[str, Decimal] | None = None
    ) -> None:
        self.max_cost = max_cost
        self.spent = Decimal(0)
        self.unpriced = 0
        self.prices = dict(prices or {})

    def price_of(self, wanted: TaskInput) -> Decimal | None:
        """Return the price of an input, or None where neither documents nor caller give one.

        Raises:
            ConfigurationError: They do not, and `max_cost` is set.
        """
        price = price_of(wanted, self.prices)
        if price is None and self.max_cost is not None:
            raise ConfigurationError(
                f"{wanted.model}: the documents give no price, so that max_cost could not hold: "
                f"give one, as in prices={{{wanted.model!r}: 0.5}}"
            )
        return price

    def carry(self, spent: Decimal, unpriced: int) -> None:
        """Count what earlier runs of the same journal spent."""
        self.spent += spent
        self.unpriced += unpriced

    def reserve(self, price: Decimal | None, model: str | None = None) -> None:
        """Count a purchase of a model that is about to be made.

        Raises:
            BudgetExceededError: It would exceed `max_cost`; nothing is counted.
        """
        if price is None:
            self.unpriced += 1
            return
        if self.max_cost is not None and self.spent + price > self.max_cost:
            raise BudgetExceededError(
                f"max_cost: the next task of {model} costs ${price}, and ${self.spent} of "
                f"${self.max_cost} are spent or reserved; raise max_cost to go on",
                max_cost=self.max_cost,
                spent=self.spent,
                price=price,
                model=model,
            )
        self.spent += price

    def give_back(self, price: Decimal | None) -> None:
        """Take a purchase out of the count: nothing was bought."""
        if price is None:
            self.unpriced -= 1
        else:
            self.spent -= price


@dataclass(frozen=True, slots=True)
class Progress:
    """One instant of a map. Every input that was read is in one of the last five counts.

    Attributes:
        read: Inputs taken from the iterable.
        bought: Tasks bought, those bought again included.
        in_progress: Inputs that wait for a slot, their task or another one.
        succeeded: Inputs with a result.
        failed: Inputs whose last task ended otherwise, or is polled no more.
        uncertain: Inputs of which it cannot be known whether a task was bought.
        unbought: Inputs for which nothing was bought.
        resumed: Inputs for which an earlier run of the same journal had bought a task.
        spent: USD of all purchases by the documents' prices and those given, of those under way
            too and of those that may have been made; earlier runs of the same journal count.
        unpriced: Purchases whose price is not known.
    """

    read: int = 0
    bought: int = 0
    in_progress: int = 0
    succeeded: int = 0
    failed: int = 0
    uncertain: int = 0
    unbought: int = 0
    resumed: int = 0
    spent: Decimal = Decimal(0)
    unpriced: int = 0


class ProgressCounter:
    """The counts of a map while they change."""

    __slots__ = (
        "_failed",
        "_spending",
        "_succeeded",
        "_unbought",
        "_uncertain",
        "bought",
        "read",
        "resumed",
    )

    def __init__(self, spending: Spending | None = None) -> None:
        self._spending = spending or Spending()
        self.read = self.bought = self.resumed = 0
        self._succeeded = self._failed = self._uncertain = self._unbought = 0

    @property
    def in_progress(self) -> int:
        """Inputs that were read and have no outcome."""
        ended = self._succeeded + self._failed + self._uncertain + self._unbought
        return self.read - ended

    def ended(self, error: ApixoError | None, purchases: int) -> None:
        """Count how an input ended for which this number of tasks was bought."""
        if error is None or isinstance(error, DownloadError):
            self._succeeded += 1
        elif isinstance(error, SubmitUncertainError):
            self._uncertain += 1
        elif purchases:
            self._failed += 1
        elif error.bought is None:
            self._uncertain += 1  # It was cut off, perhaps in the middle of a POST.
        else:
            self._unbought += 1

    def progress(self) -> Progress:
        """Return the counts of this instant."""
        return Progress(
            read=self.read,
            bought=self.bought,
            in_progress=self.in_progress,
            succeeded=self._succeeded,
            failed=self._failed,
            uncertain=self._uncertain,
            unbought=self._unbought,
            resumed=self.resumed,
            spent=self._spending.spent,
            unpriced=self._spending.unpriced,
        )
