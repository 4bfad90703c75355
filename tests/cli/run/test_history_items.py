"""Items of the journal as the report has them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from apixo_async import (
    DownloadError,
    GptImage2,
    OtherModel,
    Result,
    SubmitUncertainError,
    TaskFailedError,
    TaskRef,
)
from apixo_async._cli.report.records import Failure, ItemRecord
from apixo_async._cli.run.history import RecordView, failure_of, prompt_of
from apixo_async.journal import open_journal
from apixo_async.journal._entry import Entry
from apixo_async.journal._journal import Journal

PRICE = Decimal("0.02")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Items:
    """A journal whose clock is set by hand, and its items as records."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds = 0.0
        self.failures: dict[str, Failure] = {}
        self.journal: Journal

    async def open(self) -> None:
        """Open the journal."""
        clock = NOON.timestamp
        self.journal = await Journal.open(
            self.folder / "run.db", clock=lambda: clock() + self.seconds
        )

    async def submitted(self, key: str, price: Decimal | None = PRICE) -> Entry:
        """Buy an item."""
        entry = await self.journal.enter(key, GptImage2(prompt=f"a {key}"))
        await self.journal.intend(entry, None, price)
        self.journal.submitted(entry, f"task_{key}")
        return entry

    async def records(self, began: float = 100.0) -> dict[str, ItemRecord]:
        """Return the records by key."""
        view = RecordView(self.folder, NOON + timedelta(seconds=began), {"cat": 7}, self.failures)
        await self.journal.aclose()
        async with open_journal(self.folder / "run.db") as journal:
            records = [view.record(entry) async for entry in journal.entries()]
        return {record.key: record for record in records}


@pytest.fixture
async def items(tmp_path: Path) -> Items:
    """Have an open journal."""
    made = Items(tmp_path)
    await made.open()
    return made


async def test_a_saved_result(items: Items) -> None:
    """It has its files beside the report, times of the service, price and line."""
    entry = await items.submitted("cat")
    made = Result(
        "task_cat", "gpt-image-2", ("https://x/1.png",), {"resultUrls": ["https://x/1.png"]},
        created_at=NOON, completed_at=NOON + timedelta(seconds=12.5),
    )  # fmt: skip
    items.journal.succeeded(entry, made)
    items.journal.downloaded(entry, [items.folder / "task_cat-1.png"])
    record = (await items.records())["cat"]
    assert (record.state, record.line, record.cost, record.duration) == (
        "downloaded", 7, PRICE, 12.5
    )  # fmt: skip
    assert record.files == (Path("task_cat-1.png"),)
    assert record.urls == ("https://x/1.png",)
    assert (record.created_at, record.ended_at) == (NOON, NOON + timedelta(seconds=12.5))
    assert record.prompt == "a cat"
    assert record.resumed


async def test_a_result_that_was_not_saved(items: Items) -> None:
    """It is a success without files, with the reason that this run has met."""
    items.seconds = 200.0
    entry = await items.submitted("dog")
    items.seconds = 230.0
    items.journal.succeeded(entry, Result("task_dog", "gpt-image-2", ()))
    items.failures["dog"] = failure_of(DownloadError("the disk is full"))
    record = (await items.records())["dog"]
    assert (record.state, record.duration, record.resumed) == ("success", 30.0, False)
    assert record.failure == Failure("download", "DownloadError", "the disk is full")


async def test_what_is_known_beside_the_journal(items: Items) -> None:
    """What earlier runs paid and what a row says are found by the key, given or made."""
    await items.submitted("cat")
    entry = await items.journal.enter(None, GptImage2(prompt="a dog"))
    await items.journal.intend(entry, None, PRICE)
    await items.journal.flush()
    view = RecordView(
        items.folder, costs={"cat": PRICE, "x": PRICE}, kept={"cat": {"note": "dusk"}}, in_use=True
    )
    async with open_journal(items.folder / "run.db") as journal:
        cat, dog = [view.record(entry) async for entry in journal.entries()]
    assert (cat.cost_before, cat.kept, cat.is_key_given) == (PRICE, {"note": "dusk"}, True)
    assert (dog.cost_before, dog.kept, dog.is_key_given) == (0, {}, False)
    assert (cat.resumed, cat.state, dog.state) == (False, "unfinished", "unfinished")
    await items.journal.aclose()


async def test_other_ends(items: Items) -> None:
    """A failure, a task that goes on, an uncertain submit and an unbought item are told apart."""
    failed = await items.submitted("hen")
    error = TaskFailedError(
        "failed", ref=TaskRef("gpt-image-2", "task_hen"), fail_code="NSFW", fail_msg="no",
        family="content", retryable=False,
    )  # fmt: skip
    items.journal.failed(failed, error)
    await items.submitted("cow", None)
    doubtful = await items.journal.enter("pig", GptImage2(prompt="a pig"))
    await items.journal.intend(doubtful, None, PRICE)
    items.journal.uncertain(doubtful, "no answer")
    await items.journal.enter("ant", GptImage2(prompt="an ant"))
    records = await items.records()
    assert {key: record.state for key, record in records.items()} == {
        "hen": "failed", "cow": "unfinished", "pig": "uncertain", "ant": "unbought",
    }  # fmt: skip
    assert records["hen"].failure == Failure("content", "NSFW", "no")
    assert records["pig"].failure == Failure("uncertain", "SubmitUncertainError", "no answer")
    costs = [records[key].cost for key in ("hen", "cow", "pig", "ant")]
    assert costs == [PRICE, None, PRICE, None]
    assert not records["ant"].resumed


def test_a_failure_without_a_code_is_still_one() -> None:
    """What the service did not name is "failed"; other errors have their class."""
    error = TaskFailedError(
        "x", ref=TaskRef("m", "t"), fail_code=None, fail_msg=None, family="unknown", retryable=False
    )
    assert failure_of(error) == Failure("unknown", "failed", "")
    uncertain = SubmitUncertainError(
        "lost", model="m", input=OtherModel("m", prompt="x"), sent_at=NOON
    )
    assert failure_of(uncertain) == Failure("uncertain", "SubmitUncertainError", "lost")


@pytest.mark.parametrize(
    ("asked", "prompt"), [({"prompt": "a"}, "a"), ({}, ""), ({"prompt": ["a", 1]}, '["a", 1]')]
)
def test_the_prompt_is_a_text(asked: dict[str, object], prompt: str) -> None:
    """Models without a page may have none, or another kind."""
    assert prompt_of(asked) == prompt
