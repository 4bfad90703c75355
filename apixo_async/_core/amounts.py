"""Money as a journal keeps it: whole micro-dollars, so that sums are exact."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal


def to_micro(price: Decimal) -> int:
    """Return a price in USD as micro-dollars, rounded up: a bound must hold.

    Raises:
        ValueError: It is negative, infinite or no number.
    """
    if not price.is_finite() or price < 0:
        raise ValueError(f"price: {price} given; USD from 0 up")
    return int(price.scaleb(6).to_integral_value(ROUND_CEILING))


def from_micro(micro: int) -> Decimal:
    """Return micro-dollars as USD."""
    return Decimal(micro).scaleb(-6)
