from __future__ import annotations

from decimal import Decimal

import pytest

from apixo_async.journal._forms import from_micro, to_micro


@pytest.mark.parametrize(
    ("price", "micro"),
    [
        ("0", 0),
        ("0.35", 350_000),
        ("1.40", 1_400_000),
        ("12345.678901", 12_345_678_901),
        ("0.0000001", 1),
        ("0.0000010", 1),
        ("0.0000011", 2),
    ],
)
def test_prices_are_whole_micro_dollars(price: str, micro: int) -> None:
    """A price is kept to the millionth of a dollar; what is finer is rounded up."""
    assert to_micro(Decimal(price)) == micro


def test_sums_are_exact() -> None:
    """What is added up comes back to the last digit."""
    assert from_micro(100_000 * to_micro(Decimal("0.02"))) == Decimal(2000)
    assert from_micro(1) == Decimal("0.000001")


@pytest.mark.parametrize("shown", ["0.00", "1.20", "40.00", "0.35", "0.125", "0.000001"])
def test_an_amount_has_no_needless_digits(shown: str) -> None:
    """An amount is shown with its cents, and with more digits only where it has more."""
    assert str(from_micro(to_micro(Decimal(shown)))).lower() in {shown, f"{Decimal(shown):e}"}


@pytest.mark.parametrize("price", ["-0.01", "NaN", "Infinity", "-Infinity"])
def test_no_amount_of_money(price: str) -> None:
    """What is negative or no number is refused, by its name."""
    with pytest.raises(ValueError, match=f"price: {price} given; USD from 0 up"):
        to_micro(Decimal(price))
