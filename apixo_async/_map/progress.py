"""How far a map is: a count for every end that an input can come to."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from apixo_async.errors import ApixoError, DownloadError, SubmitUncertainError


@dataclass(frozen=True, slots=True)
class Progress:
    """One instant of a map. Every input that was read is in one of the last five counts.

    Attributes:
        read: Inputs taken from the iterable.
        bought: Tasks bought, those bought again included.
        in_progress: Inputs that wait for a slot, their task or another one.
        succeeded: Inputs with a result.
        failed: Inputs whose last task ended otherwise, or is polled no more.
        uncertain: Inputs of which it cannot be known whether a task was bought.
        unbought: Inputs for which nothing was bought.
        resumed: Inputs for which an earlier run of the same journal had bought a task.
        spent: USD of all purchases by the documents' prices and those given, of those under way
            too and of those that may have been made; earlier runs of the same journal count.
        unpriced: Purchases whose price is not known.
    """

    read: int = 0
    bought: int = 0
    in_progress: int = 0
    succeeded: int = 0
    failed: int = 0
    uncertain: int = 0
    unbought: int = 0
    resumed: int = 0
    spent: Decimal = Decimal(0)
    unpriced: int = 0


class ProgressCounter:
    """The counts of a map while they change."""

    __slots__ = (
        "_failed",
        "_succeeded",
        "_unbought",
        "_uncertain",
        "bought",
        "read",
        "resumed",
    )

    def __init__(self) -> None:
        self.read = self.bought = self.resumed = 0
        self._succeeded = self._failed = self._uncertain = self._unbought = 0

    @property
    def in_progress(self) -> int:
        """Inputs that were read and have no outcome."""
        ended = self._succeeded + self._failed + self._uncertain + self._unbought
        return self.read - ended

    def ended(self, error: ApixoError | None, purchases: int) -> None:
        """Count how an input ended for which this number of tasks was bought."""
        if error is None or isinstance(error, DownloadError):
            self._succeeded += 1
        elif isinstance(error, SubmitUncertainError):
            self._uncertain += 1
        elif purchases:
            self._failed += 1
        elif error.bought is None:
            self._uncertain += 1  # It was cut off, perhaps in the middle of a POST.
        else:
            self._unbought += 1

    def progress(self, spent: Decimal, unpriced: int) -> Progress:
        """Return the counts of this instant, with the money that is counted elsewhere."""
        return Progress(
            read=self.read,
            bought=self.bought,
            in_progress=self.in_progress,
            succeeded=self._succeeded,
            failed=self._failed,
            uncertain=self._uncertain,
            unbought=self._unbought,
            resumed=self.resumed,
            spent=spent,
            unpriced=unpriced,
        )
