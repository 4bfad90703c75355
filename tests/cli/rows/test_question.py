"""The question of the price, as a table: what is known, and what follows."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async._cli.exits import ExitCode
from apixo_async._cli.rows.question import (
    AccountState,
    Ask,
    Decision,
    Go,
    PriceGroup,
    RowsReport,
    Stop,
    Terms,
    decide,
)
from apixo_async._cli.rows.source import Problem

D: Final = Decimal
CHEAP = PriceGroup("gpt-image-2", "resolution 1k", D("0.02"), 100)
DEAR = PriceGroup("gpt-image-1", "num_images 1", D("0.35"), 10)
UNKNOWN = PriceGroup("sora-2", "", None, 3)
TYPO = PriceGroup("gpt-imge-2", "", None, 7)


def report(*groups: PriceGroup, bought: int = 0, bad: int = 0) -> RowsReport:
    """Make a report of these groups."""
    problems = tuple(Problem(line, "no prompt") for line in range(1, min(bad, 2) + 1))
    rows = sum(group.rows for group in groups) + bought
    return RowsReport("a.csv", rows, bought, groups, bad, problems)


YES = Terms(yes=True)
ANY = Terms(yes=True, yes_unknown_price=True)
HERE = AccountState(interactive=True)
AWAY = AccountState()


def limit(amount: str, terms: Terms = YES) -> Terms:
    """Return the terms with a limit."""
    return terms._replace(max_cost=D(amount))


UNNAMED = {"Unnamed: 0": (2, "gpt-image-2")}
MEANT = "did you mean gpt-image-2? If not, buy it with --yes-unknown-model"
NOTE = "'note' (line 2) is no field of gpt-image-2"
RESOLUTION = "'resolutoin' (line 9) is no field of gpt-image-2 (did you mean 'resolution'?)"
LEFT_OUT = (
    ". Leave it out with --ignore note --ignore resolutoin, or have it in the report: --keep note "
    "--keep resolutoin"
)
INDEX = (
    "is a column without a name, such as an index. Leave it out with --ignore 'Unnamed: 0', or "
    "have it in the report: --keep 'Unnamed: 0'"
)
FOREIGN = {"note": (2, "gpt-image-2"), "resolutoin": (9, "gpt-image-2")}
NO_YES = "there is no terminal to ask on: give --yes to buy at this price"
UNUSABLE = "rows cannot be used; nothing is bought (apixo models MODEL: what it takes)"
GIVE_PRICE = "no known price: sora-2 (3 rows); give it, such as --price sora-2=0.25"
NO_PRICE = f"{GIVE_PRICE}, or buy at any price with --yes-unknown-price"
HALF = "is enough for 50 of 100 rows; the run stops there"
REACHED = "is reached: the cheapest row costs $0.02; no more is bought"
CASES: dict[str, tuple[RowsReport, Terms, AccountState, Decision]] = {
    "yes": (report(CHEAP), YES, AWAY, Go()),
    "a column that is no field": (
        replace(report(CHEAP), unknown=FOREIGN), YES, AWAY,
        Stop(("a.csv: " + NOTE + "; " + RESOLUTION + LEFT_OUT,)),
    ),
    "a misspelt model": (
        report(TYPO), ANY, AWAY,
        Stop((f"a.csv: gpt-imge-2 (7 rows): {MEANT}",)),
    ),
    "a model that looks misspelt": (report(TYPO), ANY._replace(yes_unknown_model=True), AWAY, Go()),
    "an index of pandas": (
        replace(report(CHEAP), unknown=UNNAMED), YES, AWAY,
        Stop((f"a.csv: 'Unnamed: 0' (line 2) {INDEX}",)),
    ),
    "asked": (report(CHEAP), Terms(), HERE, Ask((), "Buy 100 tasks for $2.00?")),
    "asked, one": (
        report(CHEAP._replace(rows=1)), Terms(), HERE, Ask((), "Buy 1 task for $0.02?")
    ),
    "nobody to ask": (report(CHEAP), Terms(), AWAY, Stop((NO_YES,))),
    "yes asks nobody": (report(CHEAP), YES, HERE, Go()),
    "no rows": (report(), YES, HERE, Stop(("a.csv holds no rows",))),
    "bad rows": (
        report(CHEAP, bad=2), YES, HERE,
        Stop((
            "line 1: no prompt",
            "line 2: no prompt",
            f"a.csv: 2 of 102 {UNUSABLE}",
        )),
    ),
    "many bad rows": (
        report(bad=1_234), ANY, HERE,
        Stop((
            "line 1: no prompt",
            "line 2: no prompt",
            "... and 1,232 more",
            f"a.csv: 1,234 of 1,234 {UNUSABLE}",
        )),
    ),
    "all bought": (
        report(bought=7), Terms(), AWAY,
        Go(("all 7 rows are bought already; nothing is bought now",)),
    ),
    "some bought": (
        report(CHEAP, bought=7), Terms(), HERE,
        Ask(("7 of 107 rows are bought already",), "Buy 100 tasks for $2.00?"),
    ),
    "no price": (
        report(CHEAP, UNKNOWN), YES, HERE,
        Stop((NO_PRICE,)),
    ),
    "no price, nobody to ask": (
        report(UNKNOWN), Terms(yes_unknown_price=True), AWAY, Stop((NO_YES,))
    ),
    "any price": (report(CHEAP, UNKNOWN), ANY, AWAY, Go()),
    "any price, asked": (
        report(CHEAP, UNKNOWN), Terms(yes_unknown_price=True), HERE,
        Ask((), "Buy 100 tasks for $2.00 and 3 tasks at an unknown price?"),
    ),
    "unknown only, asked": (
        report(UNKNOWN), Terms(yes_unknown_price=True), HERE,
        Ask((), "Buy 3 tasks at an unknown price?"),
    ),
    "a price given": (
        report(UNKNOWN), Terms(prices={"sora-2": D(1)}), HERE, Ask((), "Buy 3 tasks for $3.00?")
    ),
    "a price of nothing": (
        report(UNKNOWN), Terms(prices={"sora-2": D(0)}, max_cost=D(0)), HERE,
        Ask((), "Buy 3 tasks for $0.00?"),
    ),
    "limit above the price": (report(CHEAP), limit("2"), AWAY, Go()),
    "limit below the price": (
        report(CHEAP), limit("1.01"), AWAY,
        Go((f"--max-cost 1.01 {HALF}",)),
    ),
    "limit, order matters": (
        report(CHEAP, DEAR), limit("3.60"), AWAY,
        Go(("--max-cost 3.60 is enough for 15 to 104 of 110 rows; the run stops there",)),
    ),
    "limit, asked": (
        report(CHEAP), Terms(max_cost=D(1)), HERE,
        Ask(
            (f"--max-cost 1 {HALF}",),
            "Buy tasks for up to $1.00?",
        ),
    ),
    "limit, nobody to ask": (
        report(CHEAP), Terms(max_cost=D(1)), AWAY,
        Stop((NO_YES,), (f"--max-cost 1 {HALF}",)),
    ),
    "limit for nothing": (
        report(CHEAP), limit("0.01"), HERE,
        Stop(("--max-cost 0.01 buys nothing: the cheapest row costs $0.02",)),
    ),
    "limit, unknown prices": (
        report(UNKNOWN), limit("0", ANY), HERE,
        Stop((f"{GIVE_PRICE}: --max-cost could not hold without it",)),
    ),
    "limit counts what was spent": (
        report(CHEAP, bought=10), limit("1.20"), AccountState(spent=D("0.20")),
        Go((
            "10 of 110 rows are bought already",
            f"--max-cost 1.20 (spent before: $0.20) {HALF}",
        )),
    ),
    "limit was reached": (
        report(CHEAP, bought=10), Terms(max_cost=D("0.20")), AccountState(spent=D("0.21")),
        Go((f"--max-cost 0.20 (spent before: $0.21) {REACHED}",)),
    ),
    "balance enough": (report(CHEAP), YES, AccountState(balance=D(2)), Go()),
    "balance short": (
        report(CHEAP), YES, AccountState(balance=D("1.5")),
        Go(("the balance of $1.50 is less than $2.00",)),
    ),
    "balance short, asked": (
        report(CHEAP), Terms(), AccountState(D(0), interactive=True),
        Ask(("the balance of $0.00 is less than $2.00",), "Buy 100 tasks for $2.00?"),
    ),
    "balance enough for the limit": (
        report(CHEAP), limit("1"), AccountState(balance=D(1)),
        Go((f"--max-cost 1 {HALF}",)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_follows(case: str) -> None:
    """What is known decides whether to go on, to ask, or to stop, and in which words."""
    found, terms, account, decision = CASES[case]
    assert decide(found, terms, account) == decision


def test_a_stop_is_wrong_input() -> None:
    """Whatever stops a run before it begins ends it as wrong usage does."""
    stops = [decision for *_, decision in CASES.values() if isinstance(decision, Stop)]
    assert {stop.code for stop in stops} == {ExitCode.USAGE}


PRICES = st.none() | st.decimals(0, 5, places=2)
LOTS = st.lists(
    st.builds(PriceGroup, st.sampled_from("abc"), st.just(""), PRICES, st.integers(1, 50))
)


@given(
    LOTS,
    st.integers(0, 1),
    st.builds(Terms, st.booleans(), st.booleans(), PRICES, st.just({})),
    st.builds(AccountState, PRICES, st.decimals(0, 5, places=2), st.booleans()),
)
def test_nothing_is_bought_without_a_word(
    groups: list[PriceGroup], bought: int, terms: Terms, account: AccountState
) -> None:
    """Where money may be spent, somebody said --yes or is asked; unknown prices need their own."""
    found = report(*groups, bought=bought)
    decision = decide(found, terms, account)
    room = None if terms.max_cost is None else terms.max_cost - account.spent
    cheapest = min((group.price or D(0) for group in groups), default=None)
    may_buy = cheapest is not None and (room is None or cheapest <= max(room, D(0)))
    if isinstance(decision, Go) and may_buy:
        assert terms.yes
    if isinstance(decision, Go | Ask) and any(group.price is None for group in groups):
        assert terms.yes_unknown_price
    if isinstance(decision, Ask):
        assert account.interactive
        assert not terms.yes
