"""A store in the memory of one process: what clients share in tests, without a database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from apixo_async.stores._protocol import (
    ENDED,
    KEEP,
    EndState,
    Intended,
    Purchase,
    SharedValue,
    State,
    StoreEntry,
)

#: Tasks that callbacks have named for one POST, after which no more are kept.
MOST_CLAIMED = 5


@dataclass(slots=True)
class _Kept:
    """An entry, and what it was before an intent that may be refused."""

    entry: StoreEntry
    prior: StoreEntry | None = None
    held_until: float = 0.0


@dataclass(slots=True, eq=False)
class _Tables:
    entries: dict[str, _Kept] = field(default_factory=dict[str, _Kept])
    rows: int = 0
    limits: dict[str, tuple[bytes, int]] = field(default_factory=dict[str, tuple[bytes, int]])
    listeners: dict[OpenMemoryStore, Callable[[str | None], None]] = field(
        default_factory=dict["OpenMemoryStore", Callable[[str | None], None]]
    )


class MemoryStore:
    """Let clients of one event loop share an account as processes do; give each the same one.

    It forgets everything with the process. Its clock is that of the event loop, so that in virtual
    time nothing waits.

    Args:
        keep: For how long an entry is kept after its end.
    """

    def __init__(self, *, keep: timedelta = KEEP) -> None:
        self.keep = keep
        self._tables = _Tables()

    async def open(self, account: str) -> OpenMemoryStore:
        """See `Backend.open`."""
        return OpenMemoryStore(self._tables, account)


class OpenMemoryStore:
    """See `Store`."""

    def __init__(self, tables: _Tables, account: str) -> None:
        self._tables = tables
        self._account = account

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _open_tasks(self) -> int:
        now = self._now
        # What is over holds none: its times are 0.
        return sum(
            (kept.entry.slot_until > now) + (kept.held_until > now)
            for kept in self._tables.entries.values()
            if kept.entry.account == self._account
        )

    def _of_attempt(self, attempt: str, *states: State) -> _Kept | None:
        for kept in self._tables.entries.values():
            if kept.entry.attempt == attempt and kept.entry.state in states:
                return kept
        return None

    def listen(self, heard: Callable[[str | None], None] | None) -> None:
        """See `Store.listen`."""
        self._tables.listeners.pop(self, None)
        if heard is not None:
            self._tables.listeners[self] = heard

    def _tell(self, key: str | None) -> None:
        for store, heard in self._tables.listeners.items():
            if store is not self:
                asyncio.get_running_loop().call_soon(heard, key)

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        self.listen(None)

    async def load(self) -> SharedValue:
        """See `LimitsStore.load`."""
        body, version = self._tables.limits.get(self._account, (None, 0))
        uncertain = sum(
            kept.entry.account == self._account and kept.entry.state is State.UNCERTAIN
            for kept in self._tables.entries.values()
        )
        return SharedValue(
            body,
            version,
            self._now,
            open_tasks=self._open_tasks(),
            uncertain=uncertain,
            other_clock=self._now,
        )

    async def save(self, body: bytes, version: int) -> bool:
        """See `LimitsStore.save`."""
        _, newest = self._tables.limits.get(self._account, (None, 0))
        if version != newest:
            return False
        self._tables.limits[self._account] = (body, version + 1)
        return True

    async def intend(
        self,
        purchase: Purchase,
        attempt: str,
        owner: str,
        *,
        slots: int,
        hold: float,
        instead_of: str | None = None,
    ) -> Intended:
        """See `Store.intend`."""
        now, kept = self._now, self._tables.entries.get(purchase.key)
        was = None if kept is None else self._read(kept)
        if was is not None and (
            was.attempt != instead_of or was.state not in {State.UNCERTAIN, State.LOST}
        ):
            return Intended(False, was)
        if was is None and instead_of is not None:
            return Intended(False, None)
        if self._open_tasks() >= slots:
            return Intended(False, was)
        if was is None or kept is None:
            self._tables.rows += 1
            entry = StoreEntry(
                row=self._tables.rows,
                account=self._account,
                purchase=purchase,
                state=State.INTENT,
                owner=owner,
                attempt=attempt,
                purchases=1,
                intent_at=now,
                slot_until=now + hold,
                submitted_at=None,
                ended_at=None,
                task_id=None,
                also=(),
                called_at=None,
                claimed=(),
                outcome=None,
                read_at=now,
            )
            self._tables.entries[purchase.key] = _Kept(entry)
            return Intended(True, entry)
        kept.prior = was
        kept.held_until = was.slot_until if was.state is State.UNCERTAIN else 0.0
        kept.entry = replace(
            was,
            account=self._account,
            state=State.INTENT,
            owner=owner,
            attempt=attempt,
            purchases=was.purchases + 1,
            called_at=None,
            intent_at=now,
            slot_until=now + hold,
        )
        return Intended(True, self._read(kept))

    async def refused(self, attempt: str) -> None:
        """See `Store.refused`."""
        kept = self._of_attempt(attempt, State.INTENT, State.UNCERTAIN)
        if kept is None:
            return
        self._tell(kept.entry.purchase.key)
        if self._is_paid(kept):
            return
        if kept.entry.called_at is not None:
            kept.entry = replace(kept.entry, state=State.UNCERTAIN, owner=None)
        elif kept.prior is None:
            del self._tables.entries[kept.entry.purchase.key]
        else:
            kept.entry = replace(kept.prior, also=kept.entry.also, owner=None)
            kept.prior, kept.held_until = None, 0.0

    def _is_paid(self, kept: _Kept) -> bool:
        """Make the task of another POST that of the entry, if one is known; return True then."""
        entry = kept.entry
        if entry.task_id is not None or not entry.also:
            return False
        task_id, *also = entry.also
        kept.entry = replace(
            entry,
            state=State.SUBMITTED,
            owner=None,
            task_id=task_id,
            also=tuple(also),
            submitted_at=self._now,
        )
        kept.prior, kept.held_until = None, 0.0
        return True

    async def bought(
        self, purchase: Purchase, attempt: str, owner: str, task_id: str, *, hold: float
    ) -> StoreEntry:
        """See `Store.bought`."""
        now = self._now
        if purchase.key not in self._tables.entries:
            await self.intend(purchase, attempt, owner, slots=10**9, hold=hold)
        self._tell(purchase.key)
        kept = self._tables.entries[purchase.key]
        entry = kept.entry
        if entry.attempt == attempt and entry.state in {State.INTENT, State.UNCERTAIN}:
            also = entry.also if entry.task_id is None else (*entry.also, entry.task_id)
            kept.entry = replace(
                entry,
                state=State.SUBMITTED,
                owner=owner,
                also=also,
                task_id=task_id,
                submitted_at=now,
                slot_until=now + hold,
            )
            kept.prior = None
        elif task_id != entry.task_id and task_id not in entry.also:
            kept.entry = replace(entry, also=(*entry.also, task_id))
        return self._read(kept)

    async def uncertain(self, attempt: str, *, hold: float) -> None:
        """See `Store.uncertain`."""
        kept = self._of_attempt(attempt, State.INTENT)
        if kept is not None:
            self._tell(kept.entry.purchase.key)
            until = self._now + hold
            kept.entry = replace(kept.entry, state=State.UNCERTAIN, slot_until=until)

    async def called(self, attempt: str, task_id: str | None) -> bool:
        """See `Store.called`."""
        kept = self._of_attempt(attempt, *State)
        if kept is not None and kept.entry.state not in ENDED:
            self._tell(kept.entry.purchase.key)
            others = {
                each.entry.task_id for each in self._tables.entries.values() if each is not kept
            }
            claimed = kept.entry.claimed
            if task_id is not None and task_id not in {*others, *claimed}:
                claimed = (*claimed, task_id)[:MOST_CLAIMED]
            kept.entry = replace(kept.entry, called_at=self._now, claimed=claimed)
        return kept is not None

    async def over(self, attempt: str, state: EndState, outcome: str | None) -> None:
        """See `Store.over`."""
        kept = self._of_attempt(attempt, State.SUBMITTED, State.LOST)
        if kept is not None:
            self._tell(kept.entry.purchase.key)
            kept.held_until = 0.0
            kept.entry = replace(
                kept.entry,
                state=state,
                outcome=outcome,
                owner=None,
                ended_at=self._now,
                slot_until=0.0,
            )

    async def resolve(
        self, key: str, attempt: str, *, task_id: str | None, owner: str | None, hold: float
    ) -> bool:
        """See `Store.resolve`."""
        kept = self._tables.entries.get(key)
        states = [State.UNCERTAIN] if task_id is None else [State.UNCERTAIN, State.LOST]
        if kept is None or kept is not self._of_attempt(attempt, *states):
            return False
        self._tell(key)
        was, now = kept.entry, self._now
        if task_id is None:
            if was.task_id is not None:
                kept.entry = replace(was, state=State.LOST, slot_until=0.0)
            elif not self._is_paid(kept):
                del self._tables.entries[key]
            kept.prior = None
            return True
        kept.prior = None
        kept.entry = replace(
            was,
            state=State.SUBMITTED,
            owner=owner,
            also=was.also if was.task_id is None else (*was.also, was.task_id),
            task_id=task_id,
            submitted_at=was.intent_at,
            ended_at=None,
            outcome=None,
            slot_until=now + hold,
        )
        return True

    async def find(self, key: str) -> StoreEntry | None:
        """See `Store.find`."""
        found = await self.find_all([key])
        return found[0] if found else None

    async def find_all(self, keys: Collection[str]) -> Sequence[StoreEntry]:
        """See `Store.find_all`."""
        return [self._read(kept) for key, kept in self._tables.entries.items() if key in keys]

    def _read(self, kept: _Kept) -> StoreEntry:
        return replace(kept.entry, read_at=self._now)

    async def named(self, task_id: str) -> StoreEntry | None:
        """See `Store.named`."""
        for kept in self._tables.entries.values():
            if kept.entry.task_id == task_id:
                return self._read(kept)
        return None

    async def take_over(
        self, owner: str, living: Collection[str], *, most: int, settled: float
    ) -> Sequence[StoreEntry]:
        """See `Store.take_over`."""
        taken: list[StoreEntry] = []
        for kept in self._tables.entries.values():
            entry = kept.entry
            if entry.account != self._account:
                continue
            is_young = (
                entry.owner is not None and self._now - settled < entry.intent_at <= self._now
            )
            is_gone = entry.owner not in {*living, owner} and not is_young
            if entry.state is State.INTENT and (is_gone or entry.slot_until <= self._now):
                kept.entry = replace(entry, state=State.UNCERTAIN, owner=None)
                is_gone = True
            is_known = kept.entry.state is State.SUBMITTED or (
                kept.entry.state is State.UNCERTAIN and entry.claimed
            )
            if is_known and is_gone and len(taken) < most:
                kept.entry = replace(kept.entry, owner=owner)
                taken.append(self._read(kept))
        return taken

    async def owned(self, owner: str, *, called: bool = False) -> Sequence[StoreEntry]:
        """See `Store.owned`."""
        return [
            self._read(kept)
            for kept in self._tables.entries.values()
            if kept.entry.account == self._account
            and kept.entry.owner == owner
            and kept.entry.state not in ENDED
            and (kept.entry.called_at if called else kept.entry.state is State.SUBMITTED)
        ]

    async def leave(self, owner: str) -> None:
        """See `Store.leave`."""
        self._tell(None)
        for kept in self._tables.entries.values():
            if kept.entry.owner == owner and kept.entry.state is not State.INTENT:
                kept.entry = replace(kept.entry, owner=None)

    async def entries(self, state: State | None = None) -> AsyncIterator[StoreEntry]:
        """See `Store.entries`."""
        for kept in tuple(self._tables.entries.values()):
            if state is None or kept.entry.state is state:
                yield self._read(kept)

    async def delete(self, key: str) -> bool:
        """See `Store.delete`."""
        kept = self._tables.entries.get(key)
        if kept is None or kept.entry.state not in ENDED:
            return False
        del self._tables.entries[key]
        return True

    async def sweep(self, keep: float) -> int:
        """See `Store.sweep`."""
        until = self._now - keep
        old = [
            key
            for key, kept in self._tables.entries.items()
            if kept.entry.ended_at is not None
            and kept.entry.ended_at <= until
            and kept.entry.state in ENDED
        ]
        for key in old[:500]:
            del self._tables.entries[key]
        return len(old[:500])
