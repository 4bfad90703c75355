from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from apixo_async import Event, Limiter, LimitReached
from apixo_async._config import Secret, Timeouts
from apixo_async._http.api import Api
from apixo_async._http.channel import Channel, Unanswered
from apixo_async._http.concurrency import ConcurrencyLimiter
from apixo_async._limits.priority import Priority
from apixo_async._reporting import Reporter
from apixo_async.testing import Fault, Simulator

PATH = "/apikeys/current-balance"
SUBMIT = "/generateTask/gpt-image-1"


@pytest.fixture
def api(simulator: Simulator, events: list[Event]) -> Api:
    """Return a line to the simulator."""
    channel = Channel(
        simulator.transport(),
        base_url="https://api.apixo.ai/api/v1",
        key=Secret("test-key"),
        timeouts=Timeouts(read=5.0),
        user_agent="test",
    )
    return Api(channel, Limiter(seed=1), ConcurrencyLimiter(lambda: 1), Reporter(events.append))


def counts(api: Api) -> tuple[int, int]:
    """Return the permits that count and the places that are taken."""
    return api.limiter.requests_used(asyncio.get_running_loop().time()), api.concurrency.limit.used


async def test_answered_request(api: Api) -> None:
    """An answered request counts against the limit and leaves its place with its latency."""
    answer = await api.get(await api.admit(Priority.ASKED), PATH)
    assert answer.status == 200
    assert counts(api) == (1, 0)
    assert api.concurrency.limit.latency == pytest.approx(0.05)


async def test_request_never_sent(api: Api, simulator: Simulator) -> None:
    """A POST of which no byte was written gives its permit back."""
    simulator.faults.submit(Fault.refused())
    with pytest.raises(Unanswered) as caught:
        await api.post(await api.admit(Priority.SUBMIT), SUBMIT, b"{}")
    assert caught.value.maybe_sent is False
    assert counts(api) == (0, 0)


@pytest.mark.parametrize("fault", [Fault.lost_answer(), Fault.hang()], ids=lambda f: f.name)
async def test_request_without_an_answer(api: Api, simulator: Simulator, fault: Fault) -> None:
    """A request that may have been sent counts although its answer never came."""
    simulator.faults.submit(fault)
    with pytest.raises(Unanswered) as caught:
        await api.post(await api.admit(Priority.SUBMIT), SUBMIT, b"{}")
    assert caught.value.maybe_sent is True
    assert caught.value.timed_out is (fault.end == "hang")
    assert counts(api) == (1, 0)


async def test_cancelled_request(api: Api, simulator: Simulator) -> None:
    """A request that is cancelled under way counts, and leaves its place."""
    simulator.faults.balance(Fault.hang())
    exchange = asyncio.create_task(api.get(await api.admit(Priority.ASKED), PATH))
    await asyncio.sleep(1)
    exchange.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange
    assert counts(api) == (1, 0)


async def test_dismissed_permit(api: Api) -> None:
    """A permit with which nothing is sent is given back with its place."""
    api.dismiss(await api.admit(Priority.SCHEDULED))
    assert counts(api) == (0, 0)


async def test_cancelled_at_the_gate(api: Api) -> None:
    """A caller that is cancelled while waiting for a place gives the permit back."""
    for _ in range(api.concurrency.limit.size):
        await api.concurrency.enter(for_submit=True)
    waiter = asyncio.create_task(api.admit(Priority.SUBMIT))
    await asyncio.sleep(1)
    assert counts(api)[0] == 1
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert counts(api)[0] == 0


Reply = Callable[[], Fault]


@pytest.mark.parametrize(
    "fault",
    [Fault.status(429, retry_after=9.0), Fault.status(200, code_in_body=429, retry_after=9.0)],
    ids=["status", "code"],
)
async def test_429_closes_the_gate(
    api: Api, simulator: Simulator, events: list[Event], fault: Fault
) -> None:
    """A 429, as HTTP status or in the body, holds requests back for as long as the service asks."""
    simulator.faults.balance(fault)
    await api.get(await api.admit(Priority.ASKED), PATH)
    start = asyncio.get_running_loop().time()
    api.dismiss(await api.admit(Priority.ASKED))
    assert asyncio.get_running_loop().time() - start == pytest.approx(9.0)
    assert events == [LimitReached("everything", pytest.approx(9.0))]
    assert api.throttled == 1


async def test_admitted_without_a_wait(api: Api) -> None:
    """What is free is taken at once, and given back as what was waited for."""
    permit = api.try_admit(Priority.SCHEDULED)
    assert permit is not None
    assert counts(api) == (1, 1)
    api.dismiss(permit)
    assert counts(api) == (0, 0)


async def test_without_a_place_no_permit_is_taken(api: Api) -> None:
    """Where every place is taken, the permit stays where it is."""
    taken = [api.try_admit(Priority.ASKED) for _ in range(api.concurrency.limit.free_for_polls)]
    assert all(taken)
    assert api.try_admit(Priority.ASKED) is None
    assert counts(api) == (len(taken), len(taken))
