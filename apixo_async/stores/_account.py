"""The store of one account, opened when it is first used."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeAlias, cast

from apixo_async._catalog import timing
from apixo_async._reporting import logger
from apixo_async._sync import fresh
from apixo_async._types import TaskRef
from apixo_async.errors import ConfigurationError, StoreError
from apixo_async.stores._protocol import Backend, SharedValue, State, Store, StoreEntry

#: A change of an entry.
EntryChange: TypeAlias = Callable[[Store], Awaitable[object]]

_FORMS: Final = "a SqliteStore, a PostgresStore, a postgresql:// URL or the path of a file"


def backend_of(store: object, *, namespace: str = "default") -> Backend:
    """Return where entries are kept: a URL or path in words, or a backend as it is.

    Args:
        store: A URL, a path or a backend.
        namespace: Where keys are unique; a backend has its own.

    Raises:
        ConfigurationError: It is none.
    """
    if isinstance(store, str) and store.partition("://")[0] in {"postgresql", "postgres"}:
        from apixo_async.stores._postgres import PostgresStore

        return PostgresStore(store, namespace=namespace)
    if isinstance(store, str) and "://" not in store:
        from apixo_async.stores._sqlite import SqliteStore

        return SqliteStore(store, namespace=namespace)
    # What is given is not shown: it may be a URL with a password.
    if isinstance(store, str) or not callable(getattr(store, "open", None)):
        raise ConfigurationError(f"store: a {type(store).__name__} given that is not {_FORMS}")
    return store  # type: ignore[return-value]  # anybody's backend, which only its use can try


async def resolve(store: Store, key: str, task_id: str | None, *, owner: str | None) -> None:
    """Note what somebody says of an uncertain entry, or of one whose task was lost.

    Args:
        store: Where it is.
        key: Its key.
        task_id: The task that was bought; None for nothing.
        owner: Who polls it from now on; None for any process that lives.

    Raises:
        ConfigurationError: The key has no such entry, or the task is that of another one.
    """
    entry = await store.find(key)
    if entry is None:
        raise ConfigurationError(f"resolve: key {key!r} has no entry in the store")
    if task_id is not None:
        other = await store.named(task_id)
        if other is not None and other.purchase.key != key:
            raise ConfigurationError(
                f"resolve: task {task_id!r} is that of key {other.purchase.key!r}"
            )
        TaskRef(entry.purchase.model, task_id)  # Refuses what is no id.
    hold = timing(entry.purchase.kind).age_limit
    open_to_words = {State.UNCERTAIN} if task_id is None else {State.UNCERTAIN, State.LOST}
    done = entry.state in open_to_words and await store.resolve(
        key, entry.attempt, task_id=task_id, owner=owner, hold=hold
    )
    if not done:
        raise ConfigurationError(
            f"resolve: key {key!r} is not uncertain (any more): look at what it has"
        )


class _Contained:
    """A store that raises nothing but `StoreError`, whosever it is."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        method = getattr(self._store, name)

        async def call(*args: object, **options: object) -> object:
            try:
                return await method(*args, **options)
            except Exception as exc:
                raise _contained(exc, f"{type(self._store).__name__}.{name}") from None

        return call

    def listen(self, heard: Callable[[str | None], None] | None) -> None:
        """See `Store.listen`."""
        try:
            self._store.listen(heard)
        except Exception as exc:  # A process that waits looks by itself as well.
            logger.warning("%s", _contained(exc, f"{type(self._store).__name__}.listen"))

    async def entries(self, state: State | None = None) -> AsyncIterator[StoreEntry]:
        """See `Store.entries`."""
        try:
            async for entry in self._store.entries(state):
                yield entry
        except Exception as exc:
            raise _contained(exc, f"{type(self._store).__name__}.entries") from None


def _contained(exc: Exception, name: str) -> StoreError:
    if isinstance(exc, StoreError):
        return exc
    # Its text may hold a password: only errors of ours are shown.
    return StoreError(f"{name} raised {type(exc).__name__}, where a store raises StoreError")


class AccountStore:
    """Open the store of an account when it is first used, and again where that has failed.

    Args:
        backend: Where entries are kept.
        account: Whose they are.
    """

    def __init__(self, backend: Backend, account: str) -> None:
        self.backend = backend
        self._account = account
        self._store: Store | None = None
        self._numbers = itertools.count()
        #: What is to be written yet, in its order, each with its key: an event loop that ends in
        #: the middle of that leaves it to the next one.
        self.unwritten: dict[int, tuple[str, EntryChange]] = {}
        self._opening: asyncio.Task[Store] | None = None

    def note_unwritten(self, key: str, write: EntryChange) -> int:
        """Note what is to be written; return its number in `unwritten`."""
        number = next(self._numbers)
        self.unwritten[number] = key, write
        return number

    def take_unwritten(self) -> list[tuple[str, EntryChange]]:
        """Return what an event loop that has ended has left, and forget it."""
        left, self.unwritten = [*self.unwritten.values()], {}
        return left

    @property
    def is_open(self) -> bool:
        """Whether it is open."""
        return self._store is not None

    def listen(self, heard: Callable[[str | None], None] | None) -> None:
        """See `Store.listen`; nothing is heard of a store that is not open."""
        if self._store is not None:
            self._store.listen(heard)

    async def opened(self) -> Store:
        """Return the store.

        Raises:
            StoreError: It cannot be used, and what to do.
        """
        if self._store is not None:
            return self._store
        loop = asyncio.get_running_loop()
        if self._opening is None or self._opening.get_loop() is not loop:
            self._opening = loop.create_task(self._open())
        opening = self._opening
        try:
            store = await asyncio.shield(opening)
        except StoreError as error:
            raise fresh(error) from None  # Several may wait for the same one.
        finally:
            if opening.done() and self._opening is opening:
                self._opening = None
        self._store = store
        return store

    async def _open(self) -> Store:
        try:
            store = await self.backend.open(self._account)
        except Exception as exc:
            raise _contained(exc, f"{type(self.backend).__name__}.open") from None
        return cast("Store", _Contained(store))

    async def load(self) -> SharedValue:
        """See `LimitsStore.load`."""
        return await (await self.opened()).load()

    async def save(self, body: bytes, version: int) -> bool:
        """See `LimitsStore.save`."""
        return await (await self.opened()).save(body, version)

    async def aclose(self) -> None:
        """Close it, if it was opened."""
        opening = self._opening
        if opening is not None and not opening.get_loop().is_closed():
            await asyncio.wait([opening])
            if not opening.cancelled() and opening.exception() is None:
                self._store = opening.result()
        store, self._store = self._store, None
        if store is not None:
            await store.aclose()
