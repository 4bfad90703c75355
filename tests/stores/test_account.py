"""The store of an account: what may be given for one, and when it is opened."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from apixo_async import AsyncClient, ConfigurationError, Limits, StoreError
from apixo_async._limits.limiter import Limiter
from apixo_async.stores import PostgresStore, SqliteStore
from apixo_async.stores._account import AccountStore, backend_of
from apixo_async.testing.memory_store import MemoryStore, OpenMemoryStore


def test_words_for_a_store() -> None:
    """A URL of PostgreSQL or the path of a file; anything else is a backend as it is."""
    assert isinstance(backend_of("postgresql://user:canary@host/name"), PostgresStore)
    assert isinstance(backend_of("postgres://host/name"), PostgresStore)
    sqlite = backend_of("folder/apixo.db")
    assert isinstance(sqlite, SqliteStore)
    assert str(sqlite.path) == "folder/apixo.db"
    memory = MemoryStore()
    assert backend_of(memory) is memory


@pytest.mark.parametrize("given", ["mysql://user:canary@host/name", b"apixo.db", 7, {"dsn": "x"}])
def test_what_is_no_store(given: Any) -> None:
    """Refused in one sentence, without what was given: it may have a password."""
    with pytest.raises(ConfigurationError, match=r"store: .*SqliteStore") as refused:
        AsyncClient("test-key", store=given)
    assert "canary" not in str(refused.value)


def test_what_excludes_each_other() -> None:
    """A store has the limits of all clients; an account is named in a store only."""
    with pytest.raises(ConfigurationError, match="store and limiter"):
        AsyncClient("test-key", store=MemoryStore(), limiter=Limiter(Limits()))
    with pytest.raises(ConfigurationError, match=r"account: .*none is given"):
        AsyncClient("test-key", account="shop")
    with pytest.raises(ConfigurationError, match="account: "):
        AsyncClient("test-key", store=MemoryStore(), account=7)  # type: ignore[arg-type]


class Counting(MemoryStore):
    """Counts how often it is opened, and for whom; the first time fails."""

    def __init__(self, *failures: Exception) -> None:
        super().__init__()
        self.failures = [*failures]
        self.opened: list[str] = []

    async def open(self, account: str) -> OpenMemoryStore:
        self.opened.append(account)
        await asyncio.sleep(1)
        if self.failures:
            raise self.failures.pop(0)
        return await super().open(account)


async def test_it_is_opened_once() -> None:
    """However many ask at the same time; and not before the first of them does."""
    backend = Counting()
    account = AccountStore(backend, "shop")
    assert not account.is_open
    stores = await asyncio.gather(*(account.opened() for _ in range(5)))
    assert len({id(store) for store in stores}) == 1
    assert backend.opened == ["shop"]
    await account.aclose()
    assert not account.is_open
    await account.aclose()


async def test_a_failure_is_not_for_ever() -> None:
    """All that wait get it, each an error of its own; the next one opens it."""
    backend = Counting(StoreError("the store is away"))
    account = AccountStore(backend, "shop")
    failed = await asyncio.gather(account.opened(), account.opened(), return_exceptions=True)
    assert [str(error) for error in failed] == ["the store is away"] * 2
    assert failed[0] is not failed[1]
    await account.opened()
    assert len(backend.opened) == 2


async def test_a_backend_that_raises_something_else() -> None:
    """Its words are not shown: they may hold a password."""
    account = AccountStore(Counting(ValueError("canary")), "shop")
    with pytest.raises(StoreError, match="raised ValueError") as failed:
        await account.opened()
    assert "canary" not in repr(failed.value)


async def test_closed_while_it_is_opened() -> None:
    """It is opened to its end, and closed then."""
    closed: list[bool] = []

    class Backend(Counting):
        async def open(self, account: str) -> OpenMemoryStore:
            store = await super().open(account)

            async def aclose() -> None:
                closed.append(True)

            store.aclose = aclose  # type: ignore[method-assign]
            return store

    account = AccountStore(Backend(), "shop")
    opening = asyncio.ensure_future(account.opened())
    await asyncio.sleep(0.5)
    await account.aclose()
    assert closed == [True]
    await opening


async def test_a_cancelled_caller_ends_nobody_elses_opening() -> None:
    """The others get the store."""
    account = AccountStore(Counting(), "shop")
    first, second = (asyncio.ensure_future(account.opened()) for _ in range(2))
    await asyncio.sleep(0.5)
    first.cancel()
    assert await second is await account.opened()


def test_the_name_of_an_account() -> None:
    """By default a digest of the key, without the key."""
    one, same, other = (
        AsyncClient(key, store=MemoryStore())._settings.store
        for key in ("key-of-an-account", "key-of-an-account", "another-key")
    )
    assert one is not None
    assert same is not None
    assert other is not None
    assert one._account == same._account != other._account
    assert "key" not in one._account
