"""The money of a bulk run: every purchase is reserved before it is made, and given back if not."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from apixo_async._types import TaskInput
from apixo_async.errors import BudgetExceededError, ConfigurationError


class Spending:
    """What purchases cost by the documents' prices, and how much they may.

    Args:
        max_cost: USD that they may cost in all, or None.
        prices: USD of one task of a model, where the documents give none.

    Attributes:
        spent: USD of the purchases that were made, or may have been.
        unpriced: How many of them have no known price.
    """

    def __init__(
        self, max_cost: Decimal | None = None, prices: Mapping[str, Decimal] | None = None
    ) -> None:
        self.max_cost = max_cost
        self.spent = Decimal(0)
        self.unpriced = 0
        self._prices = dict(prices or {})

    def price_of(self, wanted: TaskInput) -> Decimal | None:
        """Return the price of an input, or None where nobody gave one.

        Raises:
            ConfigurationError: Nobody did, and there is a most that all may cost.
        """
        price = self._prices.get(wanted.model) if wanted.price is None else wanted.price
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
            BudgetExceededError: It would cost too much; nothing is counted.
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
        """Count a purchase no more: nothing was bought."""
        if price is None:
            self.unpriced -= 1
        else:
            self.spent -= price
