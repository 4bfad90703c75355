"""Where a run buys: the account, or the embedded simulator in its place."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from typing import Final

from apixo_async import AsyncClient, Timeouts
from apixo_async._cli import session
from apixo_async._cli.console import Screen
from apixo_async._cli.demo_run import Hastened
from apixo_async._cli.run.order import RunOptions
from apixo_async._polling.policy import FLOOR
from apixo_async.events import Event

#: USD on the simulated account.
BALANCE: Final = Decimal(100_000)
_KEY: Final = "simulated-key"
_SPEED: Final = 50.0  # times as fast as real tasks
_KEPT: Final = 1_000  # exchanges that the simulator remembers


def open_client(
    order: RunOptions, screen: Screen, on_event: Callable[[Event], None]
) -> AbstractAsyncContextManager[AsyncClient]:
    """Open a client of the account, or of a simulator.

    Args:
        order: The run.
        screen: Where to say what is wrong with the key file.
        on_event: Told what happens.
    """
    if order.simulate:
        return _simulated(order, on_event)
    # Nobody waits in front of it: it repeats for as long as a program should.
    return session.connect(
        order.access,
        screen,
        advise=False,
        limits=order.limits,
        timeouts=Timeouts(),
        on_event=on_event,
    )


@asynccontextmanager
async def _simulated(
    order: RunOptions, on_event: Callable[[Event], None]
) -> AsyncGenerator[AsyncClient]:
    from apixo_async.testing import Simulator, serve

    simulator = Simulator(
        seed=random.getrandbits(32),  # Not that of an earlier run, whose ids are in the journal.
        speed=_SPEED,
        key=_KEY,
        balance=BALANCE,
        concurrent_tasks=order.limits.concurrent_tasks,
        requests_per_minute=order.limits.requests_per_minute,
        longest_side=512,
        keep_log=_KEPT,
    )
    async with (
        serve(simulator) as url,
        AsyncClient(
            _KEY,
            base_url=url,
            limits=order.limits,
            polling=Hastened(floor=FLOOR / _SPEED, speed=_SPEED),
            proxy="",  # Whatever the environment says: this address is of this machine.
            on_event=on_event,
        ) as client,
    ):
        yield client


async def ask_balance(order: RunOptions, screen: Screen) -> Decimal:
    """Return what is left on the key before anything is bought.

    Raises:
        ApixoError: The service refused, or gave no usable answer.
    """
    if order.simulate:
        return BALANCE
    async with session.connect(order.access, screen, advise=False) as client:
        return await client.balance()
