from __future__ import annotations

from apixo_async._map.items import Outcome, OutcomeBuffer


def outcome(number: int) -> Outcome:
    return Outcome(str(number), None, None, None, None, 0)


def taken(buffer: OutcomeBuffer) -> list[str]:
    return [one.key for one in iter(buffer.take, None)]


def test_as_they_came() -> None:
    """Without an order, outcomes are taken as they came."""
    buffer = OutcomeBuffer(ordered=False)
    for number in (2, 0, 1):
        buffer.put(number, outcome(number))
    assert len(buffer) == 3
    assert taken(buffer) == ["2", "0", "1"]
    assert len(buffer) == 0


def test_in_order() -> None:
    """In order, each outcome waits for those before it."""
    buffer = OutcomeBuffer(ordered=True)
    buffer.put(2, outcome(2))
    buffer.put(1, outcome(1))
    assert taken(buffer) == []
    buffer.put(0, outcome(0))
    assert taken(buffer) == ["0", "1", "2"]
    buffer.put(3, outcome(3))
    assert taken(buffer) == ["3"]


def test_cleared() -> None:
    """What is cleared is returned once, in order or not."""
    buffer = OutcomeBuffer(ordered=True)
    buffer.put(1, outcome(1))
    assert [one.key for one in buffer.clear()] == ["1"]
    assert (len(buffer), buffer.clear()) == (0, [])
