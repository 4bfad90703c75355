from __future__ import annotations

import asyncio

from apixo_async.testing.memory_store import MemoryStore
from apixo_async.testing.store_contract import attempt, purchase


async def test_each_test_has_its_own() -> None:
    """Nothing is shared by two stores; what `test_store_contract` says of one holds."""
    one, two = await MemoryStore().open("account"), await MemoryStore().open("account")
    await one.intend(purchase("k"), attempt(), "a", slots=1, hold=60)
    await one.save(b"body", 0)
    assert await two.find("k") is None
    assert (await two.load()).body is None


async def test_its_clock_is_that_of_the_loop() -> None:
    """In virtual time an hour passes at once."""
    store = await MemoryStore().open("account")
    await store.intend(purchase("k"), attempt(), "a", slots=1, hold=3600)
    assert (await store.load()).open_tasks == 1
    await asyncio.sleep(3600)
    value = await store.load()
    assert value.open_tasks == 0
    assert value.now == asyncio.get_running_loop().time()
