"""The store in memory does what every store must, and the checks find stores that do not."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import pytest

from apixo_async.stores._protocol import Intended, Purchase, SharedValue, State, StoreEntry
from apixo_async.testing import store_contract, store_owner_checks
from apixo_async.testing.memory_store import MemoryStore, OpenMemoryStore
from apixo_async.testing.store_contract import CHECKS, StoreCheck


def name_of(check: StoreCheck) -> str:
    return getattr(check, "__name__", "check")


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
async def test_the_store_in_memory(check: StoreCheck) -> None:
    """In virtual time."""
    await check(MemoryStore())


class Broken(OpenMemoryStore):
    """A store with a defect; each below has one."""


class ForgetsWhatItHasConfirmed(Broken):
    async def intend(self, *args: object, **options: object) -> Intended:
        intended = await super().intend(*args, **options)  # type: ignore[arg-type]  # as given
        if intended.done and intended.entry is not None:
            del self._tables.entries[intended.entry.purchase.key]
        return intended


class LetsEverybodyIn(Broken):
    async def intend(self, *args: object, **options: object) -> Intended:
        intended = await super().intend(*args, **options)  # type: ignore[arg-type]  # as given
        return replace(intended, done=True)


class CountsSlotsBefore(Broken):
    async def intend(self, *args: object, **options: object) -> Intended:
        room = self._open_tasks() < options["slots"]  # type: ignore[operator]  # an int
        await asyncio.sleep(0.01)
        slots = 10**9 if room else 0
        return await super().intend(*args, **options | {"slots": slots})  # type: ignore[arg-type]


class KeepsWhateverComes(Broken):
    async def save(self, body: bytes, version: int) -> bool:
        self._tables.limits[self._account] = (body, version + 1)
        return True


class HasAClockThatRunsBack(Broken):
    async def load(self) -> SharedValue:
        value = await super().load()
        return value._replace(now=-value.now)


class HasAClockThatCrawls(Broken):
    async def load(self) -> SharedValue:
        value = await super().load()
        return value._replace(now=value.now / 100)


class BelievesALateRefusal(Broken):
    async def refused(self, attempt: str) -> None:
        for key, kept in [*self._tables.entries.items()]:
            if kept.entry.attempt == attempt:
                del self._tables.entries[key]


class LosesTheOtherTask(Broken):
    async def bought(self, *args: object, **options: object) -> StoreEntry:
        entry = await super().bought(*args, **options)  # type: ignore[arg-type]  # as given
        kept = self._tables.entries[entry.purchase.key]
        kept.entry = replace(entry, also=())
        return kept.entry


class HoldsSlotsForGood(Broken):
    async def over(self, *args: object) -> None:
        await super().over(*args)  # type: ignore[arg-type]  # as given
        for kept in self._tables.entries.values():
            if kept.entry.ended_at is not None:
                kept.held_until = 1e12
                kept.entry = replace(kept.entry, state=State.UNCERTAIN)


class TakesFromLivingOnes(Broken):
    async def take_over(
        self, owner: str, living: Collection[str], **options: Any
    ) -> Sequence[StoreEntry]:
        return await super().take_over(owner, living and [], **options)


class TakesFromThoseWhoHaveJustJoined(Broken):
    async def take_over(
        self, owner: str, living: Collection[str], **options: Any
    ) -> Sequence[StoreEntry]:
        return await super().take_over(owner, living, **{**options, "settled": 0.0})


class TrustsIntentsOfDeadOnes(Broken):
    async def take_over(
        self, owner: str, living: Collection[str], **options: Any
    ) -> Sequence[StoreEntry]:
        before = {key: kept.entry for key, kept in self._tables.entries.items()}
        taken = await super().take_over(owner, living, **options)
        for key, entry in before.items():
            if entry.state is State.INTENT:
                self._tables.entries[key].entry = entry
        return taken


class SweepsDoubts(Broken):
    async def sweep(self, keep: float) -> int:
        swept = await super().sweep(keep)
        for key, kept in [*self._tables.entries.items()]:
            if kept.entry.state is State.UNCERTAIN and swept:
                del self._tables.entries[key]
        return swept


class BelievesEveryWord(Broken):
    async def intend(self, purchase: Purchase, *args: object, **options: object) -> Intended:
        kept = self._tables.entries.get(purchase.key)
        if kept is not None and options.get("instead_of"):
            options["instead_of"] = kept.entry.attempt
            kept.entry = replace(kept.entry, state=State.UNCERTAIN)
        return await super().intend(purchase, *args, **options)  # type: ignore[arg-type]


class DropsWhatACallbackNames(Broken):
    async def called(self, attempt: str, task_id: str | None) -> bool:  # noqa: ARG002
        return await super().called(attempt, None)


class BelievesARefusalAgainstACallback(Broken):
    async def refused(self, attempt: str) -> None:
        kept = self._of_attempt(attempt, State.INTENT)
        if kept is not None:
            kept.entry = replace(kept.entry, called_at=None)
        await super().refused(attempt)


class ForgetsAtTheEnd(Broken):
    async def aclose(self) -> None:
        self._tables.entries.clear()


BROKEN: dict[type[Broken], str] = {
    ForgetsWhatItHasConfirmed: "find an entry|keep an intent",
    LetsEverybodyIn: "refuse a second intent",
    CountsSlotsBefore: "as many intents as there are slots",
    KeepsWhateverComes: "keep a value only if none was kept",
    HasAClockThatRunsBack: "never goes back",
    HasAClockThatCrawls: "goes right",
    BelievesALateRefusal: "find an entry by its key",
    LosesTheOtherTask: "the entry has gone past",
    HoldsSlotsForGood: "give back the slot of what is over|keep the end",
    TakesFromLivingOnes: "hand over",
    TakesFromThoseWhoHaveJustJoined: "submitted just now",
    TrustsIntentsOfDeadOnes: "doubt the intents",
    SweepsDoubts: "remove nothing else",
    BelievesEveryWord: "buy nothing anew",
    DropsWhatACallbackNames: "keep the task that a callback names",
    BelievesARefusalAgainstACallback: "find an entry|although a callback",
    ForgetsAtTheEnd: "find an entry by its key",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
async def test_a_broken_store_is_found(broken: type[Broken]) -> None:
    """By a check that says what it must do."""

    class Backend(MemoryStore):
        async def open(self, account: str) -> OpenMemoryStore:
            return broken(self._tables, account)

    said = []
    for check in CHECKS:
        try:
            async with asyncio.timeout(100):
                await check(Backend())
        except AssertionError as exc:
            said.append(str(exc))
        except (KeyError, TimeoutError) as exc:
            said.append(repr(exc))
    assert any(word in text for text in said for word in BROKEN[broken].split("|")), said


def test_every_check_is_listed() -> None:
    """None is forgotten."""
    written = {
        value
        for module in (store_contract, store_owner_checks)
        for name, value in vars(module).items()
        if inspect.iscoroutinefunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }
    assert written == {*CHECKS}
    assert len(written) == len(CHECKS)
    assert all(isinstance(check, Callable) and check.__doc__ for check in CHECKS)  # type: ignore[arg-type]
