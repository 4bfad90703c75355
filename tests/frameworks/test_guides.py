"""The blocks of the README and the guides that need a framework, run as they stand."""

from __future__ import annotations

import pytest

from ..test_readme import DOCUMENTED, Block, Sandbox, execute, sandbox, url

__all__ = ["sandbox", "url"]  # fixtures

KINDS = ("pytest-asyncio", "django", "flask")
NEED_ONE = [
    pytest.param(block, id=name)
    for name, block in DOCUMENTED
    if block.how is not None and block.how.partition(" ")[0] in KINDS
]


@pytest.mark.parametrize("block", NEED_ONE)
def test_block(sandbox: Sandbox, block: Block) -> None:  # the fixture
    """A block does what it says, as it stands, in an empty folder."""
    execute(sandbox, block)
