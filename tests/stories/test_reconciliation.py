"""The balance as evidence: what it says of uncertain submits, against what the service did."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from apixo_async import (
    AsyncClient,
    ConfigurationError,
    FluxKontext,
    GptImage2,
    Limits,
    OtherModel,
    Outcomes,
    Reconciliation,
)
from apixo_async.journal import open_journal
from apixo_async.testing import Fault, Simulator

ClientOf = Callable[..., AsyncClient]
PRICE = Decimal("0.02")
CASTLES = [FluxKontext(mode=mode, prompt="a castle") for mode in ("pro", "max")]


def moons(count: int) -> list[GptImage2]:
    return [GptImage2(prompt=f"moon {n}", resolution="1k") for n in range(count)]


async def ended(outcomes: Outcomes) -> Outcomes:
    async with outcomes:
        async for _ in outcomes:
            pass
    return outcomes


@pytest.mark.parametrize("has_journal", [False, True])
@pytest.mark.parametrize(
    ("bought", "lost", "verdict"), [(0, 5, "none"), (3, 2, "some"), (5, 0, "all"), (0, 0, "none")]
)
async def test_lost_answers(
    simulator: Simulator,
    client_of: ClientOf,
    tmp_path: Path,
    bought: int,
    lost: int,
    verdict: str,
    has_journal: bool,
) -> None:
    """It says how many of the uncertain submits have made a task."""
    faults = [Fault.lost_answer()] * bought + [Fault.reset_before()] * lost
    random.Random(1).shuffle(faults)
    simulator.faults.submit(None, *faults)
    client = client_of(simulator)
    before = None if has_journal else await client.balance()
    journal = tmp_path / "run.db" if has_journal else None
    found = await (await ended(client.map(moons(40), journal=journal))).reconcile(before)
    assert isinstance(found, Reconciliation)
    assert (found.verdict, found.bought, found.uncertain) == (verdict, bought, bought + lost)
    assert (found.known, found.known_cost) == (40 - bought - lost, PRICE * (40 - bought - lost))
    assert found.fell == simulator.charged == PRICE * (40 - lost)
    assert found.after == Decimal(1000) - simulator.charged


async def test_a_run_that_was_killed(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """The balance of the run that sent them is compared, whatever later runs bought."""
    path = tmp_path / "run.db"
    await ended(client_of(simulator).map(moons(10), journal=path))
    simulator.faults.submit(Fault.lost_answer(), *[Fault.reset_before()] * 3)
    first = await ended(client_of(simulator).map(moons(20), journal=path))
    assert first.progress.uncertain == 4
    simulator.faults.clear()
    client = client_of(simulator)
    outcomes = await ended(client.map(moons(30), journal=path))
    found = await outcomes.reconcile()
    assert (found.uncertain, found.bought, found.known) == (4, 1, 16)
    assert found.before == 1000 - 10 * PRICE
    # Bought anew, it is as true of the first four that one was bought: twice, now.
    anew = await ended(client.map(moons(30), journal=path, resubmit_uncertain=True))
    found = await anew.reconcile()
    assert (found.uncertain, found.bought, found.known) == (4, 1, 20)
    assert simulator.created == 31


async def test_one_of_two_is_bought_anew(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """What the balance says of the other stays true: none of it is called unbought."""
    path, inputs = tmp_path / "run.db", {f"fox-{n}": moon for n, moon in enumerate(moons(20))}
    simulator.faults.submit(None, Fault.lost_answer(), Fault.reset_before())
    client = client_of(simulator)
    done = [one async for one in client.map(inputs.items(), journal=path)]
    _, *doubts = [one.key for one in sorted(done, key=lambda one: one.state == "uncertain")][-3:]
    bought = {task.input["prompt"] for task in simulator.tasks.values()}
    [lost] = [key for key in doubts if inputs[key].prompt not in bought]
    anew = await ended(client.map(inputs.items(), journal=path, resubmit_uncertain=[lost]))
    assert (simulator.created, anew.progress.uncertain) == (20, 1)
    found = await anew.reconcile()
    assert (found.verdict, found.bought, found.uncertain, found.known) == ("some", 1, 2, 19)
    assert "1 was bought of 2 uncertain submits" in str(found)


async def test_what_is_refused_when_bought_anew(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """It is uncertain as before, and no more."""
    path = tmp_path / "run.db"
    simulator.faults.submit(Fault.lost_answer())
    client = client_of(simulator)
    await ended(client.map(moons(3), journal=path))
    simulator.faults.submit(Fault.status(400))
    outcomes = await ended(client.map(moons(3), journal=path, resubmit_uncertain=True))
    found = await outcomes.reconcile()
    assert (found.uncertain, found.bought, found.known) == (1, 1, 2)


async def test_a_doubt_that_a_later_run_leaves_alone(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """Of two uncertain submits one is bought anew, at another price first: both stay in doubt."""
    videos = [OtherModel("sora-2", prompt=f"wave {n}") for n in range(2)]
    simulator.faults.submit(Fault.reset_before(), Fault.lost_answer())
    path = tmp_path / "run.db"
    client = client_of(simulator, prices={"sora-2": "0.05"}, limits=Limits(1, 1_000))
    await ended(client.map(videos, journal=path))
    simulator.faults.submit(Fault.status(400))
    again = {"journal": path, "resubmit_uncertain": True}
    await ended(client.map(videos[:1], prices={"sora-2": "0.025"}, **again))
    found = await (await ended(client.map(videos, journal=path))).reconcile()
    assert (found.bought, found.uncertain, simulator.created) == (1, 2, 1)


async def test_a_clock_that_is_set_back(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later run's balance is not taken for an earlier one."""
    simulator.faults.submit(None, Fault.reset_before())
    client = client_of(simulator, limits=Limits(1, 1_000))
    await ended(client.map(moons(2), journal=tmp_path / "run.db"))
    hour = time.time() - 3_600
    monkeypatch.setattr(time, "time", lambda: hour)
    outcomes = await ended(client.map(moons(4), journal=tmp_path / "run.db"))
    found = await outcomes.reconcile()
    assert (found.verdict, found.known, found.before) == ("none", 3, Decimal(1000))


async def test_posts_under_way_are_waited_for(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """A map that was left in the middle of its POSTs keeps what they bought."""
    client = client_of(simulator, latency=4.0)
    outcomes = client.map(moons(4), journal=tmp_path / "run.db")
    taking = asyncio.ensure_future(_left(outcomes))
    await asyncio.sleep(6)  # The balance took 4 s: the POSTs are sent.
    for _ in range(2):
        taking.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([taking])
    found = await outcomes.reconcile()
    assert found.uncertain == 0
    async with open_journal(tmp_path / "run.db") as journal:
        assert (await journal.counts())["submitted"] == simulator.created == 4


async def _left(outcomes: Outcomes) -> None:
    async with outcomes:
        await asyncio.sleep(1_000)


@pytest.mark.parametrize(
    "damage",
    [
        "run SET cost = 'abc'",
        "run SET balance = 'abc'",
        "run SET balance = NULL",
        "run SET purchases = 1e999",
        "run SET unpriced = x'00'",
        "item SET run = NULL",
        "item SET run = -1",
    ],
)
async def test_a_journal_that_anybody_has_written(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path, damage: str
) -> None:
    """Without a balance that can be read nothing follows, and nothing else is hurt."""
    simulator.faults.submit(Fault.reset_before())
    client = client_of(simulator)
    path = tmp_path / "run.db"
    await ended(client.map(moons(3), journal=path))
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(f"UPDATE {damage}")
    async with open_journal(path) as journal:
        charges = await journal.charges()
    assert (charges.balance, sum(charges.uncertain.values())) == (None, 1)
    outcomes = await ended(client.map(moons(4), journal=path))
    assert outcomes.progress.succeeded == 3
    assert (await outcomes.reconcile()).verdict in ("unclear", "none")


async def test_others_used_the_key(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """Then the balance says nothing, and that is what is said."""
    simulator.faults.submit(Fault.reset_before())
    client = client_of(simulator)
    outcomes = client.map(moons(5), journal=tmp_path / "run.db")
    async with outcomes:
        async for _ in outcomes:
            await client.generate(moons(1)[0])
    found = await outcomes.reconcile()
    assert found.verdict == "unclear"
    assert "fell by more than all of them cost" in str(found)


async def test_a_balance_that_cannot_be_had(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """A map buys without it, after 5 s, and says later that it is not known."""
    simulator.faults.balance(Fault.hang())
    simulator.faults.submit(Fault.reset_before())
    outcomes = await ended(client_of(simulator).map(moons(5), journal=tmp_path / "run.db"))
    assert outcomes.progress.succeeded == 4
    found = await outcomes.reconcile()
    assert found.before is None
    async with open_journal(tmp_path / "run.db") as journal:
        assert (await journal.charges()).balance is None


async def test_prices_of_the_callers_own(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """Without a price of every purchase nothing follows."""
    simulator.faults.submit(Fault.reset_before())
    video = OtherModel("sora-2", prompt="a paper moon")
    outcomes = client_of(simulator).map([video] * 3, journal=tmp_path / "run.db")
    assert (await (await ended(outcomes)).reconcile()).verdict == "unclear"


async def test_too_early_or_without_a_balance(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """The error says what to do."""
    client = client_of(simulator)
    outcomes = client.map(moons(3))
    with pytest.raises(ConfigurationError, match="take all of its outcomes first"):
        await outcomes.reconcile(5)
    await ended(outcomes)
    with pytest.raises(ConfigurationError, match=r"reconcile\(before\)"):
        await outcomes.reconcile()
    journalled = await ended(client.map(moons(3), journal=tmp_path / "run.db"))
    with pytest.raises(ConfigurationError, match="has asked for the balance"):
        await journalled.reconcile(5)


@pytest.mark.parametrize("seed", range(40))
async def test_lives_of_a_journal(client_of: ClientOf, tmp_path: Path, seed: int) -> None:
    """However often runs are begun, left and resubmitted, what is said is what was charged."""
    rng = random.Random(seed)
    simulator = Simulator(seed=seed)
    fates = [Fault.lost_answer(), Fault.reset_before(), Fault.status(400), Fault.status(503)]
    inputs = {f"{n}": rng.choice(moons(30) + CASTLES) for n in range(rng.randint(2, 20))}
    client = client_of(simulator, limits=Limits(rng.choice([1, 5, 1_000]), 10_000))
    for _ in range(rng.randint(1, 4)):
        fates_now = [rng.choice([None, None, None, *fates]) for _ in range(20)]
        simulator.faults.submit(*fates_now)
        given = [*inputs.items()][: rng.randint(1, len(inputs))]
        anew = rng.choice([False, False, True, [key for key, _ in given[::2]]])
        outcomes = client.map(given, journal=tmp_path / "run.db", resubmit_uncertain=anew)
        async with outcomes:
            async for _ in outcomes:
                if rng.random() < 0.05:
                    break
        async for _ in outcomes:
            pass
        simulator.faults.clear()
        found = await outcomes.reconcile()
        bought = simulator.created - _known(found, simulator)
        assert found.uncertain == 0 or found.verdict != "unclear", str(found)
        assert found.bought in (bought, None)
        assert found.bought is not None or found.verdict == "some"


def _known(found: Reconciliation, simulator: Simulator) -> int:
    """Return how many tasks were made that are in no doubt: those before the balance, too."""
    before = Decimal(1000) - (found.before or Decimal(1000))
    count = 0
    for task in simulator.tasks.values():
        if before <= 0:
            break
        before, count = before - task.price, count + 1
    return count + found.known
