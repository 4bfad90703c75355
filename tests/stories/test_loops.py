from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
import pytest

import apixo_async
from apixo_async import (
    ApixoError,
    AsyncClient,
    ClientClosedError,
    ConfigurationError,
    FluxKontext,
    Limiter,
    Limits,
    Result,
    SubmitUncertainError,
    Task,
)
from apixo_async.testing import Fault, Simulator, VirtualTimeLoop

from ..support.inside import limiter_of, poller_of, runner_of

ClientOf = Callable[..., AsyncClient]
CASTLE: Final = FluxKontext(mode="pro", prompt="a castle")
LATENCY: Final = 0.5
Main = Callable[[], Coroutine[Any, Any, Any]]


class OwnTransport(httpx2.AsyncHTTPTransport):
    """Be a transport that a caller has made of the usual one."""


class Loop(VirtualTimeLoop):
    """A virtual loop that keeps what its handler of exceptions is told."""

    def __init__(self) -> None:
        super().__init__()
        self.complaints: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.complaints.append(context))


def eager(loop: asyncio.AbstractEventLoop) -> None:
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]  # from 3.12 on


def debugging(loop: asyncio.AbstractEventLoop) -> None:
    loop.set_debug(True)


def plain(_: asyncio.AbstractEventLoop) -> None:
    pass


KINDS: Final = [
    plain,
    debugging,
    pytest.param(
        eager,
        marks=pytest.mark.skipif(
            sys.version_info < (3, 12), reason="eager tasks came with Python 3.12"
        ),
    ),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Main], Any]]:
    """Run coroutines, each on a loop of its own, and check that nothing is left of any."""
    loops: list[Loop] = []

    def run(main: Main) -> Any:
        with asyncio.Runner(loop_factory=Loop) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, Loop)
            loops.append(loop)
            request.param(loop)
            return runner.run(checked(main))

    async def checked(main: Main) -> Any:
        made = await main()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return made

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield run
        gc.collect()
    assert loops
    assert [loop.complaints for loop in loops if loop.complaints] == []


# --- kinds of loops --------------------------------------------------------------------------


def test_the_main_job(run: Callable[[Main], Any], tmp_path: Path) -> None:
    """Submit, wait, download and close work on every kind of loop, task by task and together."""
    simulator = Simulator(seed=1)

    async def main() -> int:
        async with AsyncClient("test-key", transport=simulator.transport(), seed=1) as client:
            one = await client.generate(CASTLE)
            paths = await client.download(one, tmp_path)
            more = await asyncio.gather(*(client.generate(CASTLE) for _ in range(50)))
            assert client.statistics().slots_used == 0
            return len(paths) + len(more)

    assert run(main) == 51
    assert simulator.created == 51


def test_everything_is_cancelled(run: Callable[[Main], Any]) -> None:
    """Submits cancelled at a hundred moments lose no id, and leave no slot, permit or task."""
    simulator = Simulator(seed=1)
    orphans: list[Task | SubmitUncertainError] = []

    async def main() -> int:
        client = AsyncClient(
            "test-key",
            transport=simulator.transport(LATENCY),
            limits=Limits(concurrent_tasks=20),
            on_orphan=orphans.append,
            seed=1,
        )
        buying = [asyncio.create_task(client.submit(CASTLE)) for _ in range(100)]
        for number, one in enumerate(buying):
            asyncio.get_running_loop().call_later(number * 0.013, one.cancel)
        ended = await asyncio.gather(*buying, return_exceptions=True)
        known = {task.id for task in (*ended, *orphans) if isinstance(task, Task)}
        await asyncio.sleep(LATENCY)
        known |= {task.id for task in orphans if isinstance(task, Task)}
        await client.aclose(drain=1_000.0)
        assert client.unfinished == ()
        assert limiter_of(client).slots_used == 0
        return len(known)

    assert run(main) == simulator.created > 0


def test_one_client_over_many_loops(run: Callable[[Main], Any]) -> None:
    """One client serves one loop after the other, as tests and repeated `asyncio.run` have it."""
    simulator = Simulator(seed=1)
    client = AsyncClient("test-key", transport=simulator.transport(), seed=1)

    async def main() -> Result:
        try:
            return await client.generate(CASTLE)
        finally:
            poller_of(client).over = ClientClosedError("the loop ends")
            runner = runner_of(client)
            runner.cancel()
            await asyncio.gather(runner, return_exceptions=True)

    assert len({run(main).task_id for _ in range(5)}) == simulator.created == 5
    run(client.aclose)


def test_loop_ends_under_everything(run: Callable[[Main], Any]) -> None:
    """A loop that ends under POSTs, polls and waits leaves ids and orphans, and no complaint."""
    simulator = Simulator(seed=1)
    orphans: list[Task | SubmitUncertainError] = []
    client = AsyncClient(
        "test-key", transport=simulator.transport(LATENCY), on_orphan=orphans.append, seed=1
    )

    async def use() -> None:
        async with asyncio.timeout(2 * LATENCY + 0.2):
            task = await client.submit(CASTLE)
            async with asyncio.TaskGroup() as group:
                group.create_task(client.generate(CASTLE))
                group.create_task(task.wait())

    with asyncio.Runner(loop_factory=Loop) as runner, pytest.raises(TimeoutError):
        runner.run(use())
    assert simulator.created == len(client.unfinished) == 2
    assert [type(orphan).__name__ for orphan in orphans] == ["Task"]

    async def post() -> None:
        asyncio.create_task(client_2.submit(CASTLE))  # noqa: RUF006 - nobody keeps it
        await asyncio.sleep(LATENCY / 2)

    client_2 = AsyncClient(
        "test-key", transport=simulator.transport(LATENCY), on_orphan=orphans.append, seed=1
    )
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(post())
    assert isinstance(orphans[-1], SubmitUncertainError)
    run(client_2.aclose)


# --- cancel scopes ---------------------------------------------------------------------------


async def submitting(client: AsyncClient, _: Path) -> None:
    await client.submit(CASTLE)


async def generating(client: AsyncClient, _: Path) -> None:
    await client.generate(CASTLE)


async def waiting(client: AsyncClient, _: Path) -> None:
    await (await client.submit(CASTLE))


async def downloading(client: AsyncClient, target: Path) -> None:
    await client.download(await client.generate(CASTLE), target)


async def asking(client: AsyncClient, _: Path) -> None:
    await client.balance()


async def refreshing(client: AsyncClient, _: Path) -> None:
    await (await client.submit(CASTLE)).refresh()


SCOPED: Final = [submitting, generating, waiting, downloading, asking, refreshing]
MOMENTS: Final = [0.0, 0.1, 0.3, 0.6, 0.9, 1.3, 22.0]


@pytest.mark.parametrize("after", MOMENTS)
@pytest.mark.parametrize("what", SCOPED, ids=lambda what: what.__name__)
async def test_cancel_scopes(
    simulator: Simulator,
    client_of: ClientOf,
    tmp_path: Path,
    what: Callable[[AsyncClient, Path], Awaitable[None]],
    after: float,
) -> None:
    """A scope of anyio's ends whatever is in it at its time, and no id is lost by that."""
    orphans: list[Task] = []
    client = client_of(simulator, latency=LATENCY, on_orphan=orphans.append)
    loop = asyncio.get_running_loop()
    start = loop.time()
    with anyio.move_on_after(after) as scope:
        await what(client, tmp_path)
    took = loop.time() - start
    assert scope.cancelled_caught == (took > after - 1e-6)
    assert took < after + 1e-6
    await asyncio.sleep(LATENCY + 0.1)
    assert {ref.task_id for ref in client.unfinished} <= simulator.tasks.keys()
    assert client.statistics().submits == simulator.created
    await client.aclose(drain=1_000.0)
    assert client.unfinished == ()
    assert limiter_of(client).slots_used == 0
    assert len(orphans) <= simulator.created


async def test_shielded_scope(simulator: Simulator, client_of: ClientOf) -> None:
    """A submit in a shielded scope is not touched by the cancelled scope around it."""
    client = client_of(simulator, latency=LATENCY)
    with anyio.move_on_after(LATENCY / 2):
        with anyio.CancelScope(shield=True):
            task = await client.submit(CASTLE)
        await anyio.sleep_forever()
    assert (await task).urls


async def test_client_closed_in_a_cancelled_scope(simulator: Simulator) -> None:
    """A client whose `async with` is cancelled closes in bounded time, and keeps its ids."""
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    start = loop.time()
    orphans: list[Task | SubmitUncertainError] = []
    client = AsyncClient(
        "test-key", transport=simulator.transport(LATENCY), on_orphan=orphans.append, seed=1
    )
    with anyio.move_on_after(LATENCY * 1.5) as scope:
        async with client:
            await client.submit(CASTLE)
            await client.generate(CASTLE)
    assert scope.cancelled_caught
    assert loop.time() - start <= LATENCY * 2.5
    assert asyncio.all_tasks() == before
    # An id that did not come any more has left an uncertain submit in its place.
    assert {ref.task_id for ref in client.unfinished} <= simulator.tasks.keys()
    uncertain = [one for one in orphans if isinstance(one, SubmitUncertainError)]
    assert len(client.unfinished) + len(uncertain) == simulator.created == 2
    with pytest.raises(ClientClosedError):
        await client.submit(CASTLE)


async def test_task_group_of_anyio(simulator: Simulator, client_of: ClientOf) -> None:
    """Tasks of an anyio group share a client, and each gets its own result."""
    client = client_of(simulator)
    made: list[str] = []

    async def make() -> None:
        made.append((await client.generate(CASTLE)).task_id)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(make)
    assert len(set(made)) == simulator.created == 20


@pytest.mark.parametrize("moment", [0.1, LATENCY * 0.9, LATENCY * 1.1])
@pytest.mark.parametrize("group", ["asyncio", "anyio"])
async def test_group_fails_while_submits_are_under_way(
    simulator: Simulator, client_of: ClientOf, group: str, moment: float
) -> None:
    """A failure cancels the submits of its group at once; what they bought is handed over."""
    orphans: list[Task] = []
    handles: list[Task] = []
    client = client_of(simulator, latency=LATENCY, on_orphan=orphans.append)
    loop = asyncio.get_running_loop()
    start = loop.time()

    async def buy() -> None:
        handles.append(await client.submit(CASTLE))
        await handles[-1]

    async def fail() -> None:
        await asyncio.sleep(moment)
        raise ZeroDivisionError

    async def together() -> None:
        if group == "asyncio":
            async with asyncio.TaskGroup() as tasks:
                for work in (*[buy] * 10, fail):
                    tasks.create_task(work())
        else:
            async with anyio.create_task_group() as scope:
                for work in (*[buy] * 10, fail):
                    scope.start_soon(work)

    with pytest.raises(ExceptionGroup) as caught:
        await together()
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]
    assert loop.time() - start == pytest.approx(moment)
    await asyncio.sleep(LATENCY)
    known = {task.id for task in (*handles, *orphans)}
    assert known == simulator.tasks.keys()
    assert len(known) == 10
    assert {ref.task_id for ref in client.unfinished} == known
    assert len(orphans) == (0 if moment > LATENCY else 10)


async def test_uncertain_orphans_of_a_group(simulator: Simulator, client_of: ClientOf) -> None:
    """Where the answers of cancelled submits are lost, each is handed over as uncertain."""
    simulator.faults.submit(Fault.repeat(5, Fault.lost_answer()))
    orphans: list[Task | SubmitUncertainError] = []
    client = client_of(simulator, latency=LATENCY, on_orphan=orphans.append)
    with anyio.move_on_after(LATENCY / 2):
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(client.submit, CASTLE)
    await asyncio.sleep(LATENCY)
    assert simulator.created == 5
    assert [type(orphan) for orphan in orphans] == [SubmitUncertainError] * 5
    assert client.unfinished == ()


# --- as pytest does it -----------------------------------------------------------------------


SUITE: Final = """
import pytest
from apixo_async import AsyncClient, FluxKontext
from apixo_async.testing import Simulator, VirtualTimeLoop

pytestmark = pytest.mark.anyio
simulator = Simulator(seed=1)
client = AsyncClient("test-key", transport=simulator.transport())

@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualTimeLoop}

@pytest.mark.parametrize("number", range(4))
async def test_result(number):
    assert (await client.generate(FluxKontext(mode="pro", prompt="x"))).urls
    assert simulator.created == number + 1

async def test_close():
    await client.aclose()
"""


@pytest.mark.heavy
def test_a_suite_shares_one_client(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests that each have a loop can share one client of their module."""
    monkeypatch.setenv("PYTHONPATH", str(Path(apixo_async.__file__).parents[1]))
    pytester.makepyfile(SUITE)
    # What was imported before pytest, as a plugin, cannot be rewritten; that is all that may warn.
    warn = ("-W", "error", "-W", "ignore:Module already imported")
    pytester.runpytest_subprocess("-q", *warn).assert_outcomes(passed=5)


def test_shared_with_a_loop_that_still_runs() -> None:
    """Wherever its own loop stands, a client on another loop is refused before anything is sent."""
    simulator, limiter = Simulator(seed=1), Limiter(Limits(concurrent_tasks=2))

    def client() -> AsyncClient:
        return AsyncClient("test-key", limiter=limiter, transport=simulator.transport())

    async def refused() -> None:
        with pytest.raises(ConfigurationError, match="another event loop") as caught:
            await client().submit(CASTLE)
        assert caught.value.bought is False
        with pytest.raises(ConfigurationError, match="another event loop"):
            client().attach("flux-kontext", "task_1")
        with pytest.raises(ConfigurationError, match="another event loop"):
            await client().balance()

    async def shared(step: int) -> None:
        first = client()
        submits = [asyncio.create_task(first.submit(CASTLE)) for _ in range(4)]
        for _ in range(step):  # Waiting for slots, for permits, for answers; two wait for slots.
            await asyncio.sleep(0)
        before = simulator.count()
        with ThreadPoolExecutor(1) as other:
            other.submit(asyncio.run, refused()).result()
        assert simulator.count() == before
        tasks = await asyncio.gather(*submits)
        assert len({task.id for task in tasks}) == 4
        await first.aclose()

    for step in range(1, 12):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(shared(step))
    assert simulator.created == 44


@pytest.mark.parametrize("kind", [httpx2.AsyncHTTPTransport, OwnTransport])
def test_connections_of_a_closed_loop(kind: type[httpx2.AsyncHTTPTransport]) -> None:
    """A client whose given transport has connections of a closed loop refuses every later call."""

    async def once(call: Callable[[], Coroutine[Any, Any, object]]) -> None:
        with contextlib.suppress(ApixoError, TimeoutError):
            await call()

    transport = kind()
    client = AsyncClient("test-key", base_url="http://127.0.0.1:9/", transport=transport)
    asyncio.run(once(lambda: asyncio.wait_for(client.balance(), 0.1)))

    async def refused() -> None:
        for _ in range(3):
            with pytest.raises(ConfigurationError, match="event loop that is closed"):
                await client.submit(CASTLE)

    asyncio.run(refused())


def test_limiter_of_a_loop_that_was_closed_rudely() -> None:
    """Those who waited for a limiter on a closed loop stand in nobody's way on the next one."""
    simulator, limiter = Simulator(seed=1), Limiter(Limits(concurrent_tasks=1))

    async def leave() -> None:
        client = AsyncClient("test-key", limiter=limiter, transport=simulator.transport())
        await client.submit(CASTLE)
        queued.extend(asyncio.create_task(client.submit(CASTLE)) for _ in range(3))
        await asyncio.sleep(1.0)

    queued: list[asyncio.Task[Task]] = []
    rude = Loop()
    rude.run_until_complete(leave())
    rude.close()

    async def go_on() -> None:
        limiter.limits = Limits(concurrent_tasks=9)
        async with AsyncClient(
            "test-key", limiter=limiter, transport=simulator.transport()
        ) as client:
            await asyncio.wait_for(client.submit(CASTLE), 10.0)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(go_on())
    for task in queued:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is left on purpose
        task.get_coro().close()  # type: ignore[union-attr]  # a task of ours has one


# --- waiting elsewhere -----------------------------------------------------------------------


async def updating(task: Task) -> None:
    async for _ in task.updates():
        pass


WAITS: Final[list[Callable[[Task], Coroutine[Any, Any, object]]]] = [
    lambda task: task.until(None),
    lambda task: task.wait(),
    lambda task: task.wait(60),
    lambda task: task.refresh(),
    lambda task: asyncio.wait_for(task.as_future(), 600),
    updating,
]


@pytest.mark.parametrize("wait", WAITS)
async def test_task_of_a_loop_that_still_runs(
    simulator: Simulator, client_of: ClientOf, wait: Callable[[Task], Coroutine[Any, Any, object]]
) -> None:
    """Whoever would wait for a task on another loop is refused, and told what to do; it goes on."""
    task = await client_of(simulator).submit(CASTLE)

    async def elsewhere() -> None:
        with pytest.raises(ConfigurationError, match="run_coroutine_threadsafe") as caught:
            await wait(task)
        error = caught.value
        assert (error.model, error.task_id, error.bought) == (task.model, task.id, True)

    with ThreadPoolExecutor(1) as other:
        other.submit(asyncio.run, elsewhere()).result(10)
        await task
        await task.wait()
        # What is over needs nobody to wake the waiter.
        assert other.submit(asyncio.run, wait_for_it(task)).result(10) == task.result()


async def wait_for_it(task: Task) -> Result:
    assert (await task.refresh()).state == "success"
    return await task


def test_task_of_a_loop_that_was_closed_rudely() -> None:
    """A task whose loop ended under its poller is refused; the error says to attach to it."""
    simulator, loop = Simulator(seed=1), Loop()
    client = AsyncClient("test-key", transport=simulator.transport(), seed=1)
    task = loop.run_until_complete(client.submit(CASTLE))
    pending = asyncio.all_tasks(loop)
    loop.close()
    for wait in WAITS:
        with pytest.raises(ConfigurationError, match="`attach` to it with a new client"):
            asyncio.run(bounded(wait, task))
    for left in pending:
        left._log_destroy_pending = False  # type: ignore[attr-defined]  # nobody can end them


async def bounded(wait: Callable[[Task], Coroutine[Any, Any, object]], task: Task) -> None:
    await asyncio.wait_for(wait(task), 5)


async def test_map_of_another_loop(simulator: Simulator, client_of: ClientOf) -> None:
    """A map's outcomes are handed out on its own loop; on another one nobody would be woken."""
    outcomes = client_of(simulator, limits=Limits(concurrent_tasks=1)).map([CASTLE] * 2)

    async def elsewhere() -> None:
        with pytest.raises(ConfigurationError, match="iterate over its outcomes there"):
            await anext(outcomes)

    await anext(outcomes)
    with ThreadPoolExecutor(1) as other:
        other.submit(asyncio.run, elsewhere()).result(10)
        await anext(outcomes)
        with pytest.raises(StopAsyncIteration):
            await anext(outcomes)
