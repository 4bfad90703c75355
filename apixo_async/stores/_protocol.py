"""What a store keeps: an entry for each purchase, and one small value for the limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Final, Literal, NamedTuple, Protocol

from apixo_async._catalog import RESULT_LIFETIME


class State(Enum):
    """What is known of a purchase.

    INTENT: A POST is about to be sent, or was.
    SUBMITTED: The service has given it a task.
    UNCERTAIN: A task may have been bought; only the account, or a callback, shows it.
    SUCCESS: Its task has succeeded.
    FAILED: Its task has failed.
    LOST: The service has no such task, or has not ended it in time; it may still be there.
    """

    INTENT = "intent"
    SUBMITTED = "submitted"
    UNCERTAIN = "uncertain"
    SUCCESS = "success"
    FAILED = "failed"
    LOST = "lost"


#: For how long an entry is kept after its end: as long as the service keeps its result.
KEEP: Final = timedelta(seconds=RESULT_LIFETIME)

#: Seconds after which nothing is done any more of a call whose answer was lost.
LATE: Final = 30.0

#: The most keys that are looked up at once.
MOST_FOUND: Final = 500

#: The states of what is over.
ENDED: Final = frozenset({State.SUCCESS, State.FAILED, State.LOST})

EndState = Literal[State.SUCCESS, State.FAILED, State.LOST]


@dataclass(frozen=True, slots=True)
class Purchase:
    """What is bought under a key.

    Attributes:
        key: Unique in its namespace.
        digest: Of all that decides what is bought.
        model: The model's name.
        provider: The route, or None.
        kind: What the task's duration depends on.
        payload: The input, as JSON.
        price: USD, as text, or None where it is not known.
        tag: The caller's word for it, or None.
        traceparent: The span in which its first POST was sent, as W3C's Trace Context writes it,
            or None.
    """

    key: str
    digest: str
    model: str
    provider: str | None
    kind: str
    payload: str
    price: str | None
    tag: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class StoreEntry:
    """A purchase as it is kept. Times are seconds of the store's clock.

    Attributes:
        row: Its place in the order of the first intents.
        account: Whose slots it takes.
        purchase: What is bought.
        state: What is known of it.
        owner: The process that polls it, or None.
        attempt: The POST that it stands for: 32 hex digits, of no other POST.
        purchases: How many POSTs may have bought something, the present one included.
        intent_at: When the present POST was intended.
        slot_until: When its slot is free again if nothing else is heard.
        submitted_at: When its task was first known, or None.
        ended_at: When its end was noted, or None.
        task_id: The service's id of its task, or None.
        also: Tasks of the same key that were bought too, by the word of an operator.
        called_at: When a callback of the POST came last, or None.
        claimed: The tasks that callbacks have named; only a poll proves that one is the POST's.
        outcome: The result or the error, as JSON, or None.
        read_at: When it was read.
    """

    row: int
    account: str
    purchase: Purchase
    state: State
    owner: str | None
    attempt: str
    purchases: int
    intent_at: float
    slot_until: float
    submitted_at: float | None
    ended_at: float | None
    task_id: str | None
    also: tuple[str, ...]
    called_at: float | None
    claimed: tuple[str, ...]
    outcome: str | None
    read_at: float = field(compare=False)


@dataclass(frozen=True, slots=True)
class Intended:
    """What came of an intent.

    Attributes:
        done: Whether the POST may be sent: the intent is durable, and has a slot.
        entry: The entry as it is now; None where the key has none, for want of a slot.
    """

    done: bool
    entry: StoreEntry | None


class SharedValue(NamedTuple):
    """The value of the limits, as it was read.

    Attributes:
        body: The value; None where there is none.
        version: What `save` wants.
        now: The time of the store, in seconds, between the call and its return.
        is_lost: Whether there was one within the last minutes that is not there any more.
        open_tasks: How many tasks of the account exist, or may exist.
        uncertain: How many of its entries are uncertain.
        other_clock: What a clock shows that is not set together with that of the store, and is
            nearly the same for every process; by it is seen, after all have died, whether the
            clock of the store was set.
    """

    body: bytes | None
    version: int
    now: float
    is_lost: bool = False
    open_tasks: int = 0
    uncertain: int = 0
    other_clock: float = 0.0


class LimitsStore(Protocol):
    """One small value that processes change in turns. It may be lost at any time."""

    async def load(self) -> SharedValue:
        """Read the value."""
        ...

    async def save(self, body: bytes, version: int) -> bool:
        """Keep a value if none was kept since that version was read; return True if it was."""
        ...


class Store(LimitsStore, Protocol):
    """The entries and the limits of one account, opened by one process.

    What a method has written is durable when it returns.

    Every method is awaited on the event loop of its caller, and takes no time from it: the clock is
    the store's own. `StoreError` means that it was not done, as far as the store knows; an intent
    of which that is said may be there all the same, and is taken back by its attempt.
    """

    async def aclose(self) -> None:
        """End what is under way, within a bound."""
        ...

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
        """Make durable that a POST is about to be sent, if it has a slot and no other was first.

        Args:
            purchase: What is bought.
            attempt: The POST.
            owner: The process that sends it.
            slots: Tasks that the account may have at once.
            hold: Seconds for which it has its slot if nothing else is heard.
            instead_of: By the word of somebody: the attempt in whose place it is bought anew. None
                where the key has no entry.
        """
        ...

    async def refused(self, attempt: str) -> None:
        """Note that a POST bought nothing: its entry is gone, or as before, and owned by none.

        Where another POST of the key is known to have bought something, that is the key's task.
        Where a callback of the POST has come, the service has made a task: it is uncertain, and is
        owned by none.

        That is the word of the process which sent it, or did not: where another one has taken that
        for dead, and the entry is uncertain by now, it is believed as well.
        """
        ...

    async def bought(
        self, purchase: Purchase, attempt: str, owner: str, task_id: str, *, hold: float
    ) -> StoreEntry:
        """Note the task of a POST, whatever the store has lost or heard since.

        Returns:
            The entry. It is another attempt's where somebody had that bought meanwhile; this task
            is then in `also`.
        """
        ...

    async def uncertain(self, attempt: str, *, hold: float) -> None:
        """Note that it is not known whether a POST bought something; its owner hears callbacks."""
        ...

    async def called(self, attempt: str, task_id: str | None) -> bool:
        """Note that a callback of a POST has come; what is over is left as it is.

        Args:
            attempt: The POST.
            task_id: The task that it names, or None. One that another entry has is not kept; of
                several, those that came first are.

        Returns:
            Whether there is an entry of the POST, in any namespace of the store.
        """
        ...

    async def over(self, attempt: str, state: EndState, outcome: str | None) -> None:
        """Note the end of the task of an entry; its slot is free."""
        ...

    async def resolve(
        self, key: str, attempt: str, *, task_id: str | None, owner: str | None, hold: float
    ) -> bool:
        """Note what somebody says of an uncertain entry; return False if it is not that any more.

        Of a lost one a task can be named as well. That was made when the POST was intended.

        Args:
            key: The entry.
            attempt: The POST of which it is said.
            task_id: The task that was bought; None for nothing, and the entry is gone, unless it
                has another task.
            owner: Who polls it from now on.
            hold: Seconds for which it has a slot.
        """
        ...

    async def find(self, key: str) -> StoreEntry | None:
        """Return the entry of a key."""
        ...

    async def find_all(self, keys: Collection[str]) -> Sequence[StoreEntry]:
        """Return the entries of at most `MOST_FOUND` keys, those that have one."""
        ...

    async def named(self, task_id: str) -> StoreEntry | None:
        """Return the entry of a task."""
        ...

    async def take_over(
        self, owner: str, living: Collection[str], *, most: int, settled: float
    ) -> Sequence[StoreEntry]:
        """Own submitted entries whose owner does not live; intents of such owners get uncertain.

        So do intents whose slot is over: their POST is as well. Of uncertain entries those are
        owned whose task a callback has named. What is owned is of the own namespace.

        Args:
            owner: Who takes them.
            living: The processes that were known to live, `owner` among them.
            most: How many to take.
            settled: Seconds. An owner that is in none of them may have joined since they were
                looked up: what was intended within that time is left to it, unless it has left.

        Returns:
            Those that were taken.
        """
        ...

    async def owned(self, owner: str, *, called: bool = False) -> Sequence[StoreEntry]:
        """Return the submitted entries of an owner.

        Args:
            owner: The process.
            called: Whether to return instead those that are not over and have had a callback.
        """
        ...

    async def leave(self, owner: str) -> None:
        """Own nothing any more, so that others take it over at once; those that listen hear it."""
        ...

    def listen(self, heard: Callable[[str | None], None] | None) -> None:
        """Call `heard` on the running event loop as soon as another process has changed an entry.

        Some news may be lost, and some may be none: a process that waits reads the entry, after
        this was called, and once in a while.

        Args:
            heard: Called with the key, or with None where any entry may have changed. None ends it.
        """
        ...

    def entries(self, state: State | None = None) -> AsyncIterator[StoreEntry]:
        """Iterate over the entries of the namespace, or those in one state, oldest first."""
        ...

    async def delete(self, key: str) -> bool:
        """Remove the entry of a key if it is over; return True if it was."""
        ...

    async def sweep(self, keep: float) -> int:
        """Remove some entries that ended `keep` seconds ago or earlier; return how many."""
        ...


class Backend(Protocol):
    """Where entries are kept; `AsyncClient(store=…)` is given one, and opens it."""

    @property
    def keep(self) -> timedelta:
        """For how long an entry is kept after its end."""
        ...

    async def open(self, account: str) -> Store:
        """Make what is missing, and check version and rights.

        Args:
            account: Whose limits and slots these are; never a key of the service.

        Raises:
            StoreError: It cannot be used, and what to do.
        """
        ...
