"""The store in PostgreSQL, on a server of the tests' own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import suppress

import pytest

from apixo_async.errors import StoreError
from apixo_async.stores import _news
from apixo_async.stores._postgres import PostgresStore
from apixo_async.testing.store_contract import CHECKS, StoreCheck, attempt, purchase

from ...support.postgres import PostgresServer, postgres_server

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def dsn(server: PostgresServer) -> str:
    """Have an empty database."""
    name = f"test_{next(_numbers)}"
    server.ask(f"CREATE DATABASE {name}")
    return server.dsn.removesuffix("postgres") + name


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_what_every_store_must_do(check: StoreCheck, dsn: str) -> None:
    """In a database of its own."""
    await check(PostgresStore(dsn))


async def test_made_by_several_at_once(dsn: str) -> None:
    """Six processes that open an empty database at the same time."""
    stores = await asyncio.gather(*(PostgresStore(dsn).open("account") for _ in range(6)))
    for store in stores:
        await store.aclose()


async def test_a_server_that_is_away(server: PostgresServer, dsn: str) -> None:
    """Nothing is done while it is killed; it goes on by itself when it is back, limits lost."""
    store = await PostgresStore(dsn).open("account")
    await store.intend(purchase("k"), attempt(), "a", slots=9, hold=60)
    # Marked as used a while ago, as any account in use is.
    assert await store.save(b"{}", (await store.load()).version)
    server.kill()
    with pytest.raises(StoreError, match="the PostgreSQL store: ") as failed:
        await store.intend(purchase("l"), attempt(), "a", slots=9, hold=60)
    assert "canary" not in str(failed.value)
    server.start()
    assert (await store.find("k")) is not None
    value = await store.load()
    assert value.body is None
    assert value.is_lost
    await store.aclose()


async def test_no_way_to_it() -> None:
    """No server, a wrong word: one sentence, and no password."""
    for dsn in (
        "postgresql://u:canary-dsn@127.0.0.1:1/x",
        "postgresql://u:canary-dsn@[::broken/x",
        "host=/nowhere password=canary-dsn user=u",
        "nonsense canary-dsn",
    ):
        with pytest.raises(StoreError, match="PostgreSQL store: it cannot be reached") as failed:
            await PostgresStore(dsn).open("account")
        assert "canary" not in repr(failed.value)
        assert "canary" not in repr(PostgresStore(dsn))


async def test_no_such_database(server: PostgresServer) -> None:
    """Or no right to make tables in it: each says what to do."""
    server.ask("CREATE USER visitor")
    server.ask("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    with pytest.raises(StoreError, match=r"see whether it runs|no such database: make it"):
        await PostgresStore(server.dsn.removesuffix("postgres") + "nowhere").open("account")
    visitor = server.dsn.replace("postgres:canary-dsn", "visitor")
    with pytest.raises(StoreError, match="not the right to do that: grant it"):
        await PostgresStore(visitor).open("account")


async def test_a_database_that_is_read_only(dsn: str, server: PostgresServer) -> None:
    """As a standby is."""
    await (await PostgresStore(dsn).open("account")).aclose()
    name = dsn.rpartition("/")[2]
    server.ask(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(StoreError, match="standby, or read-only: name the primary"):
        await PostgresStore(dsn).open("account")


async def test_another_layout(dsn: str) -> None:
    """It is refused, and left as it is."""
    import psycopg

    await (await PostgresStore(dsn).open("account")).aclose()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE apixo_store SET version = 1")
    with pytest.raises(StoreError, match="has layout 1, and this release knows 3"):
        await PostgresStore(dsn).open("account")


async def test_a_stopped_process_holds_no_lock(dsn: str) -> None:
    """All of a transaction is one message: nothing is held between two of them."""
    import psycopg

    store = await PostgresStore(dsn).open("account")
    await store.intend(purchase("k"), attempt(), "a", slots=9, hold=60)
    with psycopg.connect(dsn, autocommit=True) as connection:
        held = connection.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON oid = database "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert held == (0,)
    await store.aclose()


async def test_a_pooler_that_swallows_notifications(
    dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is noticed at the start, said once, and looked for in turns instead."""
    monkeypatch.setattr(_news.NotifyNews, "_is_heard", lambda *_: False)
    store = await PostgresStore(dsn).open("account")
    heard: list[str | None] = []
    store.listen(heard.append)
    async with asyncio.timeout(30):
        while len(heard) < 4:  # noqa: ASYNC110  # a thread tells
            await asyncio.sleep(0.05)
    store.listen(None)
    await store.aclose()
    assert set(heard) == {None}
    assert caplog.text.count("notifications do not come") == 1


async def test_news_after_a_restart(server: PostgresServer, dsn: str) -> None:
    """What changed meanwhile may be anything; then they come again."""
    one, two = await PostgresStore(dsn).open("account"), await PostgresStore(dsn).open("account")
    heard: list[str | None] = []
    two.listen(heard.append)
    async with asyncio.timeout(60):
        while not heard:  # noqa: ASYNC110  # a thread tells
            await asyncio.sleep(0.05)
        server.kill()
        heard.clear()
        server.start()
        own = attempt()
        while "k" not in heard:
            with suppress(StoreError):  # Its connection was lost as well.
                await one.bought(purchase("k"), own, "a", "task_k", hold=60)
            await asyncio.sleep(0.2)
    assert None in heard
    await one.aclose()
    await two.aclose()
