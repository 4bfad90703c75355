"""Services that lie in one point: the contract finds the point, and no other."""

from __future__ import annotations

import pytest

from ...support.contracts import checked, differing
from ...support.liars import LIARS, Liar

#: Lies that nothing shows which is asked: it would take more tasks, more models, days, or luck.
UNSEEN = {
    "AnsweredAfterTheCallback",
    "BalanceIsFree",
    "CapitalResolution",
    "ChecksBeforeKeys",
    "ErrorsThatBuy",
    "ExpiringCounter",
    "FastEachSecondTime",
    "ForgottenAfterAnHour",
    "OnCredit",
    "OneFamily",
    "OneMoreAfterAnHour",
    "PaidBackLater",
    "RefusedTasksCount",
    "SweptPlaces",
    "TwoWeeks",
}


@pytest.mark.parametrize("liar", LIARS, ids=lambda liar: liar.__name__)
def test_exactly_the_lie_differs(liar: type[Liar]) -> None:
    """Of a service that lies in one point, the statement of this point differs, and no other."""
    expected = set[int]() if liar.__name__ in UNSEEN else {liar.contradicts}
    assert differing(checked(liar())) == expected


def test_most_lies_are_seen() -> None:
    """Nearly every statement has a lie that it finds."""
    seen = {liar.contradicts for liar in LIARS if liar.__name__ not in UNSEEN}
    assert len(seen) >= 48
    assert {liar.__name__ for liar in LIARS} >= UNSEEN
