"""Journals with rows that a bad disk or a hand has changed: their items end, and are not bought."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from apixo_async import AsyncClient, FluxKontext, GptImage2, JournalError, Outcome
from apixo_async.testing import Fault, Simulator

from ..support.journals import change
from ..support.maps import castle

ClientOf = Callable[..., AsyncClient]

INPUTS = {"good": castle(0), "failed": castle(1), "uncertain": castle(2), "other": castle(3)}


async def mapped(
    client: AsyncClient, path: Path, resubmit: bool = False, **inputs: FluxKontext | GptImage2
) -> dict[str, Outcome]:
    """Return the outcomes of a map, by their keys; one that hangs is an error."""
    outcomes = client.map((INPUTS | inputs).items(), journal=path, resubmit_uncertain=resubmit)
    async with asyncio.timeout(10_000), outcomes:
        return {outcome.key: outcome async for outcome in outcomes}


async def run_first(simulator: Simulator, client: AsyncClient, path: Path) -> None:
    """Buy the inputs, of which one fails and one stays uncertain."""
    simulator.faults.submit(None, Fault.task_fails(), Fault.lost_answer())
    await mapped(client, path)
    assert simulator.created == len(INPUTS)


@pytest.mark.parametrize("resubmit", [False, True])
@pytest.mark.parametrize("checked", [80 << 20, 0], ids=["checked", "too large to be checked"])
@pytest.mark.parametrize(
    ("key", "damage"),
    [
        ("failed", "error = NULL"),
        ("failed", "error = '[]'"),
        ("uncertain", "error = NULL"),
        ("uncertain", "error = '{}'"),
        ("good", "result = NULL"),
        ("good", "result = '{}'"),
        ("good", "task_id = NULL"),
        ("good", "purchases = 'x'"),
        ("good", "purchases = -1"),
        ("good", "cost = 'x'"),
        ("good", "state = 'new'"),
        ("good", "state = 'submitted', task_id = NULL"),
        ("good", "state = 'submitted', task_id = ' '"),
        ("good", "state = 'intent', purchases = 'x'"),
    ],
)
async def test_a_damaged_row(
    simulator: Simulator,
    client_of: ClientOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    damage: str,
    checked: int,
    resubmit: bool,
) -> None:
    """An item whose row is damaged ends as an error, is not bought, and holds up no other."""
    client, path = client_of(simulator), tmp_path / "run.db"
    await run_first(simulator, client, path)
    change(path, f"UPDATE item SET {damage} WHERE key = '{key}'")
    monkeypatch.setattr("apixo_async.journal._store.MOST_CHECKED", checked)
    again = await mapped(client, path, resubmit)
    bought_anew = resubmit and key != "uncertain"
    assert simulator.created == len(INPUTS) + bought_anew
    error = again[key].error
    assert isinstance(error, JournalError)
    assert ("is damaged" in str(error), error.bought) == (True, None)
    others = {"good", "other", *(["uncertain"] if bought_anew else [])} - {key}
    assert all(again[other].ok for other in others)


async def test_an_unknown_state(
    simulator: Simulator,
    client_of: ClientOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A state that this version does not know is not taken for that of a new item."""
    client, path = client_of(simulator), tmp_path / "run.db"
    await run_first(simulator, client, path)
    change(
        path, "PRAGMA ignore_check_constraints = ON", "UPDATE item SET state = 'x' WHERE row = 1"
    )
    with pytest.raises(JournalError, match="it is damaged"):
        await mapped(client, path)
    monkeypatch.setattr("apixo_async.journal._store.MOST_CHECKED", 0)
    error = (await mapped(client, path))["good"].error
    assert isinstance(error, JournalError)
    assert (simulator.created, error.bought) == (len(INPUTS), None)


async def test_a_task_of_another_model(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """An item whose row names a task that is known as another model's ends as an error."""
    client, path = client_of(simulator), tmp_path / "run.db"
    input_2 = GptImage2(prompt="castle")
    await mapped(client, path, gpt=input_2)
    change(
        path,
        "UPDATE item SET state = 'submitted', ended_at = NULL",
        "UPDATE item SET task_id = (SELECT task_id FROM item WHERE key = 'good') WHERE key = 'gpt'",
    )
    again = await mapped(client_of(simulator), path, gpt=input_2)
    error = again.pop("gpt").error
    assert error is not None
    assert error.bought is None
    assert all(outcome.ok for outcome in again.values())
    assert simulator.created == len(INPUTS) + 1


@pytest.mark.parametrize("column", ["digest = 'x'", "payload = '[]'", "model = 'x y'"])
async def test_a_damaged_input(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path, column: str
) -> None:
    """An item is known by its digest or by its input, where the other one is damaged."""
    client, path = client_of(simulator), tmp_path / "run.db"
    await run_first(simulator, client, path)
    change(path, f"UPDATE item SET {column} WHERE key = 'good'")
    assert (await mapped(client, path))["good"].ok
    assert simulator.created == len(INPUTS)
