"""What is noted of one purchase: its money, and its place in the journal."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from apixo_async import Budget, BudgetExceededError, JournalError, SubmitUncertainError
from apixo_async._map.store import PurchaseRecord
from apixo_async.journal._journal import Journal

from ..support.maps import castle

PRICE = Decimal("0.06")
DOUBT = SubmitUncertainError(
    "no answer", model="flux-kontext", input=castle(0), sent_at=datetime(2026, 1, 1, tzinfo=UTC)
)


async def opened(path: Path, budget: Budget) -> tuple[Journal, PurchaseRecord]:
    """Open a journal with one item; return where its purchase is noted."""
    journal = await Journal.open(path / "run.db")
    entry = await journal.enter("a", castle(0))
    return journal, PurchaseRecord(budget, "flux-kontext", PRICE, Counter(), journal, entry)


async def state_of(journal: Journal) -> Any:
    """Return what the journal says of the item."""
    [entry] = [entry async for entry in journal.entries()]
    return entry.state, entry.purchases, entry.cost, entry.task_id, entry.claim


async def test_without_a_journal() -> None:
    """Money alone is counted: reserved before the POST, and given back once if nothing came."""
    budget, doubts = Budget(PRICE), Counter[Decimal | None]()
    record = PurchaseRecord(budget, "flux-kontext", PRICE, doubts)
    await record.intend(None)
    assert budget.spent == PRICE
    record.refused()
    record.refused()
    assert budget.spent == 0
    await record.intend("mark")
    record.uncertain("no answer", DOUBT)
    record.uncertain("no answer", DOUBT)
    assert doubts == {PRICE: 1}
    await record.claimed("mark", "task_1")
    record.bought("task_1")
    record.bought("task_1")
    assert doubts == {PRICE: 0}
    assert budget.spent == PRICE
    with pytest.raises(BudgetExceededError):
        await PurchaseRecord(budget, "flux-kontext", PRICE, doubts).intend(None)


async def test_a_purchase(tmp_path: Path) -> None:
    """The intent is in the journal before the POST, and the task after it."""
    budget = Budget(None)
    journal, record = await opened(tmp_path, budget)
    await record.intend("mark")
    assert await state_of(journal) == ("intent", 1, PRICE, None, None)
    record.refused()
    assert await state_of(journal) == ("new", 0, 0, None, None)
    await record.intend("another")
    record.bought("task_1")
    assert await state_of(journal) == ("submitted", 1, PRICE, "task_1", None)
    await journal.aclose()


async def test_an_uncertain_purchase(tmp_path: Path) -> None:
    """An uncertain submit stays uncertain until a callback names its task."""
    journal, record = await opened(tmp_path, Budget(None))
    await record.intend("mark")
    record.uncertain("no answer", DOUBT)
    assert (await state_of(journal))[0] == "uncertain"
    await record.claimed("mark", None)
    assert (await state_of(journal))[0] == "uncertain"
    await record.claimed("mark", "task_1")
    assert await state_of(journal) == ("uncertain", 1, PRICE, None, "task_1")
    record.bought("task_1")
    assert await state_of(journal) == ("submitted", 1, PRICE, "task_1", None)
    await journal.aclose()


async def test_a_claim_before_the_answer(tmp_path: Path) -> None:
    """A callback's word stands beside the submit, and gives way to an answer that came."""
    journal, record = await opened(tmp_path, Budget(None))
    await record.intend("mark")
    await record.claimed("mark", "task_1")
    assert await state_of(journal) == ("intent", 1, PRICE, None, "task_1")
    record.uncertain("no answer", DOUBT)
    assert await state_of(journal) == ("uncertain", 1, PRICE, None, "task_1")
    record.bought("task_2")
    assert await state_of(journal) == ("submitted", 1, PRICE, "task_2", None)
    await journal.aclose()


async def test_a_claim_of_an_earlier_submit(tmp_path: Path) -> None:
    """A claim belongs to the POST whose callback made it: it comes back when a later one fails."""
    journal, record = await opened(tmp_path, Budget(None))
    await record.intend("mark")
    record.uncertain("no answer", DOUBT)
    await record.claimed("mark", "task_1")
    await record.intend("another mark")
    await record.claimed("mark", "task_2")
    assert await state_of(journal) == ("intent", 2, PRICE * 2, None, None)
    record.refused()
    assert await state_of(journal) == ("uncertain", 1, PRICE, None, "task_1")
    await journal.aclose()


async def test_an_intent_that_cannot_be_written(tmp_path: Path) -> None:
    """Nothing may be sent then, and the money is given back."""
    budget = Budget(None)
    journal, record = await opened(tmp_path, budget)
    await journal.aclose()
    with pytest.raises(JournalError):
        await record.intend(None)
    assert budget.spent == 0


async def test_a_journal_that_is_closed(tmp_path: Path) -> None:
    """What was bought is bought, whatever becomes of the journal; a claim has to come again."""
    journal, record = await opened(tmp_path, Budget(None))
    await record.intend(None)
    await journal.aclose()
    record.bought("task_1")
    record.uncertain("no answer", DOUBT)
    record.refused()
    with pytest.raises(JournalError):
        await record.claimed("mark", "task_1")
