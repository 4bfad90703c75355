from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import asdict, replace
from datetime import UTC, datetime

import pytest

from apixo_async import (
    ApixoError,
    AsyncClient,
    BadRequestError,
    ConfigurationError,
    DownloadError,
    OtherModel,
    Result,
    SubmitUncertainError,
    TaskAbandonedError,
    TaskFailedError,
    TaskRef,
)
from apixo_async._map.items import Outcome
from apixo_async.testing import Simulator

from ..support.maps import castle

GOOD = Outcome("7", castle(1), None, Result("task_1", "flux-kontext", ()), None, 1)
BAD = Outcome("8", castle(1), None, None, BadRequestError("no", status=400), 0)


def test_ok() -> None:
    """An outcome with a result is ok, one with an error is not."""
    assert (GOOD.ok, BAD.ok) == (True, False)


def test_repr_is_short() -> None:
    """The repr names the key and the end, and holds no prompt."""
    assert (repr(GOOD), repr(BAD)) == ("<Outcome '7' success>", "<Outcome '8' BadRequestError>")


def test_frozen() -> None:
    """Nobody changes an outcome."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        GOOD.key = "9"  # type: ignore[misc]


REF = TaskRef("flux-kontext", "task_1")
FAILED = TaskFailedError(
    "no", ref=REF, fail_code="NSFW", fail_msg="no", family="content", retryable=False
)
UNCERTAIN = SubmitUncertainError(
    "lost", model="flux-kontext", input=castle(1), sent_at=datetime.now(UTC)
)
ENDS: list[tuple[Outcome, str, float | None]] = [
    (GOOD, "success", 0.03),
    (replace(GOOD, error=DownloadError("no room")), "success", 0.03),
    (replace(GOOD, input=OtherModel("sora-2")), "success", None),
    (replace(BAD, error=FAILED, purchases=2), "failed", 0.06),
    (replace(BAD, error=TaskAbandonedError("old", ref=REF), purchases=1), "unfinished", 0.03),
    (replace(BAD, error=UNCERTAIN), "uncertain", None),
    (replace(BAD, error=UNCERTAIN, purchases=1), "uncertain", None),
    (replace(BAD, error=ApixoError("cut off")), "uncertain", None),
    (replace(BAD, error=ConfigurationError("no input"), input=None), "unbought", 0.0),
]


@pytest.mark.parametrize(("outcome", "state", "cost"), ENDS, ids=lambda one: str(one)[:40])
def test_state_and_cost(outcome: Outcome, state: str, cost: float | None) -> None:
    """The state is that of the last task; a cost that cannot be known is None, and never 0."""
    assert outcome.state == state
    assert outcome.to_dict()["cost"] == cost


def test_unwrap() -> None:
    """It returns the result, or raises the error: each caller's own copy."""
    assert GOOD.unwrap() is GOOD.result
    raised: list[BaseException] = []
    for _ in range(2):
        with pytest.raises(BadRequestError, match="no") as caught:
            BAD.unwrap()
        raised.append(caught.value)
    assert BAD.error is not None
    assert BAD.error.__traceback__ is None
    assert raised[0] is not raised[1]


def test_rows_of_success_and_failure_have_the_same_columns() -> None:
    """A row is flat and plain, its columns those of every other outcome of the model."""
    good, bad = GOOD.to_dict(), replace(BAD, error=FAILED, ref=REF, purchases=1).to_dict()
    assert [*good] == [*bad]
    for row in (good, bad):
        for value in row.values():
            plain = value if isinstance(value, list) else [value]
            assert {type(one) for one in plain} <= {str, int, float, bool, type(None)}
    assert good.items() >= {"key": "7", "model": "flux-kontext", "prompt": "castle 1"}.items()
    assert good.items() >= {"state": "success", "urls": [], "paths": [], "error": None}.items()
    assert bad.items() >= {"task_id": "task_1", "state": "failed", "error": "no"}.items()
    assert [*good][:5] == ["key", "model", "task_id", "state", "mode"]


def test_a_field_with_the_name_of_a_column_is_kept() -> None:
    """No field is lost to a column, and what is nested becomes JSON."""
    given = OtherModel("sora-2", seconds=8, key="mine", shots=[{"at": 1}], tags=["a"], none=[])
    row = replace(GOOD, input=given).to_dict()
    assert row.items() >= {"key": "7", "input_key": "mine", "input_seconds": 8}.items()
    assert row.items() >= {"shots": '[{"at": 1}]', "tags": ["a"], "none": []}.items()


async def test_a_pickle_has_no_task() -> None:
    """An outcome goes to another process without its handle, which stays where its loop is."""
    simulator = Simulator(seed=1)
    async with AsyncClient("test-key", transport=simulator.transport()) as client:
        (outcome,) = [one async for one in client.map([castle(1)])]
    assert outcome.task is not None
    twin = pickle.loads(pickle.dumps(outcome))
    assert twin == replace(outcome, task=None)
    assert twin.ref == outcome.task.ref
    assert copy.copy(outcome) is outcome
    assert copy.deepcopy(outcome).task is None
    assert asdict(outcome)["task"] is outcome.task  # As pandas takes dataclasses apart.
    for error in [one.error for one, *_ in ENDS if one.error is not None]:
        twin = pickle.loads(pickle.dumps(replace(BAD, error=error)))
        assert (type(twin.error), str(twin.error)) == (type(error), str(error))


def test_in_a_notebook() -> None:
    """An outcome shows its key, its task and its files, or its error, and nothing as markup."""
    url = "https://x/a.mp4"
    made = Result("task_1", "sora-2", (url,))
    shown = replace(GOOD, key="<7>", result=made, ref=made.ref)._repr_html_()
    assert "&lt;7&gt;: sora-2/task_1" in shown
    assert f'<video src="{url}"' in shown
    assert "<div>8</div>" in BAD._repr_html_()
    assert "&lt;b&gt;" in replace(BAD, error=ApixoError("<b>"))._repr_html_()
