"""Outages: a service that is down is probed and not hammered, and nothing is lost meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable

import pytest

from apixo_async import (
    APIConnectionError,
    AsyncClient,
    Event,
    FluxKontext,
    GptImage2,
    InternalServerError,
    Limits,
    OtherModel,
    PermissionDeniedError,
    Polling,
    ServiceDown,
    ServiceRecovered,
    Timeouts,
)
from apixo_async.testing import Fault, Simulator, VirtualTimeLoop

ClientOf = Callable[..., AsyncClient]
CASTLE = FluxKontext(mode="pro", prompt="a castle")
DEAD = {"503": Fault.status(503), "refused": Fault.refused(), "unreachable": Fault.unreachable()}


@pytest.mark.heavy
@pytest.mark.parametrize("fault", DEAD.values(), ids=DEAD.keys())
async def test_a_thousand_submits_into_a_dead_service(client_of: ClientOf, fault: Fault) -> None:
    """A thousand submits into a dead service make 1,100 requests at most, and all say so."""
    simulator = Simulator(seed=1)
    simulator.faults.during(-math.inf, math.inf, fault)
    client = client_of(simulator)
    ends = await asyncio.gather(
        *(client.submit(CASTLE) for _ in range(1_000)), return_exceptions=True
    )
    assert {type(end) for end in ends} <= {
        InternalServerError,
        APIConnectionError,
        *APIConnectionError.__subclasses__(),
    }
    assert all(getattr(end, "bought", None) is False for end in ends)
    assert 1_005 <= len(simulator.log) <= 1_100
    assert client.statistics().slots_used == 0


NOT_MEANT = [
    (15.0, Fault.html(404)),
    (3.0, Fault.html(403)),
    (15.0, Fault.raw(401, b'{"detail": "Unauthorized"}')),
    (15.0, Fault.status(404)),
    (150.0, Fault.status(404)),
]


@pytest.mark.parametrize(
    ("lasts", "fault"), NOT_MEANT, ids=lambda value: getattr(value, "name", None)
)
async def test_a_gateway_that_knows_no_task(
    client_of: ClientOf, lasts: float, fault: Fault
) -> None:
    """A page that denies or does not find every task ends none, and frees no slot."""
    simulator = Simulator(seed=1, durations=60.0, concurrent_tasks=30)
    loop = asyncio.get_running_loop()
    simulator.faults.during(loop.time() + 61, loop.time() + 61 + lasts, fault, "poll")
    client = client_of(simulator, limits=Limits(concurrent_tasks=30))
    results = await asyncio.gather(*(client.generate(CASTLE) for _ in range(60)))
    assert len(results) == simulator.created == 60
    assert all(exchange.status == 200 for exchange in simulator.log if exchange.kind == "submit")


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(500),
        pytest.param(Fault.html(502), marks=pytest.mark.heavy),
        pytest.param(Fault.lost_answer(), marks=pytest.mark.heavy),
    ],
)
async def test_a_minute_of_failing_polls(
    client_of: ClientOf, events: list[Event], fault: Fault
) -> None:
    """A minute of 500s against 1,000 tasks costs 200 requests at most; all tasks end well."""
    simulator = Simulator(seed=1, durations=60.0)
    loop = asyncio.get_running_loop()
    down, up = loop.time() + 30, loop.time() + 90
    simulator.faults.during(down, up, fault, "poll")
    client = client_of(simulator, latency=0.3)
    tasks = await asyncio.gather(*(client.submit(CASTLE) for _ in range(1_000)))
    results = await asyncio.gather(*tasks)
    assert len(results) == simulator.created == 1_000
    polls = [exchange.at for exchange in simulator.log if exchange.kind == "poll"]
    during = [at for at in polls if down <= at < up]
    assert 12 <= len(during) <= 200
    # The old rate, that of 1,000 tasks, within ten seconds of the recovery.
    after = [at for at in polls if up <= at < up + 10]
    assert len(after) >= 0.6 * 1_000
    assert [type(e) for e in events if isinstance(e, ServiceDown | ServiceRecovered)] == [
        ServiceDown,
        ServiceRecovered,
    ]
    assert loop.time() <= up + 20


async def test_one_broken_task_is_no_outage(simulator: Simulator, client_of: ClientOf) -> None:
    """A single task whose polls fail does not pause the polls of the others."""
    client = client_of(simulator, polling=Polling.fixed(1.0, 1.0))
    broken, *others = [await client.submit(CASTLE) for _ in range(10)]
    simulator.faults.poll(Fault.repeat(8, Fault.status(500)), task_id=broken.id)
    results = await asyncio.gather(broken, *others)
    polls = [exchange.at for exchange in simulator.log if exchange.task_id == others[0].id]
    assert len(results) == 10
    assert max(b - a for a, b in itertools.pairwise(polls)) < 1.3


async def test_refresh_goes_out_during_an_outage(simulator: Simulator, client_of: ClientOf) -> None:
    """A poll that somebody asks for is sent although scheduled polls are paused."""
    client = client_of(simulator, polling=Polling.fixed(1.0, 1.0))
    task = await client.submit(CASTLE)
    others = [await client.submit(CASTLE) for _ in range(9)]
    simulator.faults.during(-math.inf, math.inf, Fault.status(500), "poll")
    await asyncio.sleep(20)
    before = simulator.count("poll")
    with pytest.raises(InternalServerError):
        await task.refresh()
    assert simulator.count("poll") == before + 1
    simulator.faults.clear()
    assert len(await asyncio.gather(task, *others)) == 10


async def test_retries_of_balance_and_submits_share_one_quota(
    simulator: Simulator, client_of: ClientOf
) -> None:
    """What the repeats of the balance used up, a submit cannot use."""
    simulator.faults.during(-math.inf, math.inf, Fault.status(503))
    client = client_of(simulator, timeout=Timeouts(retry=1e4))
    with pytest.raises(InternalServerError):
        await client.balance()
    with pytest.raises(InternalServerError):
        await client.submit(CASTLE)
    assert simulator.count("balance") >= 11
    assert simulator.count("submit") <= 2


async def test_broken_model_leaves_others_alone(client_of: ClientOf) -> None:
    """Three hundred tasks of a broken model do not delay the news of another model's tasks."""
    simulator = Simulator(seed=1, durations=30.0)
    client = client_of(simulator)
    broken = [await client.submit(GptImage2(prompt="x")) for _ in range(300)]
    for task in broken:
        simulator.faults.poll(Fault.repeat(10_000, Fault.status(500)), task_id=task.id)
    start = asyncio.get_running_loop().time()
    healthy = [await client.submit(CASTLE) for _ in range(5)]
    await asyncio.gather(*healthy)
    assert asyncio.get_running_loop().time() - start < 35


@pytest.mark.heavy
async def test_stalled_loop_keeps_the_rate(client_of: ClientOf) -> None:
    """After the event loop stood still for a second, 95 % of the rate is back in seconds 2 to 5."""
    simulator = Simulator(seed=1, durations=1e6, requests_per_minute=1_000_000)
    loop = asyncio.get_running_loop()
    buyer = client_of(simulator)
    tasks = await asyncio.gather(*(buyer.submit(CASTLE) for _ in range(1_000)))
    await buyer.aclose()
    # 95 polls a second, evenly spread, of 105 that the limit allows.
    limits, polling = Limits(requests_per_minute=6_300), Polling.fixed(0.0, 10.0)
    client = client_of(simulator, latency=0.3, limits=limits, polling=polling)
    for task in tasks:
        client.attach(task.ref)
        await asyncio.sleep(0.0105)
    await asyncio.sleep(15)
    stalled_at = loop.time()
    # The clock of the loop goes on by a second in which nothing runs.
    assert isinstance(loop, VirtualTimeLoop)
    loop.advance(1.0)
    await asyncio.sleep(6)
    polls = [exchange.at for exchange in simulator.log if exchange.kind == "poll"]
    before = len([at for at in polls if stalled_at - 3 <= at < stalled_at])
    after = len([at for at in polls if stalled_at + 2 <= at < stalled_at + 5])
    assert before == pytest.approx(3 * 95, rel=0.05)
    assert after >= 0.95 * before


async def test_one_odd_task_in_an_outage(client_of: ClientOf) -> None:
    """One task that stays odd when the service is back keeps no other waiting for its own end."""
    simulator = Simulator(seed=1, durations=30.0)
    client = client_of(simulator, polling=Polling.fixed(5.0, 5.0))
    tasks = [await client.submit(CASTLE) for _ in range(6)]
    start = asyncio.get_running_loop().time()
    simulator.faults.during(start + 10.0, start + 400.0, Fault.html(502), "poll")
    for task in tasks[:2]:
        simulator.faults.poll(*[Fault.html(502)] * 500, task_id=task.id)
    await asyncio.gather(*(task.wait(500.0) for task in tasks[2:]))
    assert all(task.done() for task in tasks[2:])
    assert asyncio.get_running_loop().time() - start < 430.0


async def test_denied_until_the_age_limit(client_of: ClientOf) -> None:
    """A task whose polls were denied once is polled again before it is given up."""
    simulator = Simulator(seed=1, durations=60.0)
    simulator.faults.poll(Fault.status(403))
    client = client_of(simulator)
    task = await client.submit(CASTLE)
    with pytest.raises(PermissionDeniedError):
        await task
    await asyncio.sleep(1_900.0)
    assert (await task).urls


async def test_a_service_that_takes_a_submit_now_and_then(client_of: ClientOf) -> None:
    """One submit that gets through lets two go, and not all who wait: the retry quota holds."""
    simulator = Simulator(seed=1)
    refused = [None if n % 5 == 4 else Fault.status(503) for n in range(20_000)]
    simulator.faults.submit(*refused)
    client = client_of(simulator)
    await asyncio.gather(*(client.submit(CASTLE) for _ in range(300)), return_exceptions=True)
    assert simulator.count("submit") < 1.5 * 300


async def test_an_outage_that_ends(client_of: ClientOf) -> None:
    """When the service is back, all who waited buy, within seconds of the first that does."""
    simulator, loop = Simulator(seed=1), asyncio.get_running_loop()
    back = loop.time() + 15.0
    simulator.faults.during(-math.inf, back, Fault.status(503), "submit")
    client = client_of(simulator)
    ends = list[float]()

    async def buy() -> None:
        await client.submit(CASTLE)
        ends.append(loop.time())

    await asyncio.gather(*(buy() for _ in range(500)))
    assert back < ends[0] < back + 16.0  # The longest pause of a probe.
    assert ends[-1] - ends[0] < 5.0
    assert simulator.count("submit") < 2 * 500 + 20


@pytest.mark.parametrize("asked", [False, True])
async def test_models_that_hang_delay_no_other(client_of: ClientOf, *, asked: bool) -> None:
    """While polls of two models get no answer, a third one's news comes on time."""
    simulator = Simulator(seed=1, durations=9.0)
    client = client_of(simulator, polling=Polling.fixed(10, 3))
    silent = [GptImage2(prompt="a fox", resolution="1k"), FluxKontext(mode="max", prompt="a hen")]
    hanging = [await client.submit(one) for one in silent for _ in range(60)]
    for task in hanging:
        simulator.faults.poll(Fault.repeat(2, Fault.hang()), task_id=task.id)
    other = await client.submit(OtherModel("seedream-9", prompt="a castle"))
    if asked:
        for task in hanging:
            asyncio.ensure_future(task.refresh()).add_done_callback(lambda one: one.exception())
        await asyncio.sleep(0.1)
    await other
    assert asyncio.get_running_loop().time() - simulator.tasks[other.id].ends < 2.0
    assert all(await asyncio.gather(*(task.wait() for task in hanging)))


async def test_an_outage_in_which_polls_hang(client_of: ClientOf) -> None:
    """Those that waited for others of their model are held back like all others."""
    simulator = Simulator(seed=1, durations=9.0)
    client, loop = client_of(simulator, polling=Polling.fixed(10, 3)), asyncio.get_running_loop()
    models = [GptImage2(prompt="a fox", resolution="1k"), FluxKontext(mode="max", prompt="a hen")]
    tasks = [await client.submit(one) for one in models for _ in range(60)]
    simulator.faults.during(-math.inf, loop.time() + 120.0, Fault.hang(), "poll")
    await asyncio.sleep(60.0)  # The first polls have failed.
    before = simulator.count("poll")
    await asyncio.sleep(55.0)
    # Of each model four go before the fifth failure begins its outage, and then one or two probes.
    assert simulator.count("poll") - before <= 2 * (4 + 2)
    assert all(await asyncio.gather(*(task.wait() for task in tasks)))
