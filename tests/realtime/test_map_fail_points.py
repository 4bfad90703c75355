"""Bulk runs that are killed right before, and right after, a write of their journal is durable."""

from __future__ import annotations

import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from ..support.map_processes import Life, Row, Shop, free_port, living, rows, shop
from ..support.map_program import Job

#: What a map has its journal write; a callback's claims are flushed before it is answered.
POLLED: Final = (
    *("open", "read", "enter", "intend", "submitted", "uncertain", "refused", "succeeded"),
    *("failed", "downloaded"),
)
CALLED: Final = ("claimed", "intend", "submitted", "uncertain")

#: By the first word of a prompt: the state in which its item ends, and what its outcome says.
ENDS: Final = {
    "lost": ("uncertain", "SubmitUncertainError"),
    "failing": ("failed", "TaskFailedError"),
    "refused": ("new", "BadRequestError"),
    "fine": ("success", None),
}
WORDS: Final = ("fine", "lost", "failing", "refused", "fine", "fine")

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL"),
]


@pytest.fixture(scope="module")
def service() -> Iterator[Shop]:
    """Have a service on which tasks take a tenth of a second, and half of the callbacks early."""
    with shop(latency=0.02, speed=100.0, early_callbacks=0.5, balance=10**6) as found:
        yield found


@pytest.fixture(scope="module")
def patient() -> Iterator[Shop]:
    """Have a service that calls back for 38 s: a process on a busy machine has begun by then."""
    with shop(latency=0.02, speed=20.0, early_callbacks=0.5, balance=10**6) as found:
        yield found


@pytest.fixture
def job(service: Shop, tmp_path: Path, request: pytest.FixtureRequest) -> Job:
    """Have a run of a dozen items, a few at a time, with every end that an item may come to."""
    return Job(
        service.url,
        12,
        WORDS,
        journal=str(tmp_path / "run.db"),
        files=str(tmp_path),
        name=request.node.name,
        tasks=4,
        pause=0.1,
    )


def points(names: tuple[str, ...], *usual: str) -> list[object]:
    """Return both sides of the commits; those of unusual ones are for long runs."""
    return [
        pytest.param(f"{name}:{when}-commit", marks=[] if name in usual else pytest.mark.long)
        for name in names
        for when in ("before", "after")
    ]


def killed(job: Job, point: str) -> dict[str, Row]:
    """Have a run die at a fail point; return what its journal holds then."""
    # A dozen items need several commits of these, and may share a single one of the others.
    again = point.partition(":")[0] in ("enter", "intend", "submitted", "succeeded", "downloaded")
    with living(replace(job, dies=point, after=1 + again)) as life:
        assert life.ends() == -signal.SIGKILL
    assert job.journal is not None
    # Whoever opens the file settles its log: that is left to the next run.
    left, copy = Path(job.journal), Path(job.journal).parent / "copy"
    copy.mkdir()
    for part in left.parent.glob("run.db*"):
        shutil.copy(part, copy)
    return {row.key: row for row in rows(copy / left.name)}


def finished(job: Job) -> tuple[Life, dict[str, Row]]:
    """Have a run come to its end; return what it said, and its journal.

    What is in doubt keeps slots for minutes, in this run and from earlier ones: there are enough.
    """
    with living(replace(job, tasks=4 * job.items)) as life:
        assert life.ends() == 0
    assert job.journal is not None
    return life, {row.key: row for row in rows(Path(job.journal))}


def is_doubtful(row: Row | None) -> bool:
    """Say whether nobody can know, of an item as it was left, whether it was bought."""
    return row is not None and row.state in ("intent", "uncertain")


def word_of(row: Row) -> str:
    """Return the first word of an item's prompt."""
    return row.prompt.partition(" ")[0]


def bought_for(service: Shop, job: Job) -> Counter[str]:
    """Return how many tasks the prompts of a run have."""
    sold = service.sold().prompts()
    return Counter({prompt: sold[prompt] for _, prompt in job.orders()})


@pytest.mark.parametrize("point", points(POLLED, "intend", "submitted"))
def test_a_run_goes_on(point: str, service: Shop, job: Job) -> None:
    """What was not meant to be bought yet is bought once, and nothing else; each has its end."""
    before = killed(job, point)
    had = bought_for(service, job)
    life, left = finished(job)
    new = {key for key in left if key not in before or before[key].state == "new"}
    due = Counter(left[key].prompt for key in new if word_of(left[key]) != "refused")
    assert bought_for(service, job) == had + due
    assert sorted(row.prompt for row in left.values()) == sorted(p for _, p in job.orders())
    assert Counter(key for key, *_ in life.outcomes) == Counter(left.keys())
    for key, prompt, error, _ in life.outcomes:
        was, row = before.get(key), left[key]
        assert (row.state, error) == ENDS["lost" if is_doubtful(was) else word_of(row)]
        assert (row.prompt, row.purchases) == (prompt, int(row.state != "new"))
        if was is not None and was.task_id is not None:
            assert row.task_id == was.task_id


@pytest.mark.parametrize("point", ["intend:after-commit", "submitted:before-commit"])
def test_the_word_of_the_user(point: str, service: Shop, job: Job) -> None:
    """Asked to, a run buys anew what is uncertain, and nothing else."""
    killed(job, point)
    _, before = finished(job)
    had = bought_for(service, job)
    doubtful = [row for row in before.values() if is_doubtful(row)]
    words = {word_of(row) for row in doubtful}
    assert "lost" in words
    assert len(words) > 1
    _, left = finished(replace(job, resubmit=True))
    due = Counter(row.prompt for row in doubtful if word_of(row) != "refused")
    assert bought_for(service, job) == had + due
    for key, was in before.items():
        row = left[key]
        if was in doubtful and word_of(row) != "refused":
            assert (row.state, row.purchases) == (ENDS[word_of(row)][0], 2)
        else:
            assert row == was


@pytest.mark.parametrize("point", points(CALLED, "claimed"))
def test_a_callback_is_not_lost(point: str, patient: Shop, job: Job) -> None:
    """With webhooks, what was paid for is found; only what was never sent stays uncertain."""
    # As many at once as there are: those that were never sent keep their slots for two minutes.
    job = replace(job, url=patient.url, words=("fine", "lost"), port=free_port(), tasks=job.items)
    before = killed(job, point)
    had = bought_for(patient, job)
    known = Counter(row.prompt for row in before.values() if row.task_id is not None)
    doubtful = Counter(row.prompt for row in before.values() if is_doubtful(row))
    never_sent = doubtful - (had - known)
    with living(job) as life:
        assert life.wait_until("outcome", job.items - never_sent.total())
        assert life.interrupt() == 0
    left = rows(Path(job.journal or ""))
    assert bought_for(patient, job) + never_sent == Counter(prompt for _, prompt in job.orders())
    assert Counter(row.prompt for row in left if row.state == "uncertain") == never_sent
    assert Counter(row.state for row in left) == Counter(
        success=job.items - never_sent.total(), uncertain=never_sent.total()
    )
    assert {error for _, _, error, _ in life.outcomes} == {None}
