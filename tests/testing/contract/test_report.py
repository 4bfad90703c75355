"""The contract against the simulator: all agrees, and each switch is found by its statement."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from apixo_async import ConfigurationError, TaskRef
from apixo_async.testing import Fault, OpenPoints
from apixo_async.testing.contract import STATEMENTS, VERSION

from ...support.contracts import KEY, checked, differing, service, unknown
from ...support.open_points import POINTS

#: What only an older task, chance, or an empty account show.
NEVER_SEEN = {40, 57, 58, 60}

#: The statement about each switch.
OF_POINT = {
    "polls_count": 51,
    "refused_count": 53,
    "window": 52,
    "errors": 11,
    "error_data": 12,
    "created_late": 32,
    "whole_seconds": 33,
    "failed_times": 43,
    "refunds": 44,
    "any_model": 37,
    "result_json": 29,
    "pending": 26,
    "odd_state": 25,
    "task_ids": 22,
    "limit_headers": 13,
    "bare_callbacks": 45,
    "signed_callbacks": 48,
    "ranges": 39,
    "places_linger": 56,
}
#: Tested below; and what no check can see: money that is a whole number of cents anyway.
OTHERS = {"errors_buy", "cents"}


def test_the_simulator_agrees() -> None:
    """A simulator does what every statement has; what the check has cost is what it says."""
    simulator = service()
    report = checked(simulator)
    assert differing(report) == set()
    assert unknown(report) == NEVER_SEEN
    assert report.spent == simulator.charged
    assert report.counts == {"agree": len(STATEMENTS) - 4, "unknown": 4}


def test_every_point_has_a_statement() -> None:
    """No switch of the simulator is without a statement that finds it."""
    assert OF_POINT.keys() | OTHERS == POINTS.keys()
    named = {one.place for one in STATEMENTS.values() if one.place.startswith("OpenPoints")}
    assert named == {f"OpenPoints.{name}" for name in POINTS if name != "cents"}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in OF_POINT for value in POINTS[name][1:]],
)
def test_a_switch_is_found(name: str, value: Any) -> None:
    """Its statement differs, and no other one; the evidence names the switch."""
    report = checked(service(open_points=OpenPoints(**{name: value})))
    assert differing(report) == {OF_POINT[name]}
    (finding,) = (found for one, found in report.findings if one.number == OF_POINT[name])
    assert f"OpenPoints.{name}" in finding.evidence
    assert len(unknown(report)) <= len(NEVER_SEEN) + 3


@pytest.mark.parametrize(
    ("number", "options"),
    [
        (46, {"duplicate_callbacks": 1.0}),
        (46, {"processing_callbacks": 1.0}),
        (47, {"early_callbacks": 1.0}),
        (50, {"requests_per_minute": 50}),
        (54, {"retry_after": 2.0}),
        (55, {"concurrent_tasks": 2}),
    ],
)
def test_an_option_is_found(number: int, options: dict[str, Any]) -> None:
    """What else is open, or another account, is found by one statement."""
    assert differing(checked(service(**options))) == {number}


@pytest.mark.parametrize(("no_credit", "differs"), [("402", set[int]()), ("400", {58})])
def test_an_empty_account(no_credit: str, differs: set[int]) -> None:
    """Where the balance lasts for no task, the submit of one says how that is answered."""
    simulator = service(balance=Decimal("0.01"), no_credit=no_credit)
    assert differing(checked(simulator)) == differs
    assert simulator.created == 0


@pytest.mark.parametrize(("buys", "differs"), [(False, set[int]()), (True, {57})])
def test_an_error_that_may_have_bought(buys: bool, differs: set[int]) -> None:
    """A submit that is answered 500 counts as spent, and the balance says what it was."""
    simulator = service(open_points=OpenPoints(errors_buy=buys))
    # Those with a wrong key and an unknown model, seven that are to be refused, the task's own.
    simulator.faults.submit(*[None] * 9, Fault.status(500))
    report = checked(simulator, crowds=False)
    assert differing(report) == differs
    assert 57 not in unknown(report)
    assert report.spent >= simulator.charged


@pytest.mark.parametrize("buys", [False, True])
def test_a_refusal_that_may_have_bought(buys: bool) -> None:
    """A 503 is a refusal to clients, which send again: one that made a task is found out."""
    simulator = service()
    simulator.faults.submit(*[None] * 9, Fault.status(503, carried_out=buys))
    report = checked(simulator, crowds=False)
    assert differing(report) == ({60} if buys else set())
    assert 60 not in unknown(report)


@pytest.mark.parametrize("pending", [True, False])
def test_a_first_poll_that_comes_late(pending: bool) -> None:
    """Over a slow network, or on a busy machine, it does not show how a task begins."""
    simulator = service(open_points=OpenPoints(pending=pending))
    report = checked(simulator, simulator.transport(latency=5.0), floods=False, crowds=False)
    assert 26 in unknown(report)
    assert not differing(report)


@pytest.mark.parametrize(
    ("lifetime", "days", "verdict"),
    [(15, 2, "agree"), (1, 2, "differ"), (1, 0.5, "unknown"), (15, 20, "unknown")],
)
def test_an_old_task(lifetime: float, days: float, verdict: str) -> None:
    """The file of a task of more than a day ago says how long files live."""
    later = 0.0

    def clock() -> float:
        with suppress(RuntimeError):
            return asyncio.get_running_loop().time() + later
        return later

    simulator = service(result_lifetime=lifetime * 86_400.0, clock=clock)
    checked(simulator, max_cost=Decimal("0.02"), floods=False)
    (task_id,) = simulator.tasks
    later = days * 86_400
    plan = {"max_cost": Decimal(0), "floods": False, "old_task": TaskRef("gpt-image-2", task_id)}
    report = checked(simulator, **plan)
    assert [found.verdict for one, found in report.findings if one.number == 40] == [verdict]


def test_free_unless_paid_for() -> None:
    """Without money nothing is bought, and each statement that needs it says so."""
    simulator = service()
    report = checked(simulator, max_cost=Decimal(0), floods=False)
    assert (simulator.created, report.spent) == (0, 0)
    assert simulator.count("submit") == 1  # with a wrong key
    assert report.counts["agree"] == 12
    found = [finding.evidence for one, finding in report.findings if 14 <= one.number <= 37]
    assert set(found) == {"it may cost $0.02, and $0.00 may still be spent"}


@pytest.mark.parametrize("most", ["0.02", "0.04", "0.07", "0.50"])
def test_no_more_than_it_may_cost(most: str) -> None:
    """A service that takes even what is to be refused is paid no more than was allowed."""
    simulator = service(concurrent_tasks=100)
    simulator.faults.submit(*[Fault.data({"taskId": "task_1"})] * 40)
    report = checked(simulator, max_cost=Decimal(most), waits=False)
    assert report.spent <= Decimal(most)


@pytest.mark.parametrize(
    "fault", [Fault.status(403), Fault.refused(), Fault.html(502), Fault.raw(200, b"[")]
)
def test_a_service_that_is_down(fault: Fault) -> None:
    """Nothing is bought of a service that answers nothing useful, and nothing raises."""
    simulator = service()
    simulator.faults.during(-1e9, 1e9, fault)
    report = checked(simulator, max_cost=Decimal("0.10"), floods=False, crowds=False)
    assert simulator.created == 0
    assert report.counts["unknown"] > 30


_HOSTILE: tuple[object, ...] = (
    None,
    True,
    -1,
    10**400,
    1e308,
    "",
    "\udc80",
    "x" * 9_999,
    [],
    {},
    [[]],
)


def _spoil(envelope: object, rng: random.Random) -> None:
    if isinstance(envelope, dict):
        for name in [*envelope]:
            if rng.random() < 0.2:
                envelope[name] = rng.choice(_HOSTILE)
            else:
                _spoil(envelope[name], rng)


@pytest.mark.parametrize("seed", range(40))
def test_hostile_answers(seed: int) -> None:
    """Whatever an answer holds, the contract is examined to its end, within what it may cost."""
    simulator, rng = service(), random.Random(seed)
    simulator.faults.balance(None)
    simulator.faults.during(-1e9, 1e9, Fault("spoilt", alter=lambda one: _spoil(one, rng)))
    report = checked(simulator, max_cost=Decimal("0.20"))
    assert len(report.findings) == len(STATEMENTS)
    assert json.dumps(report.to_dict())


def test_no_report_holds_anything_of_the_account() -> None:
    """Key, prompts, ids, URLs and balances are in no report, even where the service echoes them."""
    simulator = service(balance=Decimal("74.8765"))
    simulator.faults.submit(
        Fault.status(400, message=f"{KEY}: 'a plain grey square' to https://app.example.com/hook")
    )
    report = checked(simulator)
    text = json.dumps(report.to_dict())
    hidden = {KEY, "plain grey", "app.example.com/", "74.8", "r2.apixo.ai", *simulator.tasks}
    assert [word for word in hidden if word in text] == []
    assert json.loads(text)["contract"] == VERSION
    assert json.loads(text)["host"] == "api.apixo.ai"


def test_numbers_are_kept() -> None:
    """Statements are numbered from 1 without a gap: a number that was sent in keeps its meaning."""
    assert sorted(STATEMENTS) == [*range(1, len(STATEMENTS) + 1)]
    assert all(number == one.number for number, one in STATEMENTS.items())


def test_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key nothing is asked."""
    monkeypatch.delenv("APIXO_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="no API key"):
        checked(service(key=""))
