"""Where outcomes lie until they are taken: as they came, or in the order of their inputs."""

from __future__ import annotations

from collections import OrderedDict

from apixo_async._bulk.outcome import Outcome


class Shelf:
    """The outcomes that nobody has taken yet.

    Args:
        ordered: Whether they are taken in the order of their inputs.
    """

    __slots__ = ("_next", "_ordered", "_outcomes")

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._outcomes: OrderedDict[int, Outcome] = OrderedDict()
        self._next = 0

    def __len__(self) -> int:
        return len(self._outcomes)

    def put(self, number: int, outcome: Outcome) -> None:
        """Lay down the outcome of the input with this number."""
        self._outcomes[number] = outcome

    def take(self) -> Outcome | None:
        """Return the outcome whose turn it is, or None while it is not there."""
        number = self._next if self._ordered else next(iter(self._outcomes), None)
        if number is None or number not in self._outcomes:
            return None
        self._next += 1
        return self._outcomes.pop(number)

    def clear(self) -> list[Outcome]:
        """Return all that are left, and forget them."""
        left = list(self._outcomes.values())
        self._outcomes.clear()
        return left
