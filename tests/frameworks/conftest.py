"""With the frameworks that `nox -s frameworks` installs; elsewhere, nothing is collected here."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

NEEDED = ("pytest_asyncio", "django", "fastapi", "flask")

collect_ignore_glob = [] if all(map(find_spec, NEEDED)) else ["test_*.py"]


@pytest.fixture
def anyio_backend() -> str:
    """Run anyio's tests on asyncio's own loop."""
    return "asyncio"
