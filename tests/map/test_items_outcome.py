from __future__ import annotations

import dataclasses

import pytest

from apixo_async import BadRequestError, Result
from apixo_async._map.items import Outcome

from ..support.maps import castle

GOOD = Outcome("7", castle(1), None, Result("task_1", "flux-kontext", ()), None, 1)
BAD = Outcome("8", castle(1), None, None, BadRequestError("no", status=400), 0)


def test_ok() -> None:
    """An outcome with a result is ok, one with an error is not."""
    assert (GOOD.ok, BAD.ok) == (True, False)


def test_repr_is_short() -> None:
    """The repr names the key and the end, and holds no prompt."""
    assert (repr(GOOD), repr(BAD)) == ("<Outcome '7' success>", "<Outcome '8' BadRequestError>")


def test_frozen() -> None:
    """Nobody changes an outcome."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        GOOD.key = "9"  # type: ignore[misc]
