"""The store over a database of SQL: what each method changes and reads, in one transaction."""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeVar

from apixo_async.errors import StoreError
from apixo_async.stores._batches import Batches, Database
from apixo_async.stores._news import FileNews, News
from apixo_async.stores._protocol import (
    EndState,
    Intended,
    Purchase,
    SharedValue,
    State,
    StoreEntry,
)
from apixo_async.stores._rows import (
    COLUMNS,
    PURCHASE,
    all_of,
    as_text,
    first_of,
    nothing,
    parameters,
    values_of,
)
from apixo_async.stores._sql import VERSION, Act, Dialect, Done, Row

#: Seconds after which it is noted again that an account is used; and within which a value of the
#: limits that is not there must have been lost: as many, and a window.
SEEN: Final = 30.0
_RECENT: Final = SEEN + 60.0

#: Rows of one page, and those that a sweep removes at once.
PAGE: Final = 500

#: Characters of what callbacks have named for one POST, after which no more is kept: several names,
#: since a false one must not take the place of the right one.
MOST_CLAIMED: Final = 1_000

#: Seconds for which a count of the open tasks does: it is a hint.
COUNTED: Final = 1.0

T = TypeVar("T")

_WRITTEN: Final = (
    f"namespace, account, {', '.join(PURCHASE)}, state, owner, attempt, purchases, intent_at, "
    "slot_until, held_until, also"
)
_GIVEN: Final = f":namespace, :account, {', '.join(f':{name}' for name in PURCHASE)}"
_OF_KEY: Final = f"SELECT {COLUMNS} FROM apixo_entry WHERE namespace = :namespace AND key = :key"


#: By what the partial index over open entries is used.
_OPEN: Final = "state IN ('intent', 'submitted', 'uncertain')"

#: Of a POST that bought nothing, where another of the same key did: that one is the key's task.
_PAID: Final = """UPDATE apixo_entry SET state = 'submitted', owner = NULL,
    task_id = substr(also, 1, <find_text>(also, :newline) - 1),
    also = substr(also, <find_text>(also, :newline) + 1), submitted_at = <now>,
    prior_state = NULL, prior_attempt = NULL, held_until = 0
    WHERE {which} AND task_id IS NULL AND also <> ''"""


class SqlStore:
    """See `Store`.

    No statement depends on what another one of its transaction has read. So a transaction can be
    sent as one message, and a client that is stopped in the middle of it holds no lock.

    Args:
        dialect: The words of both databases.
        account: Whose limits and slots these are.
        namespace: Where keys are unique.
        entries: Where entries are kept.
        limits: Where the value of the limits is kept: its exchanges wait for no commit.
        news: Makes the source of news, given the channel and the name of this one.
    """

    def __init__(
        self,
        dialect: Dialect,
        account: str,
        namespace: str,
        entries: Batches,
        limits: Batches,
        news: Callable[[str, str], News] | None = None,
    ) -> None:
        self._dialect = dialect
        own = secrets.token_hex(8)
        channel = f"apixo_{hashlib.sha256(namespace.encode()).hexdigest()[:16]}"
        self._common = {
            "account": account, "namespace": namespace, "channel": channel, "own": own,
        }  # fmt: skip
        self._news = FileNews(self._file_version) if news is None else news(channel, own)
        self._entries = entries
        self._limits = limits
        self._open_tasks = self._uncertain = 0
        self._counted_at = self._seen_at = -math.inf

    async def _do(
        self,
        *statements: str,
        read: Callable[[Sequence[Done]], T],
        writes: bool = True,
        where: Batches | None = None,
        given: Mapping[str, object] = MappingProxyType({}),
        **values: object,
    ) -> T:
        """Have statements done in one transaction, where entries are kept or elsewhere."""
        rendered = [self._dialect.render(text) for text in statements if text]
        act = Act(rendered, {**self._common, **given, **values}, read, writes)
        return await (where or self._entries).do(act)

    async def begin(self) -> None:
        """Make the account known, and see that the limits can be read."""
        await self._do(
            """INSERT INTO apixo_account (account, seen_at) VALUES (:account, 0)
                ON CONFLICT (account) DO NOTHING""",
            read=nothing,
        )
        await self._value()

    def listen(self, heard: Callable[[str | None], None] | None) -> None:
        """See `Store.listen`."""
        self._news.listen(heard)

    async def _file_version(self) -> int:
        def read(done: Sequence[Done]) -> int:
            return int(done[-1].rows[0][0])

        return await self._do("PRAGMA data_version", read=read, writes=False)

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        self._news.listen(None)
        await asyncio.gather(self._limits.aclose(), self._entries.aclose())

    # --- the value of the limits ---------------------------------------------------------

    async def load(self) -> SharedValue:
        """See `LimitsStore.load`."""
        value = await self._value()
        other_clock, is_lost = self._dialect.other_clock(), False
        if value.body is None or not 0 <= value.now - self._counted_at < COUNTED:
            # Where entries are, a commit may take long: exchanges wait for it once in a while.
            is_recent, self._open_tasks, self._uncertain = await self._known()
            is_lost = value.body is None and is_recent
            self._counted_at = value.now
        return value._replace(
            is_lost=is_lost,
            open_tasks=self._open_tasks,
            uncertain=self._uncertain,
            other_clock=other_clock,
        )

    async def _value(self) -> SharedValue:
        def read(done: Sequence[Done]) -> SharedValue:
            body, version, now = done[-1].rows[0]
            return SharedValue(None if body is None else body.encode(), version or 0, now)

        return await self._do(
            """SELECT (SELECT body FROM apixo_limits WHERE account = :account),
                (SELECT version FROM apixo_limits WHERE account = :account), <now>""",
            read=read,
            writes=False,
            where=self._limits,
        )

    async def _known(self) -> tuple[bool, int, int]:
        """Return whether the account was used lately, and its counts of open and uncertain ones."""

        def read(done: Sequence[Done]) -> tuple[bool, int, int]:
            silent_for, open_tasks, uncertain = done[-1].rows[0]
            return silent_for < _RECENT, int(open_tasks), int(uncertain)

        return await self._do(
            f"""SELECT <now> - seen_at, <open>, (SELECT count(*) FROM apixo_entry
                WHERE account = :account AND {_OPEN} AND state = 'uncertain')
                FROM apixo_account WHERE account = :account""",
            read=read,
            writes=False,
        )

    async def save(self, body: bytes, version: int) -> bool:
        """See `LimitsStore.save`."""
        if not 0 <= self._counted_at - self._seen_at < SEEN:
            await self._do(
                "UPDATE apixo_account SET seen_at = <now> WHERE account = :account", read=nothing
            )
            self._seen_at = self._counted_at
        # Versions begin anywhere, so that none from before a loss is mistaken for one after it.
        if version:
            write = """UPDATE apixo_limits SET body = :body, version = version + 1
                WHERE account = :account AND version = :version"""
        else:
            write = """INSERT INTO apixo_limits (account, version, body)
                VALUES (:account, :first, :body) ON CONFLICT (account) DO NOTHING"""
        return await self._do(
            write,
            read=lambda done: done[0].changed == 1,
            where=self._limits,
            body=body.decode(),
            version=version,
            first=secrets.randbelow(2**40) + 1,
        )

    # --- entries -------------------------------------------------------------------------

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
        if instead_of is None:
            write = f"""INSERT INTO apixo_entry ({_WRITTEN})
                SELECT {_GIVEN}, 'intent', :owner, :attempt, 1, <now>, <now> + :hold, 0, ''
                WHERE <open> < :slots ON CONFLICT (namespace, key) DO NOTHING"""
        else:
            write = """UPDATE apixo_entry SET prior_state = state, prior_attempt = attempt,
                held_until = CASE WHEN state = 'uncertain' THEN slot_until ELSE 0 END,
                state = 'intent', owner = :owner, attempt = :attempt, account = :account,
                called_at = NULL, purchases = purchases + 1, intent_at = <now>,
                slot_until = <now> + :hold
                WHERE namespace = :namespace AND key = :key AND attempt = :instead_of
                AND state IN ('uncertain', 'lost') AND <open> < :slots"""

        def read(done: Sequence[Done]) -> Intended:
            entry = first_of(done)
            written = entry is not None and entry.attempt == attempt
            return Intended(written and done[-2].changed == 1, entry)

        return await self._do(
            self._dialect.lock_account,
            write,
            _OF_KEY,
            read=read,
            given=values_of(purchase),
            attempt=attempt,
            owner=owner,
            slots=slots,
            hold=hold,
            instead_of=instead_of,
        )

    async def refused(self, attempt: str) -> None:
        """See `Store.refused`."""
        await self._do(
            self._dialect.lock_attempt,
            self._dialect.tell,
            _PAID.format(which="attempt = :attempt AND state IN ('intent', 'uncertain')"),
            """UPDATE apixo_entry SET state = 'uncertain', owner = NULL WHERE attempt = :attempt
                AND state IN ('intent', 'uncertain') AND called_at IS NOT NULL""",
            # A doubt as well: of its own POST, a process knows better than who took it for dead.
            """DELETE FROM apixo_entry WHERE attempt = :attempt
                AND state IN ('intent', 'uncertain') AND prior_state IS NULL
                AND task_id IS NULL AND called_at IS NULL AND also = ''""",
            """UPDATE apixo_entry SET state = prior_state, attempt = prior_attempt,
                prior_state = NULL, prior_attempt = NULL, slot_until = held_until, held_until = 0,
                called_at = CASE WHEN claimed <> '' THEN intent_at ELSE NULL END,
                owner = NULL, purchases = purchases - 1
                WHERE attempt = :attempt AND state IN ('intent', 'uncertain')
                AND prior_state IS NOT NULL AND called_at IS NULL""",
            read=nothing,
            attempt=attempt,
            newline="\n",
        )

    async def bought(
        self, purchase: Purchase, attempt: str, owner: str, task_id: str, *, hold: float
    ) -> StoreEntry:
        """See `Store.bought`."""

        def read(done: Sequence[Done]) -> StoreEntry:
            entry = first_of(done)
            assert entry is not None
            return entry

        return await self._do(
            self._dialect.lock_key,
            self._dialect.tell_key,
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
            given=values_of(purchase),
            attempt=attempt,
            owner=owner,
            task_id=as_text(task_id),
            hold=hold,
            newline="\n",
        )

    async def uncertain(self, attempt: str, *, hold: float) -> None:
        """See `Store.uncertain`."""
        await self._do(
            self._dialect.lock_attempt,
            self._dialect.tell,
            """UPDATE apixo_entry SET state = 'uncertain', slot_until = <now> + :hold
                WHERE attempt = :attempt AND state = 'intent'""",
            read=nothing,
            attempt=attempt,
            hold=hold,
        )

    async def called(self, attempt: str, task_id: str | None) -> bool:
        """See `Store.called`."""
        return await self._do(
            self._dialect.lock_attempt,
            self._dialect.tell,
            f"""UPDATE apixo_entry SET called_at = <now>
                WHERE attempt = :attempt AND {_OPEN}""",
            # The task of another POST is not this one's.
            f"""UPDATE apixo_entry SET claimed = claimed || :claimed || :newline
                WHERE attempt = :attempt AND {_OPEN} AND :is_named = 1
                AND length(claimed) < :most
                AND <find_text>(:newline || claimed, :newline || :claimed || :newline) = 0
                AND NOT EXISTS (SELECT 1 FROM apixo_entry AS other
                    WHERE other.task_id = :claimed AND other.attempt <> :attempt)""",
            "SELECT 1 FROM apixo_entry WHERE attempt = :attempt",
            read=lambda done: bool(done[-1].rows),
            attempt=attempt,
            is_named=int(task_id is not None),
            claimed=as_text(task_id or ""),
            newline="\n",
            most=MOST_CLAIMED,
        )

    async def over(self, attempt: str, state: EndState, outcome: str | None) -> None:
        """See `Store.over`."""
        await self._do(
            self._dialect.lock_attempt,
            self._dialect.tell,
            """UPDATE apixo_entry SET state = :state, outcome = :outcome, owner = NULL,
                ended_at = <now>, slot_until = 0, held_until = 0
                WHERE attempt = :attempt AND task_id IS NOT NULL
                AND state IN ('submitted', 'lost')""",
            read=nothing,
            attempt=attempt,
            state=state.value,
            outcome=outcome,
        )

    async def resolve(
        self, key: str, attempt: str, *, task_id: str | None, owner: str | None, hold: float
    ) -> bool:
        """See `Store.resolve`."""
        states = "('uncertain')" if task_id is None else "('uncertain', 'lost')"
        which = f"""namespace = :namespace AND key = :key AND attempt = :attempt
            AND state IN {states}"""
        if task_id is not None:
            writes = [
                f"""UPDATE apixo_entry SET state = 'submitted', owner = :owner,
                also = CASE WHEN task_id IS NULL THEN also ELSE also || task_id || :newline END,
                task_id = :task_id, submitted_at = intent_at, slot_until = <now> + :hold,
                ended_at = NULL, outcome = NULL, prior_state = NULL, prior_attempt = NULL
                WHERE {which}"""
            ]
        else:
            writes = [
                _PAID.format(which=which),
                f"""UPDATE apixo_entry SET state = 'lost', slot_until = 0, prior_state = NULL,
                prior_attempt = NULL WHERE {which} AND task_id IS NOT NULL""",
                f"DELETE FROM apixo_entry WHERE {which}",
            ]
        return await self._do(
            self._dialect.lock_key,
            self._dialect.tell_key,
            *writes,
            read=lambda done: any(each.changed for each in done[-len(writes) :]),
            key=key,
            attempt=attempt,
            task_id=None if task_id is None else as_text(task_id),
            owner=owner,
            hold=hold,
            newline="\n",
        )

    async def find(self, key: str) -> StoreEntry | None:
        """See `Store.find`."""
        return await self._do(_OF_KEY, read=first_of, writes=False, key=key)

    async def find_all(self, keys: Collection[str]) -> Sequence[StoreEntry]:
        """See `Store.find_all`."""
        given, named = parameters("key", keys)
        return await self._do(
            f"""SELECT {COLUMNS} FROM apixo_entry WHERE namespace = :namespace
                AND key IN ({named or "NULL"})""",
            read=all_of,
            writes=False,
            given=given,
        )

    async def named(self, task_id: str) -> StoreEntry | None:
        """See `Store.named`."""
        return await self._do(
            f"""SELECT {COLUMNS} FROM apixo_entry WHERE namespace = :namespace
                AND task_id = :task_id ORDER BY row LIMIT 1""",
            read=first_of,
            writes=False,
            task_id=as_text(task_id),
        )

    async def take_over(
        self, owner: str, living: Collection[str], *, most: int, settled: float
    ) -> Sequence[StoreEntry]:
        """See `Store.take_over`."""
        given, named = parameters("living", sorted({*living, owner}))
        gone = f"""(owner IS NULL
            OR owner NOT IN ({named}) AND NOT intent_at BETWEEN <now> - :settled AND <now>)"""
        return await self._do(
            f"""UPDATE apixo_entry SET state = 'uncertain', owner = NULL
                WHERE account = :account AND {_OPEN} AND state = 'intent'
                AND ({gone} OR slot_until <= <now>)""",
            f"""UPDATE apixo_entry SET owner = :owner, taken = :taken WHERE row IN (
                SELECT row FROM apixo_entry WHERE account = :account AND {_OPEN}
                AND namespace = :namespace
                AND (state = 'submitted' OR state = 'uncertain' AND claimed <> '')
                AND {gone} ORDER BY row LIMIT :most <lock_rows>)""",
            f"""SELECT {COLUMNS} FROM apixo_entry WHERE account = :account AND {_OPEN}
                AND owner = :owner AND taken = :taken ORDER BY row""",
            read=all_of,
            owner=owner,
            most=most,
            settled=settled,
            taken=secrets.token_hex(8),
            given=given,
        )

    async def owned(self, owner: str, *, called: bool = False) -> Sequence[StoreEntry]:
        """See `Store.owned`."""
        which = "called_at IS NOT NULL" if called else "state = 'submitted'"
        return await self._do(
            f"""SELECT {COLUMNS} FROM apixo_entry WHERE account = :account AND {_OPEN}
                AND {which} AND owner = :owner ORDER BY row""",
            read=all_of,
            writes=False,
            owner=owner,
        )

    async def leave(self, owner: str) -> None:
        """See `Store.leave`."""
        await self._do(
            self._dialect.tell_any,
            f"""UPDATE apixo_entry SET owner = NULL WHERE account = :account AND {_OPEN}
                AND owner = :owner AND state <> 'intent'""",
            read=nothing,
            owner=owner,
        )

    async def entries(self, state: State | None = None) -> AsyncIterator[StoreEntry]:
        """See `Store.entries`."""
        after: int | None = 0
        while after is not None:
            page, after = await self._page(state, after)
            for entry in page:
                yield entry

    async def _page(self, state: State | None, after: int) -> tuple[list[StoreEntry], int | None]:
        """Return the entries of a page, and its last row, which may be unreadable."""
        wanted = "" if state is None else "AND state = :state"
        return await self._do(
            f"""SELECT {COLUMNS} FROM apixo_entry WHERE namespace = :namespace
                AND row > :after {wanted} ORDER BY row LIMIT :page""",
            read=lambda done: (all_of(done), done[-1].rows[-1][0] if done[-1].rows else None),
            writes=False,
            state=None if state is None else state.value,
            after=after,
            page=PAGE,
        )

    async def delete(self, key: str) -> bool:
        """See `Store.delete`."""
        return await self._do(
            """DELETE FROM apixo_entry WHERE namespace = :namespace AND key = :key
                AND state IN ('success', 'failed', 'lost')""",
            read=lambda done: done[-1].changed == 1,
            key=key,
        )

    async def sweep(self, keep: float) -> int:
        """See `Store.sweep`."""
        return await self._do(
            """DELETE FROM apixo_entry WHERE row IN (
                SELECT row FROM apixo_entry WHERE namespace = :namespace AND ended_at IS NOT NULL
                AND ended_at <= <now> - :keep AND state IN ('success', 'failed', 'lost')
                ORDER BY ended_at LIMIT :page <lock_rows>)""",
            read=lambda done: done[-1].changed,
            keep=keep,
            page=PAGE,
        )


async def opened(
    database: Database,
    kept_apart: Database,
    dialect: Dialect,
    account: str,
    namespace: str,
    news: Callable[[str, str], News] | None = None,
) -> SqlStore:
    """Connect, make what is missing, and check the version.

    Args:
        database: Where entries are kept.
        kept_apart: Where the limits are kept, in a table that is made when it is connected to.
        dialect: The words of both.
        account: Whose limits and slots these are.
        namespace: Where keys are unique.
        news: Makes the source of news, unless that is the version of the file.

    Raises:
        StoreError: It cannot be used.
    """
    entries, limits = Batches(database), Batches(kept_apart)
    store = SqlStore(dialect, account, namespace, entries, limits, news)
    try:
        if not await entries.do(_setup(dialect, (dialect.is_made,))):
            await entries.do(_setup(dialect, dialect.schema))
        rows = await entries.do(_setup(dialect, ("SELECT max(version) FROM apixo_store",)))
        version = rows[0][0]
        if version != VERSION:
            raise StoreError(
                f"the store has layout {version}, and this release knows {VERSION}: use the "
                "release that made it, or a newer one"
            )
        await store.begin()
    except BaseException:
        await store.aclose()
        raise
    return store


def _setup(dialect: Dialect, statements: Sequence[str]) -> Act[Sequence[Row]]:
    def read(done: Sequence[Done]) -> Sequence[Row]:
        return done[-1].rows

    return Act([dialect.render(text) for text in statements], {}, read)
