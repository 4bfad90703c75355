"""`apixo store`: what an operator sees of a store, and says of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from apixo_async._cli import app
from apixo_async._cli.exits import ExitCode
from apixo_async.stores import SqliteStore, State, StoreEntry
from apixo_async.testing.store_contract import attempt, purchase


async def _filled(path: Path, namespace: str) -> None:
    store = await SqliteStore(path, namespace=namespace).open("account")
    for key in ("over", "running", "doubtful"):
        own = attempt()
        await store.intend(purchase(key), own, "a", slots=9, hold=60)
        if key == "doubtful":
            await store.uncertain(own, hold=60)
            continue
        await store.bought(purchase(key), own, "a", f"task_{key}", hold=60)
        if key == "over":
            await store.over(own, State.SUCCESS, '{"urls": ["https://r2.apixo.ai/a.png"]}')
    await store.aclose()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Have a store with a purchase in each of three states."""
    path = tmp_path / "apixo.db"
    asyncio.run(_filled(path, "default"))
    return path


def entry_of(path: Path, key: str) -> StoreEntry | None:
    async def find() -> StoreEntry | None:
        store = await SqliteStore(path).open("account")
        try:
            return await store.find(key)
        finally:
            await store.aclose()

    return asyncio.run(find())


def test_a_list(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Into a pipe, as lines with tabs; all of them, or those in one state."""
    assert app.run(["store", "list", "--store", str(path)]) == ExitCode.OK
    head, *rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert head == ["key", "state", "model", "task", "intended at"]
    assert [row[:4] for row in rows] == [
        ["over", "success", "gpt-image-2", "task_over"],
        ["running", "submitted", "gpt-image-2", "task_running"],
        ["doubtful", "uncertain", "gpt-image-2", "-"],
    ]
    assert app.run(["store", "list", "--store", str(path), "--state", "uncertain"]) == ExitCode.OK
    assert capsys.readouterr().out.count("\n") == 2


def test_a_list_for_programs(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A JSON document a line; the store may be named by the environment."""
    monkeypatch.setenv("APIXO_STORE", str(path))
    assert app.run(["store", "list", "--json"]) == ExitCode.OK
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [document["key"] for document in documents] == ["over", "running", "doubtful"]
    assert documents[0]["ended_at"] > documents[0]["intended_at"][:10]


def test_one_purchase(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its input and its outcome."""
    assert app.run(["store", "show", "over", "--store", str(path)]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert "a castle for over" in shown
    assert "https://r2.apixo.ai/a.png" in shown
    assert app.run(["store", "show", "over", "--json", "--store", str(path)]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["task_id"] == "task_over"
    assert app.run(["store", "show", "nothing", "--store", str(path)]) == ExitCode.USAGE
    assert "has no entry" in capsys.readouterr().err


def test_the_word_of_an_operator(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once, and for no task of another key; whichever process lives polls it then."""
    words = ["store", "resolve", "doubtful", "--store", str(path)]
    assert app.run(words) == ExitCode.USAGE
    assert app.run([*words, "--task-id", "task_over"]) == ExitCode.USAGE
    assert "is that of key 'over'" in capsys.readouterr().err
    assert app.run([*words, "--task-id", "task_9"]) == ExitCode.OK
    entry = entry_of(path, "doubtful")
    assert entry is not None
    assert (entry.state, entry.task_id, entry.owner) == (State.SUBMITTED, "task_9", None)
    assert app.run([*words, "--nothing-bought"]) == ExitCode.USAGE
    assert "is not uncertain" in capsys.readouterr().err


def test_the_word_that_nothing_was_bought(path: Path) -> None:
    """The key is free."""
    words = ["store", "resolve", "doubtful", "--nothing-bought", "--store", str(path)]
    assert app.run(words) == ExitCode.OK
    assert entry_of(path, "doubtful") is None


def test_what_is_over_is_deleted(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its key, or by its age; nothing else is."""
    assert app.run(["store", "delete", "running", "--store", str(path)]) == ExitCode.USAGE
    assert "has no entry that is over" in capsys.readouterr().err
    assert app.run(["store", "sweep", "--older-than", "1", "--store", str(path)]) == ExitCode.OK
    assert capsys.readouterr().out == "0\n"
    assert app.run(["store", "sweep", "--older-than", "0", "--store", str(path)]) == ExitCode.OK
    assert capsys.readouterr().out == "1\n"
    assert entry_of(path, "over") is None
    assert entry_of(path, "running") is not None


def test_a_namespace(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each has keys of its own."""
    listed = ["store", "list", "--store", str(path), "--namespace", "shop"]
    assert app.run(listed) == ExitCode.OK
    assert capsys.readouterr().out.count("\n") == 1
    asyncio.run(_filled(path, "shop"))
    assert app.run(["store", "delete", "over", *listed[2:]]) == ExitCode.OK
    assert entry_of(path, "over") is not None


def test_a_store_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not made."""
    missing = tmp_path / "missing.db"
    assert app.run(["store", "list", "--store", str(missing)]) == ExitCode.USAGE
    assert "there is no file" in capsys.readouterr().err
    assert not missing.exists()
    assert app.run(["store", "list", "--store", "mysql://user:canary@host"]) == ExitCode.USAGE
    assert "canary" not in capsys.readouterr().err
