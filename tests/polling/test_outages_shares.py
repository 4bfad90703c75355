"""A model whose polls do not come back leaves places to the polls of other models."""

from __future__ import annotations

import asyncio

import pytest

from apixo_async import Limiter, TaskRef
from apixo_async._http.concurrency import ConcurrencyLimit
from apixo_async._polling.outages import ModelShares
from apixo_async._polling.queue import PollQueue
from apixo_async._polling.schedule import PollTimes
from apixo_async._polling.tracked_task import PollState, TrackedTask
from apixo_async.errors import ApixoError

NOW = 100.0


def track(name: str, model: str = "m") -> TrackedTask:
    """Return a task, of which no poll is scheduled."""
    slot = Limiter().slot_above()
    return TrackedTask(TaskRef(model, name), model, PollTimes(1, 1), slot, created=0.0, expires=1e6)


@pytest.fixture
def queue() -> PollQueue:
    """Return an empty queue."""
    return PollQueue(lambda one: one.created)


def send(shares: ModelShares, places: ConcurrencyLimit, model: str) -> list[TrackedTask]:
    """Send polls tasks of a model until one is held back; return those that were sent."""
    sent: list[TrackedTask] = []
    while places.free_for_polls:
        one = track(f"{len(sent)}", model)
        if shares.hold_back(one):
            one.halted = ApixoError("it needs no poll any more")
            break
        shares.sent(one)
        places.enter()
        one.polling = PollState.IN_FLIGHT
        sent.append(one)
    return sent


def test_a_model_that_is_alone_takes_every_place(queue: PollQueue) -> None:
    """No other model needs one."""
    places = ConcurrencyLimit()
    assert len(send(ModelShares(queue, places), places, "m")) == 24


def test_each_model_leaves_some(queue: PollQueue) -> None:
    """Of 24 places for polls one model takes 18, the next one most of the rest, and so on."""
    places = ConcurrencyLimit()
    shares = ModelShares(queue, places)
    for model in "abc":
        shares.opened(track("first", model))
    assert [len(send(shares, places, model)) for model in "abc"] == [18, 5, 1]


def test_a_poll_that_ends_lets_the_next_one_go(queue: PollQueue) -> None:
    """It is the one that waited longest of those that still need a poll."""
    places = ConcurrencyLimit()
    shares = ModelShares(queue, places)
    shares.opened(track("first", "other"))
    sent = send(shares, places, "m")
    over, halted, scheduled, polling, next_one, last = (track(f"late-{n}") for n in range(6))
    for one in (over, halted, scheduled, polling, next_one, last):
        assert shares.hold_back(one)
    over.outcome = halted.halted = ApixoError("it is over")  # type: ignore[assignment]
    queue.schedule(scheduled, NOW + 5.0)
    polling.polling = PollState.IN_FLIGHT
    shares.returned(sent[0], NOW)
    assert queue.pop_due(NOW) is next_one
    shares.returned(sent[1], NOW)
    assert queue.pop_due(NOW) is last
    shares.returned(sent[2], NOW)
    assert queue.pop_due(NOW) is None


def test_the_last_place_goes_to_a_model_that_has_none(queue: PollQueue) -> None:
    """A model without a poll in flight is never held back: no poll of it would ever end."""
    places = ConcurrencyLimit()
    shares = ModelShares(queue, places)
    places.used = 40
    for model in "ab":
        shares.opened(track("1", model))
    for model in "ab":
        assert not shares.hold_back(track("1", model))


def test_places_come_back(queue: PollQueue) -> None:
    """Once its polls have ended, a model may have as many again."""
    places = ConcurrencyLimit()
    shares = ModelShares(queue, places)
    for model in "ab":
        shares.opened(track("first", model))
    for _ in range(2):
        sent = send(shares, places, "a")
        assert len(sent) == 18
        for one in sent:
            shares.returned(one, NOW)
            places.leave(None, 100.0)


async def test_a_poll_that_was_asked_for_stays_that(queue: PollQueue) -> None:
    """It goes before the scheduled ones, also after it was held back."""
    places = ConcurrencyLimit()
    shares = ModelShares(queue, places)
    shares.opened(track("first", "other"))
    sent = send(shares, places, "m")
    asked, scheduled = track("asked"), track("scheduled")
    asked.refreshers.append(asyncio.get_running_loop().create_future())
    for one in (asked, scheduled):
        assert shares.hold_back(one)
    shares.returned(sent[0], NOW)
    assert queue.has_asked
    shares.returned(sent[1], NOW)
    assert queue.pop_due(NOW) is asked
    assert queue.pop_due(NOW) is scheduled
