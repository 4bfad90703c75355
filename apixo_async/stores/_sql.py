"""The statements of the stores over SQL: the same for SQLite and PostgreSQL, and decided in one go.

No statement depends on what the client read in the same transaction. So a transaction can be sent
as one message, and a client that is stopped in the middle of it holds no lock.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple, TypeVar

from apixo_async.stores._protocol import (
    EndState,
    Intended,
    Purchase,
    SharedValue,
    State,
    StoreEntry,
)

T = TypeVar("T")

#: Written into each new store; a later layout only adds to it.
VERSION: Final = 1

#: Seconds after which it is noted again that an account is used; and within which a value of the
#: limits that is not there must have been lost: as many, and a window.
SEEN: Final = 30.0
_RECENT: Final = SEEN + 60.0

#: Rows of one page, and those that a sweep removes at once.
PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where the two databases differ.

    Attributes:
        now: The time of the store, in seconds.
        row: The type of a row's number.
        real: The type of a time.
        unlogged: What makes a table that may be lost.
        lock_account: What holds other intents of the account off until the transaction ends.
        lock_rows: What leaves rows alone that another transaction changes.
        find_text: The function that finds a text in another.
        named: How a parameter is written.
        is_made: Has a row if the tables are there.
        alone: What lets one process at a time make them.
        more: Tables beside those of the entries; a file of SQLite has that of the limits elsewhere.
    """

    now: str
    row: str
    real: str
    unlogged: str
    lock_account: str
    lock_rows: str
    find_text: str
    named: str
    is_made: str
    alone: str
    more: tuple[str, ...] = ()

    @property
    def schema(self) -> tuple[str, ...]:
        """What makes the tables."""
        return tuple(text for text in (self.alone, *self.more, *SCHEMA) if text)

    def render(self, text: str) -> str:
        """Return a statement in the words of this database."""
        for word in ("now", "row", "real", "unlogged", "lock_rows", "find_text"):
            text = text.replace(f"<{word}>", getattr(self, word))
        text = text.replace("<open>", _OPEN_TASKS.replace("<now>", self.now))
        return re.sub(r"(?<!:):([a-z]\w*)", self.named, text)


#: How many tasks of an account exist, or may exist.
_OPEN_TASKS: Final = """(SELECT coalesce(sum(CASE WHEN slot_until > <now> THEN 1 ELSE 0 END
    + CASE WHEN held_until > <now> THEN 1 ELSE 0 END), 0) FROM apixo_entry
    WHERE account = :account AND state IN ('intent', 'submitted', 'uncertain'))"""

#: The table of the limits, which may be lost at any time.
LIMITS: Final = """CREATE <unlogged> IF NOT EXISTS apixo_limits (
    account text PRIMARY KEY, version bigint NOT NULL, body text NOT NULL)"""

SQLITE: Final = Dialect(
    now="((julianday('now') - 2440587.5) * 86400.0)",
    row="integer PRIMARY KEY AUTOINCREMENT",
    real="real",
    unlogged="TABLE",
    lock_account="",  # A transaction that writes has the whole file.
    lock_rows="",
    find_text="instr",
    named=r":\1",
    is_made="SELECT 1 FROM sqlite_master WHERE name = 'apixo_store'",
    alone="",
)

POSTGRES: Final = Dialect(
    now="extract(epoch FROM clock_timestamp())::double precision",
    row="bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    real="double precision",
    unlogged="UNLOGGED TABLE",
    lock_account="SELECT 1 FROM apixo_account WHERE account = :account FOR UPDATE",
    lock_rows="FOR UPDATE SKIP LOCKED",
    find_text="strpos",
    named=r"%(\1)s",
    is_made="SELECT 1 WHERE to_regclass('apixo_store') IS NOT NULL",
    # CREATE TABLE IF NOT EXISTS fails where two do it at once.
    alone="SELECT pg_advisory_xact_lock(4122198374)",
    more=(LIMITS,),
)

SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS apixo_store (version integer NOT NULL)",
    """CREATE TABLE IF NOT EXISTS apixo_account (
        account text PRIMARY KEY, seen_at <real> NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS apixo_entry (
        row <row>, namespace text NOT NULL, key text NOT NULL, account text NOT NULL,
        digest text NOT NULL, model text NOT NULL, provider text, kind text NOT NULL,
        payload text NOT NULL, price text, state text NOT NULL, owner text,
        attempt text NOT NULL, prior_state text, prior_attempt text, purchases integer NOT NULL,
        intent_at <real> NOT NULL, slot_until <real> NOT NULL, held_until <real> NOT NULL,
        submitted_at <real>, ended_at <real>, task_id text, also text NOT NULL, outcome text,
        taken text, UNIQUE (namespace, key))""",
    """CREATE INDEX IF NOT EXISTS apixo_entry_open ON apixo_entry (account, owner)
        WHERE state IN ('intent', 'submitted', 'uncertain')""",
    "CREATE INDEX IF NOT EXISTS apixo_entry_attempt ON apixo_entry (attempt)",
    """CREATE INDEX IF NOT EXISTS apixo_entry_task ON apixo_entry (task_id)
        WHERE task_id IS NOT NULL""",
    """CREATE INDEX IF NOT EXISTS apixo_entry_ended ON apixo_entry (ended_at)
        WHERE ended_at IS NOT NULL""",
    "INSERT INTO apixo_store SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM apixo_store)",
)

_COLUMNS: Final = (
    "row, account, key, digest, model, provider, kind, payload, price, state, owner, attempt, "
    "purchases, intent_at, slot_until, submitted_at, ended_at, task_id, also, outcome"
)

Row = Sequence[Any]


class Done(NamedTuple):
    """What one statement did: its rows, and how many it changed."""

    rows: Sequence[Row]
    changed: int


@dataclass(frozen=True, slots=True)
class Act(Generic[T]):
    """Statements of one transaction, and what their results mean.

    Attributes:
        statements: In the words of `Dialect`.
        values: The parameters of all of them.
        read: Makes the result.
        writes: Whether it changes anything.
    """

    statements: Sequence[str]
    values: dict[str, Any]
    read: Callable[[Sequence[Done]], T]
    writes: bool = True


def _text(value: str) -> str:
    """Return a text as any database can keep it; only what is rare in it changes."""
    return json.dumps(value)[1:-1]


def _entry(row: Row) -> StoreEntry:
    read = iter(row)
    number, account = next(read), next(read)
    key, digest, model, provider, kind, payload, price = (next(read) for _ in range(7))
    state, owner, attempt, purchases = (next(read) for _ in range(4))
    intent_at, slot_until, submitted_at, ended_at = (next(read) for _ in range(4))
    task_id, also, outcome = (next(read) for _ in range(3))

    def known(text: str) -> str:
        return str(json.loads(f'"{text}"'))

    return StoreEntry(
        row=number,
        account=account,
        purchase=Purchase(key, digest, model, provider, kind, payload, price),
        state=State(state),
        owner=owner,
        attempt=attempt,
        purchases=purchases,
        intent_at=intent_at,
        slot_until=slot_until,
        submitted_at=submitted_at,
        ended_at=ended_at,
        task_id=None if task_id is None else known(task_id),
        also=tuple(known(text) for text in also.split("\n") if text),
        outcome=outcome,
    )


def _first(done: Sequence[Done]) -> StoreEntry | None:
    return _entry(done[-1].rows[0]) if done[-1].rows else None


class Acts:
    """The acts of one store, for one account and namespace."""

    def __init__(self, dialect: Dialect, account: str, namespace: str) -> None:
        self._dialect = dialect
        self._common = {"account": account, "namespace": namespace}

    def _act(
        self,
        *statements: str,
        read: Callable[[Sequence[Done]], T],
        writes: bool = True,
        given: Mapping[str, object] = MappingProxyType({}),
        **values: object,
    ) -> Act[T]:
        rendered = [self._dialect.render(text) for text in statements if text]
        return Act(rendered, {**self._common, **given, **values}, read, writes)

    # --- entries -------------------------------------------------------------------------

    def intend(
        self,
        purchase: Purchase,
        attempt: str,
        owner: str,
        slots: int,
        hold: float,
        instead_of: str | None,
    ) -> Act[Intended]:
        """See `Store.intend`."""
        if instead_of is None:
            write = f"""INSERT INTO apixo_entry ({_WRITTEN})
                SELECT {_GIVEN}, 'intent', :owner, :attempt, 1, <now>, <now> + :hold, 0, ''
                WHERE <open> < :slots ON CONFLICT (namespace, key) DO NOTHING"""
        else:
            write = """UPDATE apixo_entry SET prior_state = state, prior_attempt = attempt,
                held_until = CASE WHEN state = 'uncertain' THEN slot_until ELSE 0 END,
                state = 'intent', owner = :owner, attempt = :attempt, account = :account,
                purchases = purchases + 1, intent_at = <now>, slot_until = <now> + :hold
                WHERE namespace = :namespace AND key = :key AND attempt = :instead_of
                AND state IN ('uncertain', 'lost') AND <open> < :slots"""

        def read(done: Sequence[Done]) -> Intended:
            entry = _first(done)
            written = entry is not None and entry.attempt == attempt
            return Intended(written and done[-2].changed == 1, entry)

        return self._act(
            self._dialect.lock_account,
            write,
            _OF_KEY,
            read=read,
            given=_values(purchase),
            attempt=attempt,
            owner=owner,
            slots=slots,
            hold=hold,
            instead_of=instead_of,
        )

    def refused(self, attempt: str) -> Act[None]:
        """See `Store.refused`."""
        return self._act(
            # A doubt as well: of its own POST, a process knows better than who took it for dead.
            """DELETE FROM apixo_entry WHERE attempt = :attempt
                AND state IN ('intent', 'uncertain') AND prior_state IS NULL""",
            """UPDATE apixo_entry SET state = prior_state, attempt = prior_attempt,
                prior_state = NULL, prior_attempt = NULL, slot_until = held_until, held_until = 0,
                purchases = purchases - 1
                WHERE attempt = :attempt AND state IN ('intent', 'uncertain')
                AND prior_state IS NOT NULL""",
            read=lambda _: None,
            attempt=attempt,
        )

    def bought(
        self, purchase: Purchase, attempt: str, owner: str, task_id: str, hold: float
    ) -> Act[StoreEntry]:
        """See `Store.bought`."""

        def read(done: Sequence[Done]) -> StoreEntry:
            entry = _first(done)
            assert entry is not None
            return entry

        return self._act(
            # If the store has lost the intent.
            f"""INSERT INTO apixo_entry ({_WRITTEN}, task_id, submitted_at)
                VALUES ({_GIVEN}, 'submitted', :owner, :attempt, 1, <now>, <now> + :hold, 0, '',
                :task_id, <now>) ON CONFLICT (namespace, key) DO NOTHING""",
            """UPDATE apixo_entry SET state = 'submitted', owner = :owner,
                also = CASE WHEN task_id IS NULL THEN also ELSE also || task_id || :newline END,
                task_id = :task_id, submitted_at = <now>, slot_until = <now> + :hold,
                prior_state = NULL, prior_attempt = NULL
                WHERE namespace = :namespace AND key = :key AND attempt = :attempt
                AND state IN ('intent', 'uncertain')""",
            # If the entry has gone on without this attempt: by the word of somebody.
            """UPDATE apixo_entry SET also = also || :task_id || :newline
                WHERE namespace = :namespace AND key = :key
                AND (task_id IS NULL OR task_id <> :task_id)
                AND <find_text>(:newline || also, :newline || :task_id || :newline) = 0""",
            _OF_KEY,
            read=read,
            given=_values(purchase),
            attempt=attempt,
            owner=owner,
            task_id=_text(task_id),
            hold=hold,
            newline="\n",
        )

    def uncertain(self, attempt: str, hold: float) -> Act[None]:
        """See `Store.uncertain`."""
        return self._act(
            """UPDATE apixo_entry SET state = 'uncertain', owner = NULL, slot_until = <now> + :hold
                WHERE attempt = :attempt AND state = 'intent'""",
            read=lambda _: None,
            attempt=attempt,
            hold=hold,
        )

    def over(self, attempt: str, state: EndState, outcome: str | None) -> Act[None]:
        """See `Store.over`."""
        return self._act(
            """UPDATE apixo_entry SET state = :state, outcome = :outcome, owner = NULL,
                ended_at = <now>, slot_until = 0, held_until = 0
                WHERE attempt = :attempt AND task_id IS NOT NULL
                AND state IN ('submitted', 'lost')""",
            read=lambda _: None,
            attempt=attempt,
            state=state.value,
            outcome=outcome,
        )

    def resolve(
        self, key: str, attempt: str, task_id: str | None, owner: str | None, hold: float
    ) -> Act[bool]:
        """See `Store.resolve`."""
        which = """WHERE namespace = :namespace AND key = :key AND attempt = :attempt
            AND state = 'uncertain'"""
        if task_id is not None:
            write = f"""UPDATE apixo_entry SET state = 'submitted', owner = :owner,
                task_id = :task_id, submitted_at = <now>, slot_until = <now> + :hold {which}"""
        else:
            write = f"DELETE FROM apixo_entry {which}"
        return self._act(
            write,
            read=lambda done: done[-1].changed == 1,
            key=key,
            attempt=attempt,
            task_id=None if task_id is None else _text(task_id),
            owner=owner,
            hold=hold,
        )

    def find(self, key: str) -> Act[StoreEntry | None]:
        """See `Store.find`."""
        return self._act(_OF_KEY, read=_first, writes=False, key=key)

    def named(self, task_id: str) -> Act[StoreEntry | None]:
        """See `Store.named`."""
        return self._act(
            f"""SELECT {_COLUMNS} FROM apixo_entry WHERE namespace = :namespace
                AND task_id = :task_id ORDER BY row LIMIT 1""",
            read=_first,
            writes=False,
            task_id=_text(task_id),
        )

    def take_over(
        self, owner: str, living: Collection[str], most: int
    ) -> Act[Sequence[StoreEntry]]:
        """See `Store.take_over`."""
        names = {f"living_{place}": name for place, name in enumerate(sorted({*living, owner}))}
        gone = f"(owner IS NULL OR owner NOT IN ({', '.join(f':{name}' for name in names)}))"
        return self._act(
            f"""UPDATE apixo_entry SET state = 'uncertain', owner = NULL
                WHERE account = :account AND state = 'intent' AND {gone}""",
            f"""UPDATE apixo_entry SET owner = :owner, taken = :taken WHERE row IN (
                SELECT row FROM apixo_entry WHERE account = :account AND state = 'submitted'
                AND {gone} ORDER BY row LIMIT :most <lock_rows>)""",
            f"""SELECT {_COLUMNS} FROM apixo_entry WHERE account = :account AND owner = :owner
                AND taken = :taken ORDER BY row""",
            read=lambda done: [_entry(row) for row in done[-1].rows],
            owner=owner,
            most=most,
            taken=secrets.token_hex(8),
            given=names,
        )

    def leave(self, owner: str) -> Act[None]:
        """See `Store.leave`."""
        return self._act(
            """UPDATE apixo_entry SET owner = NULL
                WHERE account = :account AND owner = :owner AND state = 'submitted'""",
            read=lambda _: None,
            owner=owner,
        )

    def page(self, state: State | None, after: int) -> Act[list[StoreEntry]]:
        """Read the entries that follow a row."""
        wanted = "" if state is None else "AND state = :state"
        return self._act(
            f"""SELECT {_COLUMNS} FROM apixo_entry WHERE namespace = :namespace
                AND row > :after {wanted} ORDER BY row LIMIT :page""",
            read=lambda done: [_entry(row) for row in done[-1].rows],
            writes=False,
            state=None if state is None else state.value,
            after=after,
            page=PAGE,
        )

    def sweep(self, keep: float) -> Act[int]:
        """See `Store.sweep`."""
        return self._act(
            """DELETE FROM apixo_entry WHERE row IN (
                SELECT row FROM apixo_entry WHERE namespace = :namespace AND ended_at IS NOT NULL
                AND ended_at <= <now> - :keep ORDER BY ended_at LIMIT :page <lock_rows>)""",
            read=lambda done: done[-1].changed,
            keep=keep,
            page=PAGE,
        )

    # --- the value of the limits ---------------------------------------------------------

    def begin(self) -> Act[None]:
        """Make the account known."""
        return self._act(
            """INSERT INTO apixo_account (account, seen_at) VALUES (:account, 0)
                ON CONFLICT (account) DO NOTHING""",
            read=lambda _: None,
        )

    def load(self) -> Act[SharedValue]:
        """Read the value, where it is kept."""

        def read(done: Sequence[Done]) -> SharedValue:
            body, version, now = done[-1].rows[0]
            return SharedValue(None if body is None else body.encode(), version or 0, now)

        return self._act(
            """SELECT (SELECT body FROM apixo_limits WHERE account = :account),
                (SELECT version FROM apixo_limits WHERE account = :account), <now>""",
            read=read,
            writes=False,
        )

    def known(self) -> Act[tuple[bool, int]]:
        """Read whether the account was used lately, and how many tasks it has open."""

        def read(done: Sequence[Done]) -> tuple[bool, int]:
            silent_for, open_tasks = done[-1].rows[0]
            return silent_for < _RECENT, int(open_tasks)

        return self._act(
            "SELECT <now> - seen_at, <open> FROM apixo_account WHERE account = :account",
            read=read,
            writes=False,
        )

    def seen(self) -> Act[None]:
        """Note that the account is used."""
        return self._act(
            "UPDATE apixo_account SET seen_at = <now> WHERE account = :account",
            read=lambda _: None,
        )

    def save(self, body: bytes, version: int) -> Act[bool]:
        """See `LimitsStore.save`."""
        # Versions begin anywhere, so that none from before a loss is mistaken for one after it.
        if version:
            write = """UPDATE apixo_limits SET body = :body, version = version + 1
                WHERE account = :account AND version = :version"""
        else:
            write = """INSERT INTO apixo_limits (account, version, body)
                VALUES (:account, :first, :body) ON CONFLICT (account) DO NOTHING"""
        return self._act(
            write,
            read=lambda done: done[0].changed == 1,
            body=body.decode(),
            version=version,
            first=secrets.randbelow(2**40) + 1,
        )


_WRITTEN: Final = (
    "namespace, key, account, digest, model, provider, kind, payload, price, state, owner, "
    "attempt, purchases, intent_at, slot_until, held_until, also"
)
_GIVEN: Final = ":namespace, :key, :account, :digest, :model, :provider, :kind, :payload, :price"
_OF_KEY: Final = f"SELECT {_COLUMNS} FROM apixo_entry WHERE namespace = :namespace AND key = :key"


def _values(purchase: Purchase) -> dict[str, object]:
    return {
        "key": purchase.key,
        "digest": purchase.digest,
        "model": purchase.model,
        "provider": purchase.provider,
        "kind": purchase.kind,
        "payload": purchase.payload,
        "price": purchase.price,
    }
