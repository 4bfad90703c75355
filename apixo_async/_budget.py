"""USD that may be spent: set aside before each purchase, given back where nothing was bought."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal, TypeAlias, get_args

from apixo_async._text import EXACT
from apixo_async._types import TaskInput, price_of
from apixo_async._validation import check_amount
from apixo_async.errors import BudgetExceededError, ConfigurationError

#: How often a budget renews, by the calendar of UTC.
Period: TypeAlias = Literal["hour", "day", "month"]


def renewal_of(period: Period, now: datetime) -> datetime:
    """Return when the period that `now` is in ends, and the next one begins."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    if period == "hour":
        return hour + timedelta(hours=1)
    day = hour.replace(hour=0)
    if period == "day":
        return day + timedelta(days=1)
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


class Budget:
    """What the purchases of a client may cost; several clients of a process may share one.

        client = AsyncClient(budget=Budget(50, per="day"))

    The price of a task, by the documents or `AsyncClient(prices=...)`, is set aside just before its
    POST, and given back if the submit is refused. It stays counted where it cannot be known whether
    a task was bought, and where a task fails: the documents promise no refund. What is under way as
    a period ends counts in the next one as well. Nothing is kept: a new process begins at 0.

    Args:
        usd: The most USD; None for no bound, only to count.
        per: Renew each "hour", "day" or "month" of UTC; None never renews.
        name: What errors call it, such as a customer's name.
        clock: Seconds since the epoch, for tests.

    Raises:
        ConfigurationError: One of them is wrong.
    """

    def __init__(
        self,
        usd: Decimal | float | str | None,
        *,
        per: Period | None = None,
        name: str = "budget",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if per is not None and per not in get_args(Period):
            raise ConfigurationError(f"{name}: per={per!r}; 'hour', 'day', 'month' or None")
        self.name = name
        self._usd = None if usd is None else check_amount(name, usd)
        self._per: Period | None = per
        self._clock = clock
        self._lock = threading.RLock()  # Blocking clients may share it: each has its thread.
        self._renews_at: datetime | None = None
        self._spent = Decimal(0)
        self._unpriced = 0
        #: What is under way; of no interest to a budget that never renews.
        self._open: set[Reservation] = set()
        self._renew()

    @property
    def usd(self) -> Decimal | None:
        """The most USD, or None for no bound."""
        return self._usd

    @property
    def spent(self) -> Decimal:
        """USD of this period's purchases, of those under way and of uncertain ones."""
        self._renew()
        return self._spent

    @property
    def left(self) -> Decimal | None:
        """USD that may still be spent in this period, or None for no bound."""
        return None if self._usd is None else EXACT.subtract(self._usd, self.spent)

    @property
    def unpriced(self) -> int:
        """How many of the purchases have no known price; 0 where there is a bound."""
        self._renew()
        return self._unpriced

    @property
    def renews_at(self) -> datetime | None:
        """When the next period begins (aware UTC), or None."""
        self._renew()
        return self._renews_at

    def __repr__(self) -> str:
        bound = "" if self._usd is None else f" of ${self._usd}"
        per = "" if self._per is None else f" per {self._per}"
        return f"<Budget {self.name}: ${self.spent}{bound} spent{per}>"

    def price_of(self, wanted: TaskInput, prices: Mapping[str, Decimal]) -> Decimal | None:
        """Return the price of an input by the documents, or else by `prices`, or None.

        Raises:
            ConfigurationError: Neither gives one, and there is a bound.
        """
        price = price_of(wanted, prices)
        if price is None and self._usd is not None:
            raise ConfigurationError(
                f"{wanted.model}: the documents give no price, so that {self.name} could not hold: "
                f"give one, as in prices={{{wanted.model!r}: 0.5}}"
            )
        return price

    def check(self, price: Decimal | None, model: str | None = None) -> None:
        """Raise if a purchase of this price would exceed it now.

        Raises:
            BudgetExceededError: It would.
        """
        spent = self.spent
        if price is None or self._usd is None or EXACT.add(spent, price) <= self._usd:
            return
        renews = self._renews_at
        advice = f"raise {self.name} to go on"
        if renews is not None:
            advice = f"{self.name} renews at {renews:%Y-%m-%d %H:%M} UTC"
        raise BudgetExceededError(
            f"{self.name}: the next task of {model} costs ${price}, and ${spent} of "
            f"${self._usd} are spent or reserved; {advice}",
            max_cost=self._usd,
            spent=spent,
            price=price,
            renews_at=renews,
            model=model,
        )

    def reserve(self, price: Decimal | None, model: str | None = None) -> Reservation:
        """Count a purchase that is about to be made.

        Args:
            price: USD, or None where it is not known.
            model: What is bought, for the error.

        Raises:
            BudgetExceededError: It would exceed the budget; nothing is counted.
        """
        with self._lock:
            self.check(price, model)
            self.carry(price or Decimal(0), int(price is None))
            reservation = Reservation(self, price)
            if self._per is not None:
                self._open.add(reservation)
            return reservation

    def settle(self, reservation: Reservation, *, bought: bool) -> None:
        """End a reservation: its purchase was made, or may have been, or else is counted no more.

        Twice is as once.
        """
        with self._lock:
            self._renew()
            if reservation.is_open and not bought:
                price = reservation.price
                self.carry((price or Decimal(0)).copy_negate(), -int(price is None))
            reservation.is_open = False
            self._open.discard(reservation)

    def carry(self, spent: Decimal, unpriced: int) -> None:
        """Count purchases that were made before, such as by earlier runs of a journal."""
        with self._lock:
            self._renew()
            self._spent = EXACT.add(self._spent, spent)
            self._unpriced += unpriced

    def _renew(self) -> None:
        if self._per is None:
            return
        now = datetime.fromtimestamp(self._clock(), UTC)
        with self._lock:
            # Never backwards: a clock that is set back must not make money available again.
            if self._renews_at is None or now >= self._renews_at:
                self._spent, self._unpriced = Decimal(0), 0
                self._renews_at = renewal_of(self._per, now)
                for reservation in self._open:  # It may be charged in either period.
                    price = reservation.price
                    self.carry(price or Decimal(0), int(price is None))


@dataclass(slots=True, eq=False)
class Reservation:
    """A purchase under way, which a budget counts.

    Attributes:
        budget: The budget.
        price: USD, or None where it is not known.
        is_open: Whether it is not known yet what became of it.
    """

    budget: Budget
    price: Decimal | None
    is_open: bool = True

    def keep(self) -> None:
        """Count the purchase from now on: it was made, or may have been."""
        self.budget.settle(self, bought=True)

    def give_back(self) -> None:
        """Count the purchase no more: nothing was bought."""
        self.budget.settle(self, bought=False)
