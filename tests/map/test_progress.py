from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from apixo_async import (
    APIConnectionError,
    ApixoError,
    SubmitUncertainError,
    TaskAbandonedError,
    TaskRef,
)
from apixo_async._map.progress import Progress, ProgressCounter

from ..support.maps import castle

UNCERTAIN = SubmitUncertainError("?", model="m", input=castle(1), sent_at=datetime.now(UTC))
ABANDONED = TaskAbandonedError("old", ref=TaskRef("m", "task_1"))


def test_every_end_is_counted_once() -> None:
    """Each input that was read is in one count, by what became of its purchase."""
    tally, refused = ProgressCounter(), APIConnectionError("not bought")
    refused.bought = False
    tally.read, tally.bought = 8, 4
    tally.ended(None, 1)
    tally.ended(ABANDONED, 1)
    tally.ended(APIConnectionError("repetition not bought"), 1)
    tally.ended(UNCERTAIN, 0)
    tally.ended(UNCERTAIN, 1)
    tally.ended(ApixoError("cut off"), 0)
    tally.ended(refused, 0)
    assert tally.progress(Decimal(0), 0) == Progress(
        read=8, bought=4, in_progress=1, succeeded=1, failed=2, uncertain=3, unbought=1
    )
    assert tally.in_progress == 1
