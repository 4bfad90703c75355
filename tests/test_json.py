"""What goes into JSON comes out as it was; what anybody wrote does no harm."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from apixo_async import (
    AsyncClient,
    ConfigurationError,
    GptImage2,
    OtherModel,
    Outcome,
    Result,
    Snapshot,
    SubmitUncertainError,
    TaskFailedError,
    TaskRef,
    from_json,
    to_json,
)
from apixo_async.testing import Fault, Simulator

ClientOf = Callable[..., AsyncClient]
AT = datetime(2026, 11, 28, 10, 30, tzinfo=UTC)
REF = TaskRef("suno", "task_1")
RESULT = Result(
    "task_1", "suno", ("https://x/a.mp3",), {"audio_url": "https://x/a.mp3", "half": "\ud83d"},
    AT, None, 9.04, Decimal("0.05"), "customer-42",
)  # fmt: skip
RUNNING = Snapshot("task_1", "suno", "processing", {"state": "processing"})
FAILED = Snapshot("task_1", "suno", "failed", {}, None, "NSFW", "no")
OVER = Snapshot("task_1", "suno", "success", {"n": 1}, RESULT)


@pytest.mark.parametrize("value", [REF, RESULT, RUNNING, FAILED, OVER], ids=repr)
def test_there_and_back(value: Result | TaskRef | Snapshot) -> None:
    """Equal in every field, by JSON and by pickle."""
    stored = to_json(value)
    assert json.loads(stored)["type"] == type(value).__name__
    assert from_json(stored) == from_json(stored.encode()) == value
    assert pickle.loads(pickle.dumps(value)) == value


async def test_outcomes(simulator: Simulator, client_of: ClientOf, tmp_path: Path) -> None:
    """Successes, failures and doubts, with their inputs, errors and files, and without a task."""
    simulator.faults.submit(None, Fault.task_fails("NSFW"), Fault.lost_answer(), Fault.status(400))
    inputs = [GptImage2(prompt="a fox"), *[OtherModel("suno", prompt="a sea", n=[1])] * 3]
    client = client_of(simulator)
    outcomes = client.map(inputs, download_to=tmp_path, tag="t", provider="value", ordered=True)
    done = [one async for one in outcomes]
    again = [from_json(to_json(one)) for one in done]
    for one, other in zip(done, again, strict=True):
        assert isinstance(other, Outcome)
        assert other.task is None
        assert type(other.error) is type(one.error)
        assert (other.ref, other.paths, other.tag) == (one.ref, one.paths, "t")
        assert other.to_dict() | {"cost": None} == one.to_dict() | {"cost": None}
        if one.error is not None and other.error is not None:
            assert str(other.error) == str(one.error)
            names = ("bought", "task_over", "ref", "tag", "model", "category")
            assert [getattr(other.error, n) for n in names] == [
                getattr(one.error, n) for n in names
            ]
    assert [type(one.error) for one in done[1:3]] == [TaskFailedError, SubmitUncertainError]
    doubt = again[2].error if isinstance(again[2], Outcome) else None
    assert isinstance(doubt, SubmitUncertainError)
    assert (doubt.input, doubt.delivery.provider) == (inputs[1], "value")


def test_response_models() -> None:
    """FastAPI describes and returns all four."""
    app = FastAPI()
    outcome = Outcome("0", GptImage2(prompt="a fox"), None, RESULT, None, 1, ref=REF)
    values: list[Any] = [REF, OVER, outcome, Result("t", "m", ("https://x",), cost=Decimal("0.02"))]
    for value in values:
        app.get(f"/{type(value).__name__}", response_model=type(value))(partial(_same, value))
    client = TestClient(app)
    assert client.get("/TaskRef").json() == {"model": "suno", "task_id": "task_1"}
    assert client.get("/Result").json()["cost"] == "0.02"
    assert client.get("/Outcome").json() == json.loads(json.dumps(outcome.to_dict()))
    assert {"TaskRef", "Result", "Snapshot"} <= client.get("/openapi.json").json()["components"][
        "schemas"
    ].keys()


async def _same(value: Any, /) -> Any:
    return value


@pytest.mark.parametrize(
    "stored",
    [
        "", "{}", "[]", "null", "7", b"\xff", '{"type": "Task"}', '{"type": ["Result"]}',
        '{"type": "TaskRef"}', '{"type": "TaskRef", "model": "m", "task_id": 7}',
        '{"type": "Result", "model": "m", "task_id": "t"}', "[" * 100_000,
        '{"type": "Outcome", "error": {"class": 7}, "input": {"model": 7}}',
    ],
)  # fmt: skip
def test_what_anybody_wrote(stored: str | bytes) -> None:
    """It is an error of the caller's, or a value with what could be read."""
    with pytest.raises(ConfigurationError, match="no JSON of a Result, TaskRef"):
        from_json(stored)


def test_what_is_none_of_them() -> None:
    """A task, or anything else, is refused with what can be given."""
    with pytest.raises(ConfigurationError, match="int given; a Result, TaskRef"):
        to_json(7)  # type: ignore[arg-type]  # as callers do
