"""Money is counted before it is spent, and never above what may be."""

from __future__ import annotations

import pickle
import random
from decimal import Decimal

import pytest

from apixo_async import BudgetExceededError, ConfigurationError, GptImage1, OtherModel
from apixo_async._map.progress import Spending

CAFE = GptImage1(prompt="a cafe", aspect_ratio="3:2", num_images=1)
VIDEO = OtherModel("sora-2", prompt="a cafe")


def test_reserved_and_given_back() -> None:
    """A purchase counts from its reservation on, until it is given back."""
    spending = Spending(Decimal(1))
    price = spending.price_of(CAFE)
    assert price == Decimal("0.35")
    spending.reserve(price)
    spending.reserve(price)
    with pytest.raises(BudgetExceededError, match=r"costs \$0\.35, and \$0\.70 of \$1") as caught:
        spending.reserve(price, "gpt-image-1")
    assert (caught.value.model, caught.value.task_id) == ("gpt-image-1", None)
    assert (caught.value.spent, caught.value.price) == (Decimal("0.70"), price)
    assert (caught.value.max_cost, caught.value.bought) == (Decimal(1), False)
    assert pickle.loads(pickle.dumps(caught.value)).price == price
    spending.give_back(price)
    spending.reserve(price)
    assert spending.spent == Decimal("0.70")


def test_the_last_cent() -> None:
    """What fits exactly is bought."""
    spending = Spending(Decimal("0.70"))
    spending.reserve(Decimal("0.35"))
    spending.reserve(Decimal("0.35"))
    assert spending.spent == spending.max_cost


def test_unknown_prices() -> None:
    """Without a most they are counted; with one, each needs a price."""
    spending = Spending()
    spending.reserve(spending.price_of(VIDEO))
    spending.reserve(None)
    spending.give_back(None)
    assert (spending.spent, spending.unpriced) == (Decimal(0), 1)
    with pytest.raises(ConfigurationError, match=r"prices=\{'sora-2': 0\.5\}"):
        Spending(Decimal(9)).price_of(VIDEO)


def test_prices_given() -> None:
    """A price given counts where the documents have none, and nowhere else."""
    spending = Spending(Decimal(9), {"sora-2": Decimal("0.5"), "gpt-image-1": Decimal(9)})
    assert spending.price_of(VIDEO) == Decimal("0.5")
    assert spending.price_of(CAFE) == Decimal("0.35")


def test_what_earlier_runs_spent() -> None:
    """It counts against the most."""
    spending = Spending(Decimal(1))
    spending.carry(Decimal("0.9"), 2)
    assert (spending.spent, spending.unpriced) == (Decimal("0.9"), 2)
    with pytest.raises(BudgetExceededError):
        spending.reserve(Decimal("0.35"))


def test_never_above_the_most() -> None:
    """Whatever is reserved and given back in whatever order, the most holds."""
    rng, spending, held = random.Random(3), Spending(Decimal(5)), list[Decimal]()
    for _ in range(2_000):
        if held and rng.random() < 0.4:
            spending.give_back(held.pop(rng.randrange(len(held))))
            continue
        price = Decimal(rng.randrange(1, 200)) / 100
        try:
            spending.reserve(price)
        except BudgetExceededError:
            assert sum(held) + price > 5
        else:
            held.append(price)
        assert sum(held) == spending.spent <= 5
