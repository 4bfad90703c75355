"""Run the tests with real sockets on asyncio's own loop, and mark them all ``realtime``."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def anyio_backend() -> str:
    """Run anyio's tests on asyncio's own loop."""
    return "asyncio"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this directory, so that none is forgotten."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.realtime)
