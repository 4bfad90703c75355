from __future__ import annotations

import asyncio

from apixo_async.testing.memory_store import MemoryStore


async def test_a_value_is_kept_once() -> None:
    """Of two that have read the same version, the first keeps its own."""
    store = MemoryStore()
    empty = await store.load()
    assert (empty.body, empty.is_lost, empty.open_tasks) == (None, False, 0)
    assert await store.save(b"a", empty.version)
    assert not await store.save(b"b", empty.version)
    kept = await store.load()
    assert kept.body == b"a"
    assert kept.version > empty.version
    assert kept.now == asyncio.get_running_loop().time()
