"""Whatever the service does where its documents are silent: what users do comes out the same."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from apixo_async import (
    APIStatusError,
    ApixoError,
    AsyncClient,
    AuthenticationError,
    BadRequestError,
    Budget,
    DownloadError,
    FluxKontext,
    GptImage2,
    InsufficientBalanceError,
    Limits,
    NotFoundError,
    OtherModel,
    Result,
    SubmitUncertainError,
    Task,
    TaskFailedError,
    TaskNotFoundError,
    TaskRef,
    WebhookReceiver,
)
from apixo_async.testing import Fault, MemoryStore, Simulator

from ..support.open_points import DAY, KEYWORDS, POINTS, ROWS, Unsettled

ClientOf = Callable[..., AsyncClient]
MOON = GptImage2(prompt="a paper moon", resolution="1k")  # $0.02, 30 to 120 s
PRICE = Decimal("0.02")
SimulatorOf = Callable[..., Simulator]


@pytest.fixture(params=[Unsettled(row) for row in ROWS], ids=str)
def simulator_of(request: pytest.FixtureRequest) -> SimulatorOf:
    """Make the service of one row."""
    return lambda **options: Simulator(**{"seed": 1} | request.param.options | options)


@pytest.fixture
def simulator(simulator_of: SimulatorOf) -> Simulator:
    """Be the service of one row."""
    return simulator_of()


@pytest.fixture
def receiver() -> WebhookReceiver:
    """Receive callbacks."""
    return WebhookReceiver("https://app.example.com/apixo", "a secret of sixteen bytes or more")


def moons(count: int) -> list[GptImage2]:
    return [GptImage2(prompt=f"moon {n}", resolution="1k") for n in range(count)]


def test_any_two_points_meet() -> None:
    """At most twelve services, and any two points have each two of their values in one of them."""
    columns = [*POINTS.values(), *KEYWORDS.values()]
    assert len(ROWS) <= 12
    for one, other in itertools.combinations(range(len(columns)), 2):
        met = {(row[one], row[other]) for row in ROWS}
        assert len(met) == len(columns[one]) * len(columns[other]), (one, other)


# --- one task ------------------------------------------------------------------------------


async def test_generate(simulator: Simulator, client_of: ClientOf) -> None:
    """A submit returns a task, and its result has every URL."""
    task = await client_of(simulator).submit(MOON)
    result = await task
    (made,) = simulator.tasks.values()
    assert (task.id, result.task_id) == (made.id, made.id)
    assert len(result.urls) == made.images
    assert result.cost == PRICE


async def test_few_polls(simulator: Simulator, client_of: ClientOf) -> None:
    """A task takes no more polls than its documented times ask for."""
    result = await client_of(simulator).generate(MOON)
    assert result.urls
    assert simulator.count("poll") <= 12  # From 30 s on, every 10 s, for at most 120 s.


async def test_refresh(simulator: Simulator, client_of: ClientOf) -> None:
    """A poll in between shows a task that goes on, whatever word it has for that."""
    task = await client_of(simulator).submit(MOON)
    snapshot = await task.refresh()
    assert not snapshot.is_over
    assert not task.done()
    assert (await task).urls


async def test_a_wait_that_ends_early(simulator: Simulator, client_of: ClientOf) -> None:
    """A timeout of the wait ends neither the task nor the next wait."""
    task = await client_of(simulator).submit(MOON)
    assert not await task.wait(1.0)
    assert (await task).urls


async def test_a_failed_task(simulator_of: SimulatorOf, client_of: ClientOf) -> None:
    """It is raised with its code, and nothing is bought in its place."""
    simulator = simulator_of(failure_rate=1.0)
    with pytest.raises(TaskFailedError) as caught:
        await client_of(simulator).generate(MOON)
    (made,) = simulator.tasks.values()
    assert (caught.value.task_id, caught.value.fail_code) == (made.id, made.fail_code)
    assert simulator.count("submit") == 1


async def test_attach(simulator: Simulator, client_of: ClientOf) -> None:
    """Another client takes a task over by its reference."""
    task = await client_of(simulator).submit(MOON)
    assert (await client_of(simulator).attach(task.ref)).urls
    assert simulator.created == 1


async def test_a_task_that_does_not_exist(simulator: Simulator, client_of: ClientOf) -> None:
    """It is not found, within the minutes that a service may take to know its tasks."""
    with pytest.raises(TaskNotFoundError):
        await client_of(simulator).attach(TaskRef("gpt-image-2", "task_none"))


async def test_a_close_in_between(simulator: Simulator, client_of: ClientOf) -> None:
    """What is unfinished at a close is known, and another client ends it."""
    client = client_of(simulator)
    await client.submit(MOON)
    await client.aclose()
    (left,) = client.unfinished
    assert (await client_of(simulator).attach(left)).urls


# --- refused -------------------------------------------------------------------------------


async def test_wrong_key(simulator_of: SimulatorOf, client_of: ClientOf) -> None:
    """A wrong key is one error, whatever carries its code."""
    simulator = simulator_of(keys={"another": Decimal(1)})
    client = client_of(simulator)
    for call in (client.balance(), client.submit(MOON), client.poll("sora-2", "task_1")):
        with pytest.raises(AuthenticationError):
            await call
    assert simulator.created == 0


async def test_bad_parameters(simulator: Simulator, client_of: ClientOf) -> None:
    """What the service finds wrong is said, and nothing was bought."""
    wrong = OtherModel("gpt-image-2", prompt="a moon", mode="text-to-image", resolution="8k")
    with pytest.raises(BadRequestError, match="resolution") as caught:
        await client_of(simulator).submit(wrong)
    assert caught.value.bought is False


async def test_unknown_model(simulator_of: SimulatorOf, client_of: ClientOf) -> None:
    """A model that does not exist is not found."""
    simulator = simulator_of(models=["gpt-image-2"])
    with pytest.raises(NotFoundError):
        await client_of(simulator).submit(OtherModel("sora-3", prompt="a moon"))


async def test_no_money(simulator_of: SimulatorOf, client_of: ClientOf) -> None:
    """An empty account is one error in both forms that it has."""
    simulator = simulator_of(balance=Decimal("0.03"))
    client = client_of(simulator)
    assert (await client.generate(MOON)).urls
    with pytest.raises(InsufficientBalanceError) as caught:
        await client.submit(MOON)
    assert caught.value.bought is False
    assert simulator.created == 1


async def test_balance(simulator_of: SimulatorOf, client_of: ClientOf) -> None:
    """The balance is exact to the cent at least."""
    client = client_of(simulator_of(balance=Decimal("74.87")))
    assert await client.balance() == Decimal("74.87")


# --- paid work is never bought twice, and never lost ---------------------------------------


async def bought_or_uncertain(client: AsyncClient) -> Task | SubmitUncertainError:
    try:
        return await client.submit(MOON)
    except SubmitUncertainError as error:
        return error


@pytest.mark.parametrize("code", [500, 502, 504])
async def test_server_errors(simulator: Simulator, client_of: ClientOf, code: int) -> None:
    """A submit that was answered with an error of the server is uncertain, and not repeated."""
    simulator.faults.submit(Fault.status(code))
    ended = await bought_or_uncertain(client_of(simulator))
    assert isinstance(ended, SubmitUncertainError)
    assert simulator.count("submit") == 1


async def test_lost_answers(simulator: Simulator, client_of: ClientOf) -> None:
    """A submit that was not answered is uncertain, and not repeated."""
    simulator.faults.submit(Fault.lost_answer(), Fault.reset_after(), Fault.hang())
    client = client_of(simulator)
    ended = [await bought_or_uncertain(client) for _ in range(3)]
    assert all(isinstance(one, SubmitUncertainError) for one in ended)
    assert simulator.created == 3


@pytest.mark.parametrize("fault", [Fault.status(503), Fault.status(429), Fault.refused()])
async def test_refusals(simulator: Simulator, client_of: ClientOf, fault: Fault) -> None:
    """A submit that was refused for now is repeated, and buys one task."""
    simulator.faults.submit(fault)
    assert (await client_of(simulator).generate(MOON)).urls
    assert simulator.created == 1


async def test_failing_polls(simulator: Simulator, client_of: ClientOf) -> None:
    """Polls that fail lose no task."""
    codes = (500, 502, 503, 504, 429, 404)
    simulator.faults.poll(*map(Fault.status, codes), Fault.lost_answer(), Fault.html(502))
    assert (await client_of(simulator).generate(MOON)).urls
    assert simulator.created == 1


async def test_cancelled_submits(simulator: Simulator, client_of: ClientOf) -> None:
    """What was bought for a caller that has left is handed over."""
    orphans: list[Task | SubmitUncertainError] = []
    client = client_of(simulator, latency=1.0, on_orphan=orphans.append)
    submits = [asyncio.ensure_future(client.submit(moon)) for moon in moons(10)]
    await asyncio.sleep(0.5)
    for submit in submits:
        submit.cancel()
    await asyncio.wait(submits)
    await asyncio.sleep(2)
    assert {one.id for one in orphans if isinstance(one, Task)} == {*simulator.tasks}
    assert simulator.created == 10


async def test_keys_over_processes(simulator: Simulator, client_of: ClientOf) -> None:
    """One key buys one task, whoever asks for it."""
    store = MemoryStore()
    clients = [client_of(simulator, store=store) for _ in range(3)]
    tasks = await asyncio.gather(*(client.submit(MOON, key="order-7") for client in clients))
    results = await asyncio.gather(*tasks)
    assert len({result.task_id for result in results}) == simulator.created == 1


async def test_a_key_after_a_server_error(simulator: Simulator, client_of: ClientOf) -> None:
    """A key whose submit is uncertain is not bought again by another process."""
    store = MemoryStore()
    simulator.faults.submit(Fault.status(500))
    with pytest.raises(SubmitUncertainError):
        await client_of(simulator, store=store).submit(MOON, key="order-7")
    with pytest.raises(SubmitUncertainError):
        await client_of(simulator, store=store).submit(MOON, key="order-7")
    assert simulator.count("submit") == 1


# --- webhooks ------------------------------------------------------------------------------


async def test_callbacks(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver
) -> None:
    """Callbacks end their tasks, early or doubled, in whatever body."""
    simulator.deliver_to(receiver.asgi())
    client = client_of(simulator, webhooks=receiver)
    results = await asyncio.gather(*(client.generate(moon) for moon in moons(10)))
    assert {result.task_id for result in results} == {*simulator.tasks}
    assert simulator.callbacks.counts.failed == 0


async def test_a_callback_finds_a_lost_task(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver
) -> None:
    """The callback of an uncertain submit says which task it bought."""
    simulator.deliver_to(receiver.asgi())
    simulator.faults.submit(Fault.lost_answer())
    with pytest.raises(SubmitUncertainError) as caught:
        await client_of(simulator, webhooks=receiver).submit(MOON)
    assert caught.value.task is not None
    assert (await caught.value.task).task_id in simulator.tasks


async def test_a_callback_after_a_server_error(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver
) -> None:
    """A task that an answer of 500 left behind is found by its callback; none is presumed not."""
    simulator.deliver_to(receiver.asgi())
    simulator.faults.submit(Fault.status(500))
    with pytest.raises(SubmitUncertainError) as caught:
        await client_of(simulator, webhooks=receiver).submit(MOON)
    assert caught.value.task is not None
    await caught.value.task.wait()
    assert isinstance(caught.value.task.exception(), ApixoError) is (simulator.created == 0)


# --- many ----------------------------------------------------------------------------------


async def test_limits(simulator_of: SimulatorOf, client_of: ClientOf) -> None:
    """Neither limit is exceeded by many tasks at once, and none is refused."""
    simulator = simulator_of(concurrent_tasks=5, requests_per_minute=60)
    client = client_of(simulator, limits=Limits(5, 60))
    results = await asyncio.gather(*(client.generate(moon) for moon in moons(40)))
    assert len(results) == simulator.created == 40
    assert simulator.most_concurrent <= 5
    assert simulator.most_in_window() <= 60
    lingers = simulator.options.open_points.places_linger
    assert lingers or simulator.statistics().refused == 0


async def test_limits_above_those_of_the_account(
    simulator_of: SimulatorOf, client_of: ClientOf
) -> None:
    """A service with half of the given limits is met with patience: all is bought, once."""
    simulator = simulator_of(concurrent_tasks=5, requests_per_minute=100)
    client = client_of(simulator, limits=Limits(10, 200))
    results = await asyncio.gather(*(client.generate(moon) for moon in moons(20)))
    assert len({result.task_id for result in results}) == simulator.created == 20


async def test_map(simulator_of: SimulatorOf, client_of: ClientOf, tmp_path: Path) -> None:
    """A map with a journal gives each input one outcome, and buys none again in the next run."""
    simulator = simulator_of(failure_rate=0.2)
    for _ in range(2):
        client, found = client_of(simulator), dict[str, bool]()
        castles = (FluxKontext(prompt=f"castle {n}") for n in range(30))
        async with client.map(castles, journal=tmp_path / "run.db") as outcomes:
            async for outcome in outcomes:
                found[outcome.key] = outcome.ok
        assert (len(found), simulator.created) == (30, 30)
        assert 0 < sum(found.values()) < 30
        await client.aclose()


async def test_map_through_an_outage(simulator: Simulator, client_of: ClientOf) -> None:
    """A minute of errors costs no input, and buys none twice."""
    start = asyncio.get_running_loop().time()
    simulator.faults.during(start + 20, start + 80, Fault.status(503))
    async with client_of(simulator, limits=Limits(5, 600)).map(moons(30)) as outcomes:
        ended = [outcome async for outcome in outcomes]
    assert all(outcome.ok for outcome in ended)
    assert simulator.created == len(ended) == 30


async def test_budget(simulator: Simulator, client_of: ClientOf) -> None:
    """No more is spent than the budget has, errors or not."""
    simulator.faults.submit(*map(Fault.status, (429, 500, 503, 400)))
    budget = Budget("0.20")
    client = client_of(simulator, budget=budget)
    submits = [client.generate(moon) for moon in moons(30)]
    ended = await asyncio.gather(*submits, return_exceptions=True)
    assert simulator.charged <= budget.spent <= Decimal("0.20")
    assert sum(isinstance(one, Result) for one in ended) >= 8


async def test_reconciliation(simulator: Simulator, client_of: ClientOf) -> None:
    """The balance says what an uncertain submit bought, or that it cannot say."""
    simulator.faults.submit(Fault.lost_answer(), Fault.reset_before())
    client = client_of(simulator)
    before = await client.balance()
    async with client.map(moons(6)) as outcomes:
        ended = [outcome async for outcome in outcomes]
    assert sum(outcome.ok for outcome in ended) == 4
    found = await outcomes.reconcile(before)
    assert (found.bought, found.verdict) in ((1, "some"), (None, "unclear"))


# --- files ---------------------------------------------------------------------------------


async def test_download(simulator: Simulator, client_of: ClientOf, tmp_path: Path) -> None:
    """The files of a result are whole."""
    client = client_of(simulator)
    result = await client.generate(MOON)
    (path,) = await client.download(result, tmp_path)
    assert path.read_bytes().startswith((b"\x89PNG", b"RIFF", b"\xff\xd8"))


async def test_files_that_are_gone(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """After two days a file is there, or what is raised says that it has expired."""
    client = client_of(simulator)
    result = await client.generate(MOON)
    await asyncio.sleep(2 * DAY)
    if simulator.options.result_lifetime > 2 * DAY:
        assert await client.download(result, tmp_path)
        return
    with pytest.raises(DownloadError):
        await client.download(result, tmp_path)


async def test_media(simulator: Simulator, client_of: ClientOf) -> None:
    """Music comes with its tracks and covers, in either form of the result."""
    result = await client_of(simulator).generate(OtherModel("suno", prompt="a song"))
    assert {file.url.rpartition(".")[2] for file in result.files} == {"mp3", "webp"}


async def test_answers_of_the_wrong_kind(simulator: Simulator, client_of: ClientOf) -> None:
    """An error with HTTP 200 beside healthy answers is an error, a healthy one no error."""
    simulator.faults.submit(Fault.status(200, code_in_body=403))
    client: Any = client_of(simulator)
    with pytest.raises(APIStatusError) as caught:
        await client.submit(MOON)
    assert caught.value.bought is False
    assert (await client.generate(MOON)).urls
