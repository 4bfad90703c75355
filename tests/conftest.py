"""Run every async test in virtual time; tests/realtime has a plain loop of its own."""

from __future__ import annotations

from typing import Any

import pytest

from apixo_async.testing.virtual_time import VirtualTimeLoop

pytest_plugins = ["pytester"]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run anyio's tests on a loop on which waiting costs nothing."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}
