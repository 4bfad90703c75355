from __future__ import annotations

from apixo_async._map.items import Outcome
from apixo_async._map.runner import OutcomeBuffer


def outcome(number: int) -> Outcome:
    return Outcome(str(number), None, None, None, None, 0)


def taken(shelf: OutcomeBuffer) -> list[str]:
    return [one.key for one in iter(shelf.take, None)]


def test_as_they_came() -> None:
    """Without an order, outcomes are taken as they came."""
    shelf = OutcomeBuffer(ordered=False)
    for number in (2, 0, 1):
        shelf.put(number, outcome(number))
    assert len(shelf) == 3
    assert taken(shelf) == ["2", "0", "1"]
    assert len(shelf) == 0


def test_in_order() -> None:
    """In order, each outcome waits for those before it."""
    shelf = OutcomeBuffer(ordered=True)
    shelf.put(2, outcome(2))
    shelf.put(1, outcome(1))
    assert taken(shelf) == []
    shelf.put(0, outcome(0))
    assert taken(shelf) == ["0", "1", "2"]
    shelf.put(3, outcome(3))
    assert taken(shelf) == ["3"]


def test_cleared() -> None:
    """What is cleared is returned once, in order or not."""
    shelf = OutcomeBuffer(ordered=True)
    shelf.put(1, outcome(1))
    assert [one.key for one in shelf.clear()] == ["1"]
    assert (len(shelf), shelf.clear()) == (0, [])
