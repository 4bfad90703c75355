"""The one growing pause: between repeats of a request, probes after 429s, polls that fail."""

from __future__ import annotations

import random
from itertools import islice
from typing import Final

#: Pauses that are computed at most; 0.01 s doubled as often exceeds any longest pause by far.
_MOST_DOUBLINGS: Final = 64


def growing_pause(
    number: int, rng: random.Random, *, first: float, longest: float, jitter: tuple[float, float]
) -> float:
    """Return a pause in seconds that doubles with each repeat; a random factor disperses crowds.

    Args:
        number: The repeat's number, from 1.
        rng: The source of the jitter; one number is drawn from it.
        first: Seconds before the first repeat, without jitter.
        longest: Seconds before any repeat at most, without jitter.
        jitter: The bounds of the random factor.
    """
    # Imported late: it takes 4 ms, and a client whose requests all succeed never needs it.
    import backoff

    spans = backoff.expo(base=2, factor=first, max_value=longest)
    # By that generator's protocol its first value is a placeholder; it is skipped with the others.
    span: float = next(islice(spans, min(number, _MOST_DOUBLINGS), None))
    return span * rng.uniform(*jitter)
