"""Fixtures for the tests of programs that use APIXO; needs pytest, and anyio's plugin for clients.

Enable it in a ``conftest.py``: ``pytest_plugins = ["apixo_async.testing.plugin"]``. To run async
tests in virtual time, add there::

    @pytest.fixture
    def anyio_backend(apixo_virtual_time):
        return apixo_virtual_time
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from apixo_async.testing import MemoryStore, Simulator, VirtualTimeLoop

if TYPE_CHECKING:
    from apixo_async import AsyncClient


@pytest.fixture
def apixo_simulator() -> Simulator:
    """Give each test a service of its own, in process, its key ``test-key``."""
    return Simulator()


@pytest.fixture
async def apixo_client(
    apixo_simulator: Simulator,
    anyio_backend: object,  # noqa: ARG001  # naming it makes anyio's plugin run this fixture
) -> AsyncIterator[AsyncClient]:
    """Give a client of `apixo_simulator`, closed at the end of the test."""
    from apixo_async import AsyncClient

    key = apixo_simulator.options.key
    transport, polling = apixo_simulator.transport(), apixo_simulator.polling
    async with AsyncClient(key, transport=transport, polling=polling) as client:
        yield client


@pytest.fixture
def apixo_store() -> MemoryStore:
    """Give each test a store of its own, for ``AsyncClient(store=...)``."""
    return MemoryStore()


@pytest.fixture
def apixo_virtual_time() -> tuple[str, dict[str, Any]]:
    """Give anyio's plugin a backend on which waiting costs nothing."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}
