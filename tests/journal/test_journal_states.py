"""A journal against a model of it, through moves, refusals, closings, crashes and reopenings."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from apixo_async import SubmitUncertainError
from apixo_async.journal._entry import STATES, Entry
from apixo_async.journal._journal import Journal
from apixo_async.testing import VirtualTimeLoop

from ..support.journals import castle, copied, failure, result

PRICES = st.sampled_from([None, Decimal("0.02"), Decimal("0.35")])
PICKS = st.integers(0, 1000)


@dataclass(frozen=True)
class Known:
    """What the model knows of an item."""

    state: str = "new"
    purchases: int = 0
    cost: Decimal = Decimal(0)
    unpriced: int = 0
    mark: str | None = None
    task_id: str | None = None
    files: tuple[Path, ...] = ()


class JournalMachine(RuleBasedStateMachine):
    """One journal, in which anything may happen that a run does, and the runs come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self.place = Path(tempfile.mkdtemp())
        self.crashes = self.marks = 0
        self.model: dict[str, Known] = {}
        self.before: dict[str, Known] = {}
        self.entered: dict[str, Entry] = {}
        self.open(self.place / "run.db")

    def open(self, path: Path) -> None:
        self.journal = self.runner.run(Journal.open(path))
        self.entered.clear()
        for key, known in self.model.items():
            if known.state == "intent":
                self.model[key] = replace(known, state="uncertain")

    def pick(self, pick: int, *states: str) -> Entry | None:
        found = [key for key in self.entered if self.model[key].state in states]
        return self.entered[found[pick % len(found)]] if found else None

    def now(self, entry: Entry, state: str, **changes: object) -> None:
        known = self.model[entry.key]
        self.model[entry.key] = replace(known, state=state, **changes)  # type: ignore[arg-type]  # by name

    @rule(number=st.integers(0, 3))
    def enter(self, number: int) -> None:
        entry = self.runner.run(self.journal.enter(None, castle(number)))
        assert entry.key not in self.entered
        self.model.setdefault(entry.key, Known())
        self.entered[entry.key] = entry
        self.same(entry)

    @rule(pick=PICKS, price=PRICES, marked=st.booleans(), cancelled=st.booleans())
    def intend(self, pick: int, price: Decimal | None, marked: bool, cancelled: bool) -> None:
        entry = self.pick(pick, "new", "failed", "uncertain")
        if entry is None:
            return
        self.marks += 1
        mark = f"mark {self.marks}" if marked else None
        if cancelled:
            self.runner.run(self.cut_off(entry, mark, price))
            return
        self.runner.run(self.journal.intend(entry, mark, price))
        known = self.before[entry.key] = self.model[entry.key]
        self.now(
            entry,
            "intent",
            mark=mark,
            purchases=known.purchases + 1,
            cost=known.cost + (price or 0),
            unpriced=known.unpriced + (price is None),
        )

    async def cut_off(self, entry: Entry, mark: str | None, price: Decimal | None) -> None:
        intending = asyncio.ensure_future(self.journal.intend(entry, mark, price))
        await asyncio.sleep(0)
        intending.cancel()
        await asyncio.gather(intending, return_exceptions=True)
        assert intending.cancelled()

    @rule(pick=PICKS)
    def refused(self, pick: int) -> None:
        if entry := self.pick(pick, "intent"):
            self.journal.refused(entry)
            self.model[entry.key] = self.before[entry.key]

    @rule(pick=PICKS)
    def submitted(self, pick: int) -> None:
        if entry := self.pick(pick, "intent", "uncertain"):
            task_id = f"task of {entry.key}"
            self.journal.submitted(entry, task_id)
            self.now(entry, "submitted", task_id=task_id, files=())

    @rule(pick=PICKS)
    def uncertain(self, pick: int) -> None:
        if entry := self.pick(pick, "intent"):
            self.journal.uncertain(entry, "no answer")
            self.now(entry, "uncertain")

    @rule(pick=PICKS, well=st.booleans())
    def ended(self, pick: int, well: bool) -> None:
        entry = self.pick(pick, "submitted")
        if entry is None:
            return
        task_id = self.model[entry.key].task_id or ""
        if well:
            self.journal.succeeded(entry, result(task_id))
        else:
            self.journal.failed(entry, failure(task_id))
        self.now(entry, "success" if well else "failed")

    @rule(pick=PICKS)
    def downloaded(self, pick: int) -> None:
        if entry := self.pick(pick, "success"):
            self.journal.downloaded(entry, [Path("a.png")])
            self.now(entry, "success", files=(Path("a.png"),))

    @rule()
    def close_and_open(self) -> None:
        self.runner.run(self.journal.aclose())
        self.open(Path(self.journal.path))

    @precondition(lambda self: self.crashes < 5)
    @rule()
    def crash(self) -> None:
        """Go on with a copy of what is durable, as after a loss of power."""
        self.runner.run(self.journal.flush())
        copy = copied(Path(self.journal.path))
        self.runner.run(self.journal.aclose())
        self.crashes += 1
        path = self.place / f"run {self.crashes}.db"
        for suffix in ("", "-wal"):
            Path(f"{copy}{suffix}").rename(f"{path}{suffix}")
        self.open(path)

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        self.runner.run(self.compare())

    async def compare(self) -> None:
        entries = [entry async for entry in self.journal.entries()]
        assert [entry.key for entry in entries] == [*self.model]
        for entry in entries:
            self.same(entry)
        counts = await self.journal.counts()
        assert [*counts] == [*STATES]
        assert sum(counts.values()) == len(entries)
        states = [known.state for known in self.model.values()]
        assert counts == {state: states.count(state) for state in STATES}
        spent, unpriced = await self.journal.spent()
        assert spent == sum(known.cost for known in self.model.values())
        assert unpriced == sum(known.unpriced for known in self.model.values())
        assert [entry.key for entry in await self.journal.pending()] == [
            key
            for key, known in self.model.items()
            if known.state in ("submitted", "uncertain") and key not in self.entered
        ]

    def same(self, entry: Entry) -> None:
        known = self.model[entry.key]
        assert (entry.state, entry.purchases, entry.cost, entry.unpriced) == (
            known.state,
            known.purchases,
            known.cost,
            known.unpriced,
        )
        assert (entry.intent_id, entry.task_id, entry.files) == (
            known.mark,
            known.task_id,
            known.files,
        )
        if known.state == "success":
            assert entry.result == result(known.task_id or "")
        if known.state == "uncertain":
            assert isinstance(entry.error, SubmitUncertainError)
        if known.state == "failed":
            assert vars(entry.error) == vars(failure(known.task_id or ""))

    def teardown(self) -> None:
        self.runner.run(self.journal.aclose())
        self.runner.close()
        shutil.rmtree(self.place)


@pytest.mark.heavy
def test_a_journal_is_like_its_model() -> None:
    """Whatever a run does, and however it ends, the journal holds what the model holds."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]  # hypothesis has no type for it
        JournalMachine,
        settings=settings(
            max_examples=15,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[*HealthCheck],
        ),
    )
