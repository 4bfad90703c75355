"""What the balance says of uncertain submits: advice, since others may have changed it too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Final, Literal, NamedTuple, TypeAlias

from apixo_async._text import EXACT, counted, dollars
from apixo_async._types import Charges

Verdict: TypeAlias = Literal["none", "some", "all", "unclear"]

#: The bound of what a balance is off that the service rounds to cents, before and after.
_CENT: Final = Decimal("0.01")

#: Sums that are looked at, before it is said that some were bought.
_MOST_SUMS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The fall of the balance beside what was bought; `str()` says what follows.

    It holds if nothing else used the key meanwhile, and nothing was refunded or added.

    Attributes:
        verdict: Which of the uncertain submits were bought: "none", "some", "all", or "unclear".
        bought: How many of them, or None where that does not follow.
        uncertain: How many uncertain submits there are; one that was bought anew still is one, and
            one that costs nothing is none.
        uncertain_cost: USD that they cost if all of them were bought.
        known: How many other purchases were made since `before`.
        known_cost: USD that those cost.
        before: USD on the account before the purchases, or None where that is not known.
        after: USD on it now.
    """

    verdict: Verdict
    bought: int | None
    uncertain: int
    uncertain_cost: Decimal
    known: int
    known_cost: Decimal
    before: Decimal | None
    after: Decimal
    _why: str

    @property
    def fell(self) -> Decimal | None:
        """USD by which the balance fell, or None."""
        return None if self.before is None else EXACT.subtract(self.before, self.after)

    def __str__(self) -> str:
        if not self.uncertain:
            return "no submit is uncertain"
        doubts = counted(self.uncertain, "uncertain submit")
        if self.fell is None:
            return f"{self._why}: nothing can be said of {doubts}"
        known = f"{counted(self.known, 'known purchase')} cost {dollars(self.known_cost)}"
        facts = f"the balance fell by {dollars(self.fell)}, {known}"
        if self.verdict == "unclear":
            return f"{facts}: {self._why}, so that nothing can be said of {doubts}"
        return (
            f"{facts}: {self._why} of {doubts} (if nothing else used the key, and nothing was "
            "refunded or added)"
        )


def reconciled(charges: Charges, after: Decimal) -> Reconciliation:
    """Compare what was bought with the balance, which is `after` USD now."""
    with localcontext(EXACT):
        return _reconciled(charges, after)


def _reconciled(charges: Charges, after: Decimal) -> Reconciliation:
    # What costs nothing leaves no trace, and does no harm.
    doubts = {price: count for price, count in charges.uncertain.items() if count and price != 0}
    priced = {price: count for price, count in doubts.items() if price is not None}
    count = sum(doubts.values())
    total = sum((price * each for price, each in priced.items()), Decimal(0))
    if not count:
        finding = _Finding("none", 0, "")
    elif charges.balance is None:
        finding = _unclear("the balance before the purchases is not known")
    elif charges.unpriced or sum(priced.values()) < count:
        finding = _unclear("purchases without a known price are among them")
    elif _is_in_cents(charges.balance) and _is_in_cents(after) and min(priced) < 2 * _CENT:
        finding = _unclear("the balance may be rounded to cents, too much for such prices")
    else:
        finding = _finding(charges.balance - after - charges.known_cost, total, priced)
    return Reconciliation(
        verdict=finding.verdict,
        bought=finding.bought,
        uncertain=count,
        uncertain_cost=total,
        known=charges.known,
        known_cost=charges.known_cost,
        before=charges.balance,
        after=after,
        _why=finding.why,
    )


def _is_in_cents(amount: Decimal) -> bool:
    return amount == amount.quantize(_CENT)


class _Finding(NamedTuple):
    verdict: Verdict
    bought: int | None
    why: str


def _unclear(why: str) -> _Finding:
    return _Finding("unclear", None, why)


def _finding(rest: Decimal, total: Decimal, priced: Mapping[Decimal, int]) -> _Finding:
    """Say what follows for uncertain submits that cost `total` USD if `rest` was paid for them."""
    slack = min(_CENT, *(price / 2 for price in priced))
    if rest <= -slack:
        return _unclear("it fell by less, so money was refunded or added")
    if rest >= total + slack:
        return _unclear("it fell by more than all of them cost")
    possible = _possible(rest, slack, priced)
    if not possible:
        return _unclear("no number of them costs what is left")
    if len(possible) > 1:
        paid = f"{dollars(rest)} of {dollars(total)}"
        return _Finding("some", None, f"{paid} was paid for them, so that some were bought")
    [bought] = possible
    if bought == 0:
        return _Finding("none", 0, "none was bought")
    if bought == sum(priced.values()):
        return _Finding("all", bought, "all were bought")
    return _Finding("some", bought, f"{bought} {'was' if bought == 1 else 'were'} bought")


def _possible(rest: Decimal, slack: Decimal, priced: Mapping[Decimal, int]) -> set[int]:
    """Return how many purchases may have cost `rest`."""
    sums: dict[Decimal, set[int]] = {Decimal(0): {0}}
    for price, most in priced.items():
        if len(sums) * (most + 1) > _MOST_SUMS:
            return {1, 2}  # Some: which is not worth the time to find out.
        longer: dict[Decimal, set[int]] = {}
        for paid, counts in sums.items():
            left = min(most, int((rest + slack - paid) / price))
            for more in range(left + 1):
                each = longer.setdefault(paid + more * price, set())
                each.update(count + more for count in counts)
        sums = longer
    return {count for paid, counts in sums.items() if abs(rest - paid) < slack for count in counts}
