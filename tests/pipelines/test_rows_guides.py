"""The blocks of the guides that need an engine, run as they stand."""

from __future__ import annotations

import pytest

from ..test_readme import DOCUMENTED, Block, Sandbox, execute, sandbox, url

__all__ = ["sandbox", "url"]  # fixtures

pytestmark = pytest.mark.realtime

NEED_ONE = [
    pytest.param(block, id=name)
    for name, block in DOCUMENTED
    if block.how is not None and block.how.startswith("script with ")
]


@pytest.mark.parametrize("block", NEED_ONE)
def test_block(sandbox: Sandbox, block: Block) -> None:  # the fixture
    """A block does what it says, as it stands, in an empty folder."""
    execute(sandbox, block)
