"""Fixtures for the tests of programs that use APIXO, under anyio's plugin or pytest-asyncio.

Enable them in a ``conftest.py``: ``pytest_plugins = ["apixo_async.testing.plugin"]``. To run async
tests in virtual time, add there, with anyio's plugin::

    @pytest.fixture
    def anyio_backend(apixo_virtual_time):
        return apixo_virtual_time

or with pytest-asyncio, from 1.4 on::

    def pytest_asyncio_loop_factories(config, item):
        return {"virtual": VirtualTimeLoop}
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from apixo_async.testing import (
    MemoryStore,
    RealTimeWarning,
    Simulator,
    VirtualTimeLoop,
    serve_thread,
)

if TYPE_CHECKING:
    from apixo_async import AsyncClient

_T = TypeVar("_T")

_SERVED = 1000  # times as fast as the service: the longest documented task takes 0.3 s


def _asyncio_fixture(function: Callable[..., _T]) -> Callable[..., _T]:
    # In its strict mode pytest-asyncio runs only what its own decorator has marked. It is loaded
    # before any conftest.py, unless it is missing or switched off.
    plugin = sys.modules.get("pytest_asyncio", pytest)
    decorated: Callable[..., _T] = plugin.fixture(function)
    return decorated


async def _client_of(simulator: Simulator) -> AsyncIterator[AsyncClient]:
    from apixo_async import AsyncClient

    if simulator.options.speed <= 1 and not isinstance(asyncio.get_running_loop(), VirtualTimeLoop):
        warnings.warn(
            "this test runs in real time, in which each task takes its documented 20 s and more: "
            "run it in virtual time, as `apixo docs testing` shows, or let a fixture "
            "apixo_simulator of yours return a fast Simulator(speed=1000)",
            RealTimeWarning,
            stacklevel=1,
        )
    key, transport, polling = simulator.options.key, simulator.transport(), simulator.polling
    async with AsyncClient(key, transport=transport, polling=polling) as client:
        yield client


@pytest.fixture
async def _apixo_anyio_client(
    apixo_simulator: Simulator,
    anyio_backend: object,  # noqa: ARG001  # naming it makes anyio's plugin run this fixture
) -> AsyncIterator[AsyncClient]:
    async for client in _client_of(apixo_simulator):
        yield client


@_asyncio_fixture
async def _apixo_asyncio_client(apixo_simulator: Simulator) -> AsyncIterator[AsyncClient]:
    async for client in _client_of(apixo_simulator):
        yield client


@pytest.fixture
def apixo_simulator() -> Simulator:
    """Give each test a service of its own, in process, its key ``test-key``."""
    return Simulator()


@pytest.fixture
def apixo_client(request: pytest.FixtureRequest) -> AsyncClient:
    """Give a client of `apixo_simulator`, closed at the end of the test.

    A test that it makes wait in real time for a simulator that is not fast has a
    `RealTimeWarning`.
    """
    if "anyio_backend" in request.fixturenames:
        client: AsyncClient = request.getfixturevalue("_apixo_anyio_client")
    elif request.config.pluginmanager.hasplugin("asyncio"):
        client = request.getfixturevalue("_apixo_asyncio_client")
    else:
        pytest.fail(
            "apixo_client: neither anyio's plugin runs this test, as with @pytest.mark.anyio, nor "
            "pytest-asyncio",
            pytrace=False,
        )
    return client


@pytest.fixture
def apixo_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Serve a fast simulator on a port of this machine, and give it: for programs under test.

    It is where APIXO_BASE_URL and APIXO_API_KEY lead, which are set for the test, and runs in a
    thread, in real time. So it suits programs with a loop or process of their own, as under the
    ``TestClient`` of FastAPI, and those without a loop. Their clients poll as fast as it is.
    """
    simulator = Simulator(speed=_SERVED)
    with serve_thread(simulator) as url:
        monkeypatch.setenv("APIXO_BASE_URL", url)
        monkeypatch.setenv("APIXO_API_KEY", simulator.options.key)
        yield simulator


@pytest.fixture
def apixo_store() -> MemoryStore:
    """Give each test a store of its own, for ``AsyncClient(store=...)``."""
    return MemoryStore()


@pytest.fixture
def apixo_virtual_time(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Give anyio's plugin a backend on which waiting costs nothing.

    A test that asks for it, and that anyio's plugin does not run, has a `RealTimeWarning`.
    """
    if "anyio_backend" not in request.fixturenames:
        warnings.warn(
            "apixo_virtual_time is for the fixture anyio_backend of anyio's plugin, which does not "
            "run this test: `apixo docs testing` shows virtual time under pytest-asyncio",
            RealTimeWarning,
            stacklevel=1,
        )
    return "asyncio", {"loop_factory": VirtualTimeLoop}
