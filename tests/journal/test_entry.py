from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from apixo_async import JournalError, OtherModel, Result, TaskFailedError, TaskRef
from apixo_async.journal._entry import Row, entry_of
from apixo_async.journal._error_forms import error_text
from apixo_async.journal._forms import files_text, result_text

ROW = Row(7, "k", "sora-2", "value", '{"prompt":"x"}')
RESULT = Result("task_1", "sora-2", ("https://cdn.apixo.ai/a.png",))


def test_a_new_item() -> None:
    """An item that nothing has happened to has a place, a key, an input and zeros."""
    entry = entry_of(ROW, "run.db")
    assert entry[:6] == (7, "k", "sora-2", "value", '{"prompt":"x"}', "new")
    assert (entry.purchases, entry.cost, entry.unpriced, entry.files) == (0, Decimal(0), 0, ())
    assert {entry.intent_id, entry.intent_at, entry.task_id, entry.result, entry.error} == {None}
    assert entry.input == OtherModel("sora-2", prompt="x")


def test_an_item_that_is_done() -> None:
    """An item that is done has its money, its times in UTC, its result and its files."""
    row = ROW._replace(
        state="success",
        purchases=2,
        cost=400_000,
        unpriced=1,
        intent_id="mark",
        intent_at=0.5,
        submitted_at=1.0,
        ended_at=2.0,
        task_id="task_1",
        result=result_text(RESULT),
        files=files_text((Path("a.png"),)),
    )
    entry = entry_of(row, "run.db")
    assert (entry.purchases, entry.cost, entry.unpriced) == (2, Decimal("0.4"), 1)
    assert entry.intent_at == datetime(1970, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)
    assert entry.submitted_at == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert entry.ended_at == datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC)
    assert (entry.task_id, entry.result, entry.files) == ("task_1", RESULT, (Path("a.png"),))


def test_an_error_is_a_fresh_one() -> None:
    """Who reads an item twice gets two errors, which can be raised independently."""
    error = TaskFailedError(
        "x",
        ref=TaskRef("sora-2", "task_1"),
        fail_code=None,
        fail_msg=None,
        family="unknown",
        retryable=False,
    )
    row = ROW._replace(state="failed", error=error_text(error))
    first, second = entry_of(row, "run.db").error, entry_of(row, "run.db").error
    assert first is not second
    assert vars(first) == vars(second) == vars(error)


@pytest.mark.parametrize(
    "column",
    [
        {"result": "[]", "task_id": "t"},
        {"error": "{"},
        {"files": "3"},
        {"error": '{"class": "TaskNotFoundError", "task_id": " "}'},
        {"intent_at": 1e20},
        {"ended_at": "soon"},
        {"error": "[" * 100_000},
        {"key": None},
        {"key": b"k"},
        {"model": "no such"},
        {"model": ""},
        {"provider": 5},
        {"payload": "[]"},
        {"payload": b"{}"},
        {"purchases": "x"},
        {"purchases": None},
        {"purchases": -1},
        {"cost": "x"},
        {"cost": -1},
        {"unpriced": 0.5},
        {"claim": " "},
        {"intent_id": b"mark"},
        {"files": b"{}"},
        {"state": "odd"},
        {"state": None},
        {"state": b"new"},
        {"purchases": 1},
        {"task_id": "t"},
        {"state": "submitted"},
        {"state": "submitted", "task_id": " "},
        {"state": "success", "task_id": "t"},
        {"state": "success", "result": result_text(RESULT)},
        {"state": "success", "task_id": "t", "result": "{}"},
        {"state": "failed"},
        {"state": "uncertain"},
        {"state": "uncertain", "error": '{"class": "ApixoError", "bought": false}'},
    ],
)
def test_a_damaged_row(column: dict[str, object]) -> None:
    """A row that holds what no run wrote there is named, with the file and what to do."""
    row = ROW._replace(**column)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(JournalError, match=r"journal run\.db: row 7 \(.*\) is damaged") as caught:
        entry_of(row, "run.db")
    has_signs = {"state", "purchases", "task_id"} & {*column}
    assert caught.value.bought is (None if has_signs else False)
    assert "name another file" in str(caught.value)
    assert caught.value.__cause__ is not None
