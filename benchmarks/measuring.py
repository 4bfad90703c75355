"""How things are measured: interleaved rounds, medians, CPU, loop freezes, processes that end."""

from __future__ import annotations

import asyncio
import importlib.util
import math
import multiprocessing
import os
import selectors
import signal
import statistics
import sys
import threading
import time
import traceback
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

T = TypeVar("T")
P = ParamSpec("P")

TICK = 0.005  # seconds between two readings of the clock
STARTING = 30.0  # seconds until a process must have said its first word


def progress(message: str) -> None:
    """Say on stderr what is being done now."""
    print(message, file=sys.stderr, flush=True)


def is_installed(module: str) -> bool:
    """Say whether a peer can be imported, without importing it."""
    return importlib.util.find_spec(module) is not None


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def cpu_of(function: Callable[[], object]) -> float:
    """Return the seconds of CPU, user and system, that a call takes this process."""
    started = time.process_time()
    function()
    return time.process_time() - started


def interleaved(rounds: int, candidates: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """Measure every candidate once a round, in an order that turns by one each round.

    Whatever else the machine does meanwhile then falls on all alike.
    """
    measured: dict[str, list[T]] = {name: [] for name in candidates}
    names = list(candidates)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            started = time.monotonic()
            measured[name].append(candidates[name]())
            took = time.monotonic() - started
            progress(f"  round {number + 1} of {rounds}: {name}, {took:.1f} s")
    return measured


@dataclass
class Meter:
    """The cost of what runs beside it.

    Attributes:
        cpu: Seconds of this process, the ticks' own included.
        freeze: The most seconds by which a tick came late.
    """

    cpu: float = 0.0
    freeze: float = 0.0

    async def tick(self) -> None:
        """Read the clock again and again; whatever holds the loop makes a tick late."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK
            try:
                await asyncio.sleep(TICK)
            finally:  # cancelled within a freeze, this tick would be the one that tells
                self.freeze = max(self.freeze, loop.time() - due)


@asynccontextmanager
async def metered() -> AsyncGenerator[Meter]:
    """Measure what happens inside of the context; the figures are there when it ends."""
    meter = Meter()
    ticking = asyncio.create_task(meter.tick())
    started = time.process_time()
    try:
        yield meter
    finally:
        meter.cpu = time.process_time() - started
        ticking.cancel()
        await asyncio.wait([ticking])


class TurnSelector(selectors.DefaultSelector):
    """Tell how long the event loop stood still, for next to no CPU of its own.

    What a loop does between two calls of its selector is one turn, in which no timer is heard.
    A `Meter` tells the same of a loop that is not ours to make, for 2 % of a core.

    Attributes:
        freeze: The seconds of the longest turn.
        work: The most seconds of CPU of a turn: what is left of a freeze on an idle machine.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forget()

    def forget(self) -> None:
        """Begin anew, with the next turn."""
        self.freeze = self.work = 0.0
        self._began = self._worked = math.inf

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """End a turn, wait, and begin the next."""
        self.freeze = max(self.freeze, time.perf_counter() - self._began)
        self.work = max(self.work, time.thread_time() - self._worked)
        ready = super().select(timeout)
        self._began, self._worked = time.perf_counter(), time.thread_time()
        return ready


def in_child(deadline: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function of a module in a process of its own and return what it returns.

    Arguments and result must be picklable, and the function starts no process itself.

    Raises:
        TimeoutError: Nothing came back within ``deadline`` seconds; the process was killed.
        RuntimeError: The function failed, or the process died; the message tells how.
    """
    with serving(_call, function, args, kwargs) as said:
        value, failure = received(said, deadline)
    if failure:
        raise RuntimeError(failure)
    return cast("T", value)


@contextmanager
def serving(
    function: Callable[Concatenate[Connection, P], None], *args: P.args, **kwargs: P.kwargs
) -> Generator[Connection]:
    """Run a function in a process of its own until the context ends, which kills it.

    The function is given one end of a pipe, on which a server says where it listens; the context
    yields the other, to be read with `received`. The process also ends when this one is gone.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    child = spawn.Process(target=_child, args=(theirs, function, args, kwargs), daemon=True)
    child.start()
    theirs.close()
    try:
        yield ours
    finally:
        child.kill()
        child.join()
        ours.close()


def received(said: Connection, deadline: float = STARTING) -> Any:
    """Return the next thing that a process says.

    Raises:
        TimeoutError: It said nothing within ``deadline`` seconds.
        RuntimeError: It died.
    """
    if not said.poll(deadline):
        raise TimeoutError(f"a process said nothing in {deadline:g} s")
    try:
        return said.recv()
    except EOFError:
        raise RuntimeError("a process died; see above") from None


def _call(
    said: Connection,
    function: Callable[..., object],
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
) -> None:
    try:
        said.send((function(*args, **kwargs), ""))
    except Exception:
        said.send((None, traceback.format_exc()))


def _child(
    said: Connection,
    function: Callable[..., None],
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair, which kills
    threading.Thread(target=_end_with_parent, daemon=True).start()
    function(said, *args, **kwargs)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
