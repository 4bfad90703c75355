"""Bulk runs under SIGKILL: the simulator in one process, in others those that are killed.

APIXO_MAP_KILLS=40 APIXO_MAP_ITEMS=12000 is the long form.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from apixo_async.testing.callbacks import REDELIVERY

from ..support.inside import MOST_IN_FLIGHT
from ..support.map_processes import BOUND, Life, Shop, Sold, free_port, living, rows, shop
from ..support.map_program import Job

KILLS: Final = int(os.environ.get("APIXO_MAP_KILLS", "2"))
ITEMS: Final = int(os.environ.get("APIXO_MAP_ITEMS", "350"))
LONG: Final = KILLS >= 20
LATENCY: Final = 0.2  # seconds of every call
#: Divides 30, 120 and 600 s: the last redelivery comes when the killing is over.
SPEED: Final = 5.0 if LONG else 75.0
#: Items that may be uncertain though they were never sent. How many are depends on the machine: the
#: slower it is, the more turns between intent and first byte there are; a kill cuts all of them.
MOST_NEVER_SENT: Final = KILLS * MOST_IN_FLIGHT
#: Items that nobody waits for before a kill, so that no run ends before its turn.
_MARGIN: Final = max(100, ITEMS // 10)

only_long = pytest.mark.skipif(not LONG, reason="the short form has one transport")

LOG: Final = logging.getLogger(__name__)

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL"),
]


@pytest.fixture
def service() -> Iterator[Shop]:
    """Have a service that is slow to answer, with one callback in ten early."""
    options = {"latency": LATENCY, "speed": SPEED, "early_callbacks": 0.1, "balance": 10**6}
    with shop(**options) as found:
        yield found


@dataclass
class Killed:
    """A run that was killed again and again, and what is left of it.

    Attributes:
        job: The run.
        began: When, in seconds.
        lives: Its processes, the last of which was not killed.
    """

    job: Job
    began: float = field(default_factory=time.monotonic)
    lives: list[Life] = field(default_factory=list[Life])

    def live(self, service: Shop, source: random.Random) -> None:
        """Kill one process after the other, each somewhere in its share of the purchases."""
        for to_come in range(KILLS, 0, -1):
            spare = max(0, ITEMS - len(service.sold().tasks) - _MARGIN)
            # One in eight has hardly begun: it reads what earlier ones have left.
            share = int(source.uniform(0.2, 1.6) * spare / to_come) if to_come % 8 else 0
            with living(self.job) as life:
                # Uncertain submits of earlier lives keep their slots for four minutes at most.
                assert life.wait_until("bought", min(share, spare), 5 * BOUND)
                assert life.ends(source.uniform(0.0, 0.2 if share else 1.0)) is None
                if share:
                    until_in_flight(service)
                assert life.kill() == -signal.SIGKILL
            self.lives.append(life)

    def in_flight(self, sold: Sold) -> int:
        """Return the submits in flight at the kills."""
        return sum(map(sold.in_flight, self.lives))

    def twice(self, sold: Sold) -> int:
        """Return the tasks that no input was to have, by the service's word."""
        due = Counter(prompt for _, prompt in self.job.orders())
        return (sold.prompts() - due).total()


@dataclass(frozen=True)
class Left:
    """What a journal says of the items, beside what the service has sold."""

    states: Counter[str]
    paid: int
    never_sent: int


def until_in_flight(service: Shop) -> None:
    """Wait until a submit is under way: that is what a kill is to cut."""
    over = time.monotonic() + BOUND
    while all(ended for _, ended in service.sold().submits) and time.monotonic() < over:
        time.sleep(0.005)


def left_in(path: Path, sold: Sold) -> Left:
    """Compare a journal that nobody has open with what the service has sold.

    Of equal inputs whose submits are uncertain nobody can say which ones were sent: they are
    counted by their prompt.
    """
    found = rows(path)
    known = {row.task_id: row.prompt for row in found if row.state == "success"}
    assert len(known) == sum(row.state == "success" for row in found)
    assert known.items() <= {task_id: prompt for task_id, prompt, _ in sold.tasks}.items()
    assert all(row.purchases == 1 for row in found)
    paid = sold.prompts() - Counter(known.values())
    uncertain = Counter(row.prompt for row in found if row.state == "uncertain")
    assert paid <= uncertain, "a task that the journal knows nothing of"
    states = Counter(row.state for row in found)
    return Left(states, paid.total(), (uncertain - paid).total())


@pytest.mark.parametrize("swift", [False, pytest.param(True, marks=only_long)])
def test_nothing_is_bought_twice(service: Shop, tmp_path: Path, swift: bool) -> None:
    """Whenever a run is killed, the next one buys what is left; few items stay uncertain."""
    path = tmp_path / "run.db"
    run = Killed(Job(service.url, ITEMS, journal=str(path), swift=swift))
    run.live(service, random.Random(ITEMS))
    with living(run.job) as last:
        assert last.ends(10 * BOUND) == 0
    sold, keys = service.sold(), {key for key, *_ in last.outcomes}
    left = left_in(path, sold)
    in_flight = run.in_flight(sold)
    LOG.info(
        "%d kills in %.0f s, %d submits in flight: %s; uncertain and paid for: %d, never sent: %d",
        *(KILLS, time.monotonic() - run.began, in_flight, dict(left.states)),
        *(left.paid, left.never_sent),
    )
    assert run.twice(sold) == 0
    assert left.states.keys() <= {"success", "uncertain"}
    assert left.states.total() == ITEMS == len(last.outcomes) == len(keys)
    # On a busy machine two kills may meet no submit; many show that they do.
    assert in_flight >= KILLS or not LONG
    assert left.never_sent <= MOST_NEVER_SENT


@pytest.mark.long
def test_a_file_of_results_buys_twice(service: Shop, tmp_path: Path) -> None:
    """What only notes the results buys twice what was under way: such kills are no easy test."""
    run = Killed(Job(service.url, ITEMS, results=str(tmp_path / "results.txt"), swift=True))
    run.live(service, random.Random(ITEMS))
    with living(run.job) as last:
        assert last.ends(10 * BOUND) == 0
    sold = service.sold()
    twice = run.twice(sold)
    LOG.info("%d kills, %d of %d bought twice", KILLS, twice, ITEMS)
    assert len(sold.tasks) - twice == ITEMS
    assert twice >= KILLS


def test_callbacks_resolve_what_was_paid_for(service: Shop, tmp_path: Path) -> None:
    """With webhooks every task that was paid for is found, whatever was lost meanwhile."""
    path = tmp_path / "run.db"
    words = ("lost", *[""] * 19)
    job = Job(service.url, ITEMS, words, journal=str(path), port=free_port())
    run = Killed(job)
    run.live(service, random.Random(ITEMS))
    with living(job) as last:
        assert last.wait_until("read", 1, 10 * BOUND)
        sold = until_resolved(service, last)
        # What was never sent awaits its callback for a quarter of an hour.
        assert last.interrupt() == 0
    left = left_in(path, sold)
    in_flight = run.in_flight(sold)
    LOG.info(
        "%d kills in %.0f s, %d submits in flight: %s; uncertain and paid for: %d, never sent: %d",
        *(KILLS, time.monotonic() - run.began, in_flight, dict(left.states)),
        *(left.paid, left.never_sent),
    )
    assert run.twice(sold) == 0
    assert left.states.total() == ITEMS
    # On a slow machine the processes take so long to start that some callbacks meet none.
    assert left.paid <= sold.given_up
    assert left.never_sent <= MOST_NEVER_SENT


def until_resolved(service: Shop, last: Life) -> Sold:
    """Wait until the outcomes are as many as the tasks, but no longer than for all callbacks."""
    deadline = time.monotonic() + 5 * BOUND + sum(REDELIVERY) / SPEED
    while True:
        sold = service.sold()
        has_all = last.wait_until("outcome", len(sold.tasks), 1.0)
        ended = last.ends(1.0)
        if ended is not None:  # Nothing was left that was never sent.
            assert ended == 0
            return service.sold()
        is_all = has_all and len(service.sold().tasks) == len(sold.tasks)  # For a second.
        if is_all or time.monotonic() > deadline:
            return sold
