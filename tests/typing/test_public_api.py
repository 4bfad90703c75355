"""The file that the type checkers read uses every public name, and runs as it says."""

from __future__ import annotations

import ast
import importlib.util
import json
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

import apixo_async
from apixo_async import AsyncClient, Event, GptImage2
from apixo_async.testing import Fault, Simulator

FILE = Path(__file__).with_name("public_api.py")


@pytest.fixture
def public_api() -> ModuleType:
    """Import the file."""
    spec = importlib.util.spec_from_file_location("public_api", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def saved(folder: Path) -> list[Path]:
    """Return what lies in a folder."""
    return list(folder.iterdir())


def test_every_public_name_is_used() -> None:
    """A name is no part of the API until its types are checked."""
    tree = ast.parse(FILE.read_text("utf-8"))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert set(apixo_async.__all__) - used == set()


def test_renamed() -> None:
    """A name that was given up for another is gone, and the changelog says where it went."""
    renames = json.loads(FILE.with_name("renames.json").read_text("utf-8"))
    changelog = (FILE.parents[2] / "README.md").read_text("utf-8").partition("### Unreleased")[2]
    changelog = " ".join(changelog.split())
    for path, names in renames.items():
        owner = pkgutil.resolve_name(path)
        for old, new in names.items():
            assert hasattr(owner, new), f"{path}: {new}"
            assert not hasattr(owner, old), f"{path}: {old}"
            assert f"`{old}` -> `{new}`" in changelog


async def test_it_runs(public_api: ModuleType, simulator: Simulator, tmp_path: Path) -> None:
    """What the type checkers accept does the main job, and each event has a headline."""
    seen: list[Event] = []
    client = AsyncClient("test-key", transport=simulator.transport(), on_event=seen.append)
    result = await public_api.main_job(client, GptImage2(prompt="a cafe"), tmp_path)
    assert len(result.urls) == 1
    assert len(saved(tmp_path)) == 3
    assert all(map(public_api.headline, seen))


async def test_recovery_runs(public_api: ModuleType, simulator: Simulator) -> None:
    """A submit whose answer is lost is bought anew at the caller's word, and only then."""
    simulator.faults.submit(Fault.lost_answer())
    async with AsyncClient("test-key", transport=simulator.transport()) as client:
        result = await public_api.recover(client, GptImage2(prompt="a cafe"))
    assert result is not None
    assert simulator.created == 2


async def test_journals_are_read(
    public_api: ModuleType, simulator: Simulator, tmp_path: Path
) -> None:
    """What the type checkers accept reads what a map has left."""
    path = tmp_path / "run.db"
    async with AsyncClient("test-key", transport=simulator.transport()) as client:
        async for _ in client.map([GptImage2(prompt="a cafe")], journal=path):
            pass
    (entry,) = await public_api.read_journal(path)
    assert (entry.state, entry.purchases) == ("success", 1)


def test_receiving_runs(public_api: ModuleType) -> None:
    """What no receiver signed names no task."""
    assert public_api.receive("a token", b"{}") is None


def test_inputs_are_accepted(public_api: ModuleType) -> None:
    """What the type checkers accept as an input is one."""
    made = public_api.inputs({"prompt": "a cafe"})
    assert [one.model for one in made[:2]] == ["gpt-image-1", "gpt-image-2"]


def test_clients_are_accepted(public_api: ModuleType, simulator: Simulator) -> None:
    """What the type checkers accept as settings are some."""
    made = public_api.clients(simulator.transport(), [])
    assert [client.statistics().slots_limit for client in made] == [1_000, 1_000, 1_000, 10]
    assert [client.statistics().requests_limit for client in made] == [10_000, 60, 10_000, 600]
