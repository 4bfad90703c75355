"""Blocking client: its calls from threads, under Ctrl-C, forks, closes and at exit."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

from apixo_async import (
    AsyncClient,
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    FluxKontext,
    GptImage2,
    Limits,
    Outcome,
    SubmitUncertainError,
    Task,
    TaskFailedError,
    TaskSubmitted,
    WaitTimeoutError,
    blocking,
)
from apixo_async.testing import Fault, Simulator

CASTLE: Final = FluxKontext(mode="pro", prompt="a castle")
BOUND: Final = 60  # seconds after which a test that hangs fails
LATENCY: Final = 0.005

ClientOf = Callable[..., blocking.Client]


@pytest.fixture
def simulator() -> Simulator:
    """Be the service, a thousand times as fast."""
    return Simulator(seed=1, speed=1000)


@pytest.fixture
def client_of(simulator: Simulator) -> Iterator[ClientOf]:
    """Make clients of the simulator, closed when the test ends."""
    clients: list[blocking.Client] = []

    def make(latency: Any = LATENCY, **options: Any) -> blocking.Client:
        options = {
            "polling": simulator.polling,
            "transport": simulator.transport(latency),
        } | options
        clients.append(blocking.Client("test-key", **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def interrupt() -> None:
    """Press Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


# --- the same as AsyncClient ---------------------------------------------------------------

#: Methods of `AsyncClient` that have another name here, or are for its loop only.
ASYNC_ONLY: Final = {"aclose", "limits", "resolve", "recover", "entries", "stream"}


def public(owner: type) -> set[str]:
    """Return the public names of a class."""
    return {name for name in dir(owner) if not name.startswith("_")}


def test_it_has_what_the_async_client_has() -> None:
    """A method of `AsyncClient` is here too, or is named as one that is not."""
    assert public(AsyncClient) - ASYNC_ONLY == public(blocking.Client) - {"close"}


@pytest.mark.parametrize("name", sorted({*public(blocking.Client), "__init__"} - {"close"}))
def test_it_takes_the_same_arguments(name: str) -> None:
    """Each argument is that of `AsyncClient`, with its default, so that neither grows alone."""
    here, there = getattr(blocking.Client, name), getattr(AsyncClient, name)
    if not isinstance(there, property):
        assert [*inspect.signature(here).parameters.values()] == [
            *inspect.signature(there).parameters.values()
        ]


def test_the_main_job(client_of: ClientOf, tmp_path: Path) -> None:
    """Submit, wait, download, count: without a coroutine."""
    with client_of() as client:
        task = client.submit(CASTLE)
        result = task.result(timeout=BOUND)
        assert task.wait()
        assert (task.done(), task.state, task.id) == (True, "success", result.task_id)
        assert task.refresh().state == "success"
        assert client.attach(task.ref).result().urls == result.urls
        assert client.attach(task.model, task.id).ref == task.ref
        assert [path.exists() for path in client.download(result, tmp_path)] == [True]
        assert client.generate(GptImage2(prompt="a cafe"), timeout=BOUND).model == "gpt-image-2"
        spent = client.estimate([CASTLE, GptImage2(prompt="a cafe")]).total
        assert client.balance() == 1000 - spent
        assert client.statistics().submits == 2
        assert client.unfinished == ()


def test_threads_share_a_client(client_of: ClientOf, simulator: Simulator) -> None:
    """Any number of threads may use one client at once, from its first use on."""
    client = client_of()
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda _: client.generate(CASTLE), range(60)))
    assert len({result.task_id for result in results}) == simulator.created == 60


def test_errors_are_those_of_the_client(client_of: ClientOf, simulator: Simulator) -> None:
    """A call raises what the coroutine raises; a wait that times out leaves the task as it is."""
    client = client_of()
    simulator.faults.submit(Fault.task_lasts(500_000))
    task = client.submit(CASTLE)
    with pytest.raises(WaitTimeoutError):
        task.result(timeout=0.05)
    assert (task.wait(timeout=0.01), task.done()) == (False, False)
    assert client.unfinished == (task.ref,)
    simulator.faults.submit(Fault.task_fails("NSFW"))
    with pytest.raises(TaskFailedError, match="NSFW"):
        client.generate(CASTLE)
    with pytest.raises(AuthenticationError):
        blocking.Client("wrong", transport=simulator.transport()).balance()
    simulator.faults.submit(Fault.lost_answer())
    with pytest.raises(SubmitUncertainError) as caught:
        client.submit(CASTLE)
    assert client.resubmit(caught.value).result().urls


def test_a_refused_key_is_in_no_frame() -> None:
    """A crash reporter that shows the frames of a refused setting shows no key."""
    with pytest.raises(ConfigurationError) as caught:
        blocking.Client("secret-key", base_url="ftp://nowhere")
    frame = caught.value.__traceback__
    shown: list[str] = []
    while frame is not None:
        if frame.tb_frame.f_code.co_filename != __file__:
            shown.append(repr(frame.tb_frame.f_locals))
        frame = frame.tb_next
    assert shown
    assert "secret-key" not in "".join(shown)


# --- where it cannot be used ---------------------------------------------------------------


async def test_a_running_loop_is_not_held_up(client_of: ClientOf) -> None:
    """In a coroutine every call is refused at once, and the error names what to use there."""
    client = client_of()
    calls: list[Callable[[], object]] = [
        client.__enter__,
        client.balance,
        client.close,
        lambda: client.submit(CASTLE),
        lambda: next(client.map([CASTLE])),
    ]
    for call in calls:
        with pytest.raises(ConfigurationError, match=r"apixo_async\.AsyncClient .*to_thread"):
            call()
    assert (await asyncio.to_thread(client.generate, CASTLE)).urls


def test_hooks_are_not_held_up(client_of: ClientOf) -> None:
    """A hook that calls the client, in whose thread it runs, is refused and ends nothing."""
    raised: list[BaseException] = []

    def hook(_: object) -> None:
        try:
            client.balance()
        except ConfigurationError as error:
            raised.append(error)

    client = client_of(on_event=hook)
    assert client.generate(CASTLE).urls
    assert raised


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("used", [False, True])
def test_a_fork(client_of: ClientOf, used: bool) -> None:
    """A child is told to make a client of its own if its parent's was used; it never hangs."""
    client = client_of()
    if used:
        client.balance()
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        words = []
        for call in (client.balance, client.close):
            try:
                words.append(str(call()))
            except BaseException as error:
                words.append(str(error))
        os.write(writer, "; ".join(words).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    assert os.waitpid(child, 0)[1] == 0
    refused = "this client was used before the process forked: make a new one in the child"
    assert said == (f"{refused}; {refused}" if used else "1000.0; None")
    assert client.balance() == 1000


# --- Ctrl-C ------------------------------------------------------------------------------------


def test_an_interrupted_generate(client_of: ClientOf, simulator: Simulator) -> None:
    """Ctrl-C while the task runs hands it to `on_orphan`, and it can be attached to."""
    orphans: list[Any] = []

    def on_event(event: object) -> None:
        if isinstance(event, TaskSubmitted) and not orphans:
            interrupt()

    client = client_of(on_event=on_event, on_orphan=orphans.append)
    simulator.faults.submit(Fault.task_lasts(500))
    with pytest.raises(KeyboardInterrupt):
        client.generate(CASTLE)
    until(lambda: bool(orphans))
    (orphan,) = orphans
    assert isinstance(orphan, Task)
    assert client.attach(orphan.ref).result(timeout=BOUND).urls
    assert simulator.created == 1


def test_an_interrupted_submit(client_of: ClientOf, simulator: Simulator) -> None:
    """Ctrl-C during the POST hands its task to `on_orphan`; the close waits for it."""
    orphans: list[Any] = []

    def latency(_: random.Random) -> float:
        if not simulator.created:
            interrupt()
        return 0.3

    with (
        pytest.raises(KeyboardInterrupt),
        client_of(latency, on_orphan=orphans.append) as client,
    ):
        client.submit(CASTLE)
    assert [orphan.id for orphan in orphans] == [*simulator.tasks]
    assert simulator.created == 1


@pytest.mark.parametrize("seed", range(3))
def test_interrupts_at_any_moment(client_of: ClientOf, simulator: Simulator, seed: int) -> None:
    """Whenever Ctrl-C comes during a submit, each task that was bought is returned or an orphan."""
    rng = random.Random(seed)
    orphans: list[Any] = []

    def on_alarm(_: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_name == "_run" and frame.f_code.co_filename == blocking.__file__:
                raise KeyboardInterrupt
            frame = frame.f_back

    client = client_of(0.002, on_orphan=orphans.append)
    client.balance()
    returned: list[str] = []
    before = signal.signal(signal.SIGALRM, on_alarm)
    interrupted = 0
    # Python drops what a handler raises while a callback of the collector runs.
    gc.disable()
    try:
        for _ in range(60):
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0005, 0.01))
            try:
                task = client.submit(CASTLE)
            except KeyboardInterrupt:
                interrupted += 1
            else:
                returned.append(task.id)
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        gc.enable()
        signal.signal(signal.SIGALRM, before)
    client.close()
    assert interrupted
    assert sorted(returned + [orphan.id for orphan in orphans]) == sorted(simulator.tasks)


# --- map ---------------------------------------------------------------------------------------


def test_map_reads_in_the_thread_that_waits(client_of: ClientOf, simulator: Simulator) -> None:
    """The iterable runs in the caller's thread, and every input has an outcome."""
    threads: set[threading.Thread] = set()

    def inputs() -> Iterator[tuple[str, FluxKontext]]:
        for number in range(40):
            threads.add(threading.current_thread())
            yield f"castle {number}", CASTLE

    outcomes = client_of().map(inputs())
    assert sorted(outcome.key for outcome in outcomes if outcome.ok) == sorted(
        f"castle {number}" for number in range(40)
    )
    assert threads == {threading.current_thread()}
    assert outcomes.progress.succeeded == simulator.created == 40


def test_leaving_a_map_stops_the_buying(client_of: ClientOf, simulator: Simulator) -> None:
    """After `break` nothing more is read or bought, what was bought has ended, the rest can be had.

    No more was read than `AsyncClient.map` reads: twice the tasks at once, and as many ahead.
    """
    closed: list[int] = []

    def inputs() -> Iterator[FluxKontext]:
        try:
            for _ in range(1000):
                yield CASTLE
        finally:
            closed.append(simulator.created)

    with client_of(limits=Limits(concurrent_tasks=2)).map(inputs()) as outcomes:
        for outcome in outcomes:
            assert outcome.ok
            break
    bought = simulator.created
    assert 1 <= bought <= outcomes.progress.read <= 7
    assert closed == [bought]
    assert len([*outcomes]) == outcomes.progress.read - 1
    assert simulator.created == bought
    outcomes.stop()


def test_an_iterable_that_fails(client_of: ClientOf) -> None:
    """What the iterable raises comes after the outcomes of all that it gave."""

    def inputs() -> Iterator[FluxKontext]:
        yield CASTLE
        raise LookupError("row 2")

    outcomes = client_of().map(inputs())
    assert next(outcomes).ok
    with pytest.raises(LookupError, match="row 2"):
        next(outcomes)
    assert [*outcomes] == []


def test_threads_take_from_one_map(client_of: ClientOf) -> None:
    """Several threads may iterate over the same outcomes; each outcome goes to one of them."""
    with client_of().map([CASTLE] * 30) as outcomes, ThreadPoolExecutor(4) as pool:
        taken = [pool.submit(lambda: [outcome.key for outcome in outcomes]) for _ in range(4)]
        keys = [key for one in taken for key in one.result(BOUND)]
    assert sorted(map(int, keys)) == [*range(30)]


def test_an_interrupted_map_goes_on(client_of: ClientOf, simulator: Simulator) -> None:
    """Ctrl-C between two outcomes loses none: who goes on iterating gets the others."""
    pressed: list[int] = []

    def on_event(event: object) -> None:
        if isinstance(event, TaskSubmitted) and not pressed:
            pressed.append(1)
            interrupt()

    outcomes = client_of(on_event=on_event).map([CASTLE] * 20)
    keys: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        keys.extend(outcome.key for outcome in outcomes)  # Those that came before it count.
    keys += [outcome.key for outcome in outcomes]
    assert len(keys) == len({*keys}) == simulator.created == 20


def test_what_map_does_not_take(client_of: ClientOf) -> None:
    """One input, a mapping, and an async iterable are refused at once."""

    async def inputs() -> Any:
        yield CASTLE

    client = client_of()
    for wrong, why in ((CASTLE, "`submit`"), ({}, "items"), (inputs(), "AsyncClient.map")):
        with pytest.raises(ConfigurationError, match=why):
            client.map(wrong)  # type: ignore[arg-type]  # that is the test


# --- the end -----------------------------------------------------------------------------------


def test_after_a_close(client_of: ClientOf, simulator: Simulator) -> None:
    """Nothing more is bought, and the refs of unfinished tasks stay."""
    client = client_of()
    simulator.faults.submit(Fault.task_lasts(500_000))
    task = client.submit(CASTLE)
    client.close()
    client.close()
    with pytest.raises(ClientClosedError) as caught:
        client.submit(CASTLE)
    assert caught.value.bought is False
    with pytest.raises(ClientClosedError):
        task.result()
    assert client.unfinished == (task.ref,)
    assert simulator.created == 1


def test_a_drain(client_of: ClientOf) -> None:
    """A close with a drain lets tasks end."""
    client = client_of()
    task = client.submit(CASTLE)
    client.close(drain=BOUND)
    assert task.done()
    assert client.unfinished == ()


def test_closes_at_once_end_the_waits(client_of: ClientOf, simulator: Simulator) -> None:
    """Many threads close while others wait: all return, and each wait ends with the reason."""
    client, before = client_of(), set(threading.enumerate())
    for _ in range(5):
        simulator.faults.submit(Fault.task_lasts(500_000))
    with ThreadPoolExecutor(10) as pool:
        waits = [pool.submit(client.generate, CASTLE) for _ in range(5)]
        until(lambda: simulator.created == 5)
        closes = [pool.submit(client.close) for _ in range(5)]
        assert [close.result(BOUND) for close in closes] == [None] * 5
        assert {type(wait.exception(BOUND)) for wait in waits} == {ClientClosedError}
    assert [thread.name for thread in {*threading.enumerate()} - before] == []


@pytest.mark.parametrize("way", ["taken", "dropped"])
def test_an_interrupt_in_the_loop_loses_nothing(simulator: Simulator, way: str) -> None:
    """Outcomes that a left loop did not take can be taken after the close, or are handed over."""
    orphans: list[Task | SubmitUncertainError] = []
    options: dict[str, Any] = {"transport": simulator.transport(), "polling": simulator.polling}
    client = blocking.Client(
        "test-key", limits=Limits(5, 10_000), on_orphan=orphans.append, **options
    )
    taken: list[Outcome] = []
    outcomes = client.map([CASTLE] * 5)

    def leave_the_loop(outcomes: blocking.Outcomes) -> None:
        with client, outcomes:
            for outcome in outcomes:
                taken.append(outcome)
                until(lambda: outcomes.progress.succeeded == 5)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave_the_loop(outcomes)
    if way == "taken":
        taken += outcomes
        assert outcomes.ended_by is None
    del outcomes
    gc.collect()
    held = [outcome.ref for outcome in taken] + [orphan.ref for orphan in orphans]
    assert len(taken) == (5 if way == "taken" else 1)
    assert len({*held}) == len(held) == simulator.created == 5


EXIT: Final = """
import contextlib, sys, threading, time
from apixo_async import ClientClosedError, FluxKontext
from apixo_async.blocking import Client
from apixo_async.testing import Simulator

def on_event(event):
    print(type(event).__name__, file=sys.stderr, flush=True)

simulator = Simulator()
client = Client("test-key", transport=simulator.transport(1.0), on_event=on_event, store=STORE)
castle = FluxKontext(mode="pro", prompt="a castle")
def buy():
    with contextlib.suppress(ClientClosedError):
        client.generate(castle)
threading.Thread(target=buy, daemon=True).start()
while not simulator.count("submit"):
    time.sleep(0.01)
"""


@pytest.mark.parametrize("stored", [False, True])
def test_the_end_of_the_interpreter(tmp_path: Path, *, stored: bool) -> None:
    """A script that forgets to close ends by itself, and a POST under way gets its answer.

    What it bought is written to the store, which needs a thread of an executor for that.
    """
    path = tmp_path / "store.db"
    program = EXIT.replace("STORE", repr(str(path)) if stored else "None")
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=BOUND, check=False
    )
    assert ran.returncode == 0
    lines = ran.stderr.splitlines()
    assert lines[0] == "ClientOpened"
    assert lines.index("TaskSubmitted") < lines.index("ClientClosed")
    assert lines[-1] == "ClientClosed"


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
