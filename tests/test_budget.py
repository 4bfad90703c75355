"""Money is counted before it is spent, and never above what may be."""

from __future__ import annotations

import pickle
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Any

import pytest

from apixo_async import Budget, BudgetExceededError, ConfigurationError, GptImage1, OtherModel
from apixo_async._budget import Period, Reservation, renewal_of

CAFE = GptImage1(prompt="a cafe", aspect_ratio="3:2", num_images=1)
VIDEO = OtherModel("sora-2", prompt="a cafe")
PRICE = Decimal("0.35")


class Clock:
    """A wall clock that is set by hand."""

    def __init__(self, iso: str) -> None:
        self.set(iso)

    def set(self, iso: str) -> None:
        self.now = datetime.fromisoformat(iso).replace(tzinfo=UTC).timestamp()

    def __call__(self) -> float:
        return self.now


def test_reserved_and_given_back() -> None:
    """A purchase counts from its reservation on, until it is given back, once."""
    budget = Budget(1)
    assert budget.price_of(CAFE, {}) == PRICE
    first = budget.reserve(PRICE)
    budget.reserve(PRICE)
    with pytest.raises(BudgetExceededError, match=r"costs \$0\.35, and \$0\.70 of \$1") as caught:
        budget.reserve(PRICE, "gpt-image-1")
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.model, error.task_id, error.bought) == ("gpt-image-1", None, False)
    assert (error.spent, error.price, error.max_cost) == (Decimal("0.70"), PRICE, Decimal(1))
    assert (error.left, error.renews_at) == (Decimal("0.30"), None)
    first.give_back()
    first.give_back()
    assert (budget.spent, budget.left) == (PRICE, Decimal("0.65"))


def test_the_last_cent() -> None:
    """What fits exactly is bought."""
    budget = Budget("0.70")
    budget.reserve(PRICE)
    budget.reserve(PRICE)
    assert budget.spent == budget.usd


def test_unknown_prices() -> None:
    """Without a bound they are counted; with one, each needs a price."""
    budget = Budget(None)
    budget.reserve(budget.price_of(VIDEO, {}))
    budget.reserve(None).give_back()
    assert (budget.spent, budget.unpriced, budget.left) == (Decimal(0), 1, None)
    with pytest.raises(ConfigurationError, match=r"customer-42 .*prices=\{'sora-2': 0\.5\}"):
        Budget(9, name="customer-42").price_of(VIDEO, {})


def test_prices_given() -> None:
    """A price given counts where the documents have none, and nowhere else."""
    prices = {"sora-2": Decimal("0.5"), "gpt-image-1": Decimal(9)}
    assert Budget(9).price_of(VIDEO, prices) == Decimal("0.5")
    assert Budget(9).price_of(CAFE, prices) == PRICE


def test_what_was_spent_before() -> None:
    """It counts against the bound."""
    budget = Budget(1)
    budget.carry(Decimal("0.9"), 2)
    assert (budget.spent, budget.unpriced) == (Decimal("0.9"), 2)
    with pytest.raises(BudgetExceededError):
        budget.reserve(PRICE)


@pytest.mark.parametrize(
    ("per", "now", "renewal"),
    [
        ("hour", "2026-11-28T08:59:59.999", "2026-11-28T09:00"),
        ("hour", "2026-12-31T23:00", "2027-01-01T00:00"),
        ("day", "2026-11-28T00:00", "2026-11-29T00:00"),
        ("day", "2028-02-28T12:00", "2028-02-29T00:00"),
        ("month", "2026-01-31T23:59", "2026-02-01T00:00"),
        ("month", "2026-12-01T00:00", "2027-01-01T00:00"),
    ],
)
def test_when_it_renews(per: Period, now: str, renewal: str) -> None:
    """By the calendar of UTC."""
    at = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert renewal_of(per, at) == datetime.fromisoformat(renewal).replace(tzinfo=UTC)


def test_a_day() -> None:
    """The next one begins at 0, once, however clocks are set."""
    clock = Clock("2026-11-28T23:59")
    budget = Budget(1, per="day", clock=clock)
    for _ in range(2):
        budget.reserve(PRICE).keep()
    with pytest.raises(BudgetExceededError, match="; budget renews at 2026-11-29 00:00 UTC"):
        budget.reserve(PRICE)
    clock.set("2026-11-29T00:00")
    assert (budget.spent, budget.renews_at) == (0, datetime(2026, 11, 30, tzinfo=UTC))
    budget.reserve(PRICE)
    assert budget.left == 1 - PRICE
    clock.set("2026-11-27T12:00")
    assert budget.spent == PRICE
    assert repr(budget) == "<Budget budget: $0.35 of $1 spent per day>"


def test_what_is_under_way_as_a_day_ends() -> None:
    """It may be charged after midnight, and counts in both."""
    clock = Clock("2026-11-28T23:59")
    budget = Budget(1, per="day", clock=clock)
    kept, given_back = budget.reserve(Decimal("0.30")), budget.reserve(Decimal("0.20"))
    bought = budget.reserve(PRICE)
    bought.keep()
    clock.set("2026-11-29T00:00")
    assert budget.spent == Decimal("0.50")
    given_back.give_back()
    kept.keep()
    kept.give_back()
    bought.give_back()
    assert budget.spent == Decimal("0.30")


def test_the_applications_own_context() -> None:
    """It rounds no cent away."""
    with localcontext(prec=3):
        budget = Budget("10.01")
        budget.carry(Decimal("10.00"), 0)
        budget.reserve(Decimal("0.01"))
        with pytest.raises(BudgetExceededError):
            budget.reserve(Decimal("0.01"))
    assert (budget.spent, budget.left) == (Decimal("10.01"), 0)


@pytest.mark.parametrize(
    "wrong",
    [{"usd": -1}, {"usd": 10**5_000}, {"usd": "much"}, {"usd": True}, {"usd": 1, "per": "week"}],
)
def test_what_is_no_budget(wrong: dict[str, Any]) -> None:
    """It says what can be one."""
    with pytest.raises(ConfigurationError, match=r"USD from 0 up|'hour', 'day'"):
        Budget(**wrong)


def test_never_above_the_bound() -> None:
    """Whatever is reserved and given back in whatever order."""
    rng, budget, held = random.Random(3), Budget(5), list[Reservation]()
    for _ in range(2_000):
        if held and rng.random() < 0.4:
            held.pop(rng.randrange(len(held))).give_back()
            continue
        price = Decimal(rng.randrange(1, 200)) / 100
        total = sum(one.price or 0 for one in held)
        try:
            held.append(budget.reserve(price))
        except BudgetExceededError:
            assert total + price > 5
        assert sum(one.price or 0 for one in held) == budget.spent <= 5


def test_threads() -> None:
    """Blocking clients share it: no two threads get the same cent."""

    def buy(budget: Budget) -> int:
        got = 0
        for _ in range(300):
            try:
                budget.reserve(Decimal("0.01"))
            except BudgetExceededError:
                continue
            got += 1
        return got

    budget = Budget(10)
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(buy, [budget] * 8)) == 1_000
    assert budget.spent == 10


def test_threads_at_a_renewal() -> None:
    """What one thread has reserved in a new period, no other one's renewal forgets."""
    clock, switch = Clock("2026-11-28T23:59"), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            for day in range(1, 28):
                budget = Budget("0.01", per="day", clock=clock)
                clock.set(f"2026-12-{day:02}T12:00")
                got = pool.map(_reserved, [budget] * 4)
                assert sum(got) == 1
    finally:
        sys.setswitchinterval(switch)


def _reserved(budget: Budget) -> int:
    try:
        budget.reserve(Decimal("0.01")).keep()
    except BudgetExceededError:
        return 0
    return 1
