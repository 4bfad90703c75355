"""A store in the memory of one process: what clients share in tests, without a database."""

from __future__ import annotations

import asyncio

from apixo_async.stores._protocol import SharedValue


class MemoryStore:
    """Let clients of one event loop share an account as processes do.

    Give the same one to each of them. It forgets everything with the process.
    """

    def __init__(self) -> None:
        self._body: bytes | None = None
        self._version = 0

    async def load(self) -> SharedValue:
        """Read the value."""
        now = asyncio.get_running_loop().time()
        return SharedValue(self._body, self._version, now)

    async def save(self, body: bytes, version: int) -> bool:
        """Keep a value if none was kept since that version was read; return True if it was."""
        if version != self._version:
            return False
        self._body, self._version = body, version + 1
        return True
