"""What the balance says of uncertain submits: advice, since others may have changed it too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, NamedTuple, TypeAlias

from apixo_async._text import counted, dollars
from apixo_async._types import Charges

Verdict: TypeAlias = Literal["none", "some", "all", "unclear"]

#: By how much a balance may be off that the service rounds to cents, before and after.
_ROUNDING: Final = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The fall of the balance beside what was bought; `str()` says what follows.

    It holds if nothing else used the key meanwhile, and nothing was refunded or added.

    Attributes:
        verdict: Which of the uncertain submits were bought: "none", "some", "all", or "unclear".
        bought: How many of them, or None where that does not follow.
        uncertain: How many uncertain submits there are; one that was bought anew still is one.
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
        return None if self.before is None else self.before - self.after

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
    priced = {price: count for price, count in charges.uncertain.items() if price and count}
    count = sum(charges.uncertain.values())
    total = sum((price * each for price, each in priced.items()), Decimal(0))
    if not count:
        finding = _Finding("none", 0, "")
    elif charges.balance is None:
        finding = _unclear("the balance before the purchases is not known")
    elif charges.unpriced or sum(priced.values()) < count:
        finding = _unclear("purchases without a known price are among them")
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


class _Finding(NamedTuple):
    verdict: Verdict
    bought: int | None
    why: str


def _unclear(why: str) -> _Finding:
    return _Finding("unclear", None, why)


def _finding(rest: Decimal, total: Decimal, priced: Mapping[Decimal, int]) -> _Finding:
    """Say what follows for uncertain submits that cost `total` USD if `rest` was paid for them."""
    slack = min(_ROUNDING, *(price / 2 for price in priced))
    if abs(rest) < slack:
        return _Finding("none", 0, "none was bought")
    if rest < 0:
        return _unclear("it fell by less, so money was refunded or added")
    if abs(rest - total) < slack:
        return _Finding("all", sum(priced.values()), "all were bought")
    if rest > total:
        return _unclear("it fell by more than all of them cost")
    if len(priced) > 1:
        paid = f"{dollars(rest)} of {dollars(total)}"
        return _Finding("some", None, f"{paid} was paid for them, so that some were bought")
    [price] = priced
    bought = int((rest / price).to_integral_value())
    if abs(rest - bought * price) >= slack:
        return _unclear("what is left is no multiple of their price")
    return _Finding("some", bought, f"{bought} {'was' if bought == 1 else 'were'} bought")
