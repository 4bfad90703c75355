"""What the fall of the balance says of uncertain submits."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext

import pytest

from apixo_async._map.reconciliation import reconciled
from apixo_async.journal import Charges

BOUGHT = Charges(
    balance=Decimal(100), known=1_467, known_cost=Decimal("29.34"), unpriced=0, uncertain={}
)
CENTS2, CENTS6 = Decimal("0.02"), Decimal("0.06")


@pytest.mark.parametrize(
    ("after", "uncertain", "verdict", "bought", "said"),
    [
        ("70.66", {CENTS2: 33}, "none", 0, "none was bought of 33 uncertain submits (if nothing"),
        ("70.655", {CENTS2: 33}, "none", 0, "none was bought"),  # rounded by the service
        ("70.00", {CENTS2: 33}, "all", 33, "all were bought of 33 uncertain submits (if"),
        ("70.60", {CENTS2: 33}, "some", 3, "3 were bought of 33"),
        (
            "70.54",
            {CENTS2: 3, CENTS6: 3},
            "some",
            None,
            "$0.12 of $0.24 was paid for them",
        ),
        ("70.42", {CENTS2: 3, CENTS6: 3}, "all", 6, "all were bought of 6"),
        ("70.64", {CENTS2: 1, Decimal("0.05"): 1}, "some", 1, "1 was bought of 2"),
        ("70.63", {CENTS2: 1, Decimal("0.05"): 1}, "unclear", None, "no number of them costs what"),
        ("70.645", {Decimal("0.015"): 1}, "all", 1, "all were bought of 1"),
        ("70.65", {Decimal("0.015"): 1}, "unclear", None, "may be rounded to cents"),
        ("70.64", {CENTS2: 1, Decimal(0): 5}, "all", 1, "all were bought of 1"),
        ("70.64", {CENTS2: 1}, "all", 1, "all were bought of 1 uncertain submit (if"),
        ("70.70", {CENTS2: 33}, "unclear", None, "it fell by less, so money was refunded or added"),
        ("69.98", {CENTS2: 33}, "unclear", None, "it fell by more than all of them cost"),
        ("70.63", {CENTS6: 3}, "unclear", None, "no number of them costs what is left"),
        ("70.66", {CENTS2: 3, None: 1}, "unclear", None, "without a known price"),
        ("70.66", {CENTS2: 0}, "none", 0, "no submit is uncertain"),
        ("70.66", {}, "none", 0, "no submit is uncertain"),
    ],
)
def test_what_follows(
    after: str,
    uncertain: dict[Decimal | None, int],
    verdict: str,
    bought: int | None,
    said: str,
) -> None:
    """It is none, some, all or unclear, and why."""
    found = reconciled(replace(BOUGHT, uncertain=uncertain), Decimal(after))
    assert (found.verdict, found.bought) == (verdict, bought)
    assert found.fell == 100 - Decimal(after)
    assert found.uncertain == sum(n for price, n in uncertain.items() if price != 0)
    assert said in str(found)
    if found.uncertain:
        assert f"the balance fell by ${found.fell:.2f}" in str(found) or after[-1] == "5"
        assert "1467 known purchases cost $29.34" in str(found)


def test_the_applications_own_context() -> None:
    """It rounds nothing."""
    with localcontext(prec=3):
        found = reconciled(replace(BOUGHT, uncertain={CENTS2: 33}), Decimal("70.60"))
        assert "the balance fell by $29.40" in str(found)
    assert found.bought == 3


def test_many_prices() -> None:
    """Where too many sums are possible, it is said that some were bought."""
    prices: dict[Decimal | None, int] = {Decimal(n) / 100: 100 for n in range(2, 40)}
    found = reconciled(replace(BOUGHT, uncertain=prices), Decimal(20))
    assert (found.verdict, found.bought) == ("some", None)


def test_without_a_balance() -> None:
    """Nothing follows."""
    found = reconciled(replace(BOUGHT, balance=None, uncertain={CENTS2: 1}), Decimal(70))
    assert (found.verdict, found.bought, found.fell) == ("unclear", None, None)
    assert str(found) == (
        "the balance before the purchases is not known: nothing can be said of 1 uncertain submit"
    )


def test_known_purchases_without_a_price() -> None:
    """Nor does anything follow of them."""
    charges = replace(BOUGHT, unpriced=1, uncertain={CENTS2: 1})
    found = reconciled(charges, Decimal("70.66"))
    assert found.verdict == "unclear"
