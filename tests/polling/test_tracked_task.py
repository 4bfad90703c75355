from __future__ import annotations

import asyncio

from apixo_async import APIConnectionError, Limiter, Result, Snapshot, TaskAbandonedError, TaskRef
from apixo_async._polling.schedule import PollTimes
from apixo_async._polling.tracked_task import TrackedTask
from apixo_async._sync import Signal, fresh

REF = TaskRef("gpt-image-1", "task_1")
SNAPSHOT = Snapshot("task_1", "gpt-image-1", "processing", {})


def track() -> TrackedTask:
    """Return a track that holds a slot."""
    slot = Limiter().slot_above()
    return TrackedTask(REF, REF.model, PollTimes(20, 3), slot, created=0.0, expires=1_800.0)


async def test_signal_wakes_all_who_wait() -> None:
    """Firing wakes everybody who waits now, and nobody who comes later."""
    signal = Signal()
    waiters = [asyncio.create_task(signal.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiters[0].cancel()
    signal.fire()
    done = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(one) for one in done] == [asyncio.CancelledError, type(None), type(None)]
    late = asyncio.create_task(signal.wait())
    await asyncio.sleep(5)
    assert not late.done()
    late.cancel()


async def test_verdict_is_the_outcome_before_the_halt() -> None:
    """What ended a task is told rather than why nobody polls it."""
    one = track()
    assert one.verdict() is None
    one.halted = APIConnectionError("x")
    assert one.verdict() is one.halted
    one.outcome = Result("task_1", "gpt-image-1", ())
    assert one.verdict() is one.outcome


async def test_changed_fires_alone_while_the_task_runs() -> None:
    """A telling poll wakes those who watch, not those who wait for the end."""
    one = track()
    watcher, waiter = (asyncio.create_task(s.wait()) for s in (one.changed, one.over))
    await asyncio.sleep(0)
    one.wake()
    await asyncio.sleep(0)
    assert watcher.done()
    assert not waiter.done()
    waiter.cancel()


async def test_refreshers_get_errors_of_their_own() -> None:
    """Everybody who asked for a poll gets its snapshot, or an exception that nobody shares."""
    one = track()
    loop = asyncio.get_running_loop()
    one.refreshers = [loop.create_future() for _ in range(3)]
    first, second, gone = one.refreshers
    gone.cancel()
    error = APIConnectionError("no answer")
    one.answer_refreshers(error)
    assert str(first.exception()) == str(second.exception()) == "no answer"
    assert len({id(error), id(first.exception()), id(second.exception())}) == 3
    asked = loop.create_future()
    one.refreshers.append(asked)
    one.answer_refreshers(SNAPSHOT)
    assert asked.result() is SNAPSHOT
    assert one.refreshers == []


def test_fresh_error_has_the_cause_and_no_traceback() -> None:
    """A fresh copy keeps attributes and cause, and carries no traceback of another waiter."""
    error = TaskAbandonedError("too old", ref=REF)
    error.__cause__ = ValueError("why")
    try:
        raise error
    except TaskAbandonedError as raised:
        twin = fresh(raised)
    assert twin is not error
    assert twin.__traceback__ is None
    assert (twin.args, twin.task_id, twin.__cause__) == (error.args, "task_1", error.__cause__)
