"""`apixo demo`: the main job on the embedded simulator, without a key and without a network."""

from __future__ import annotations

import asyncio
import time
import webbrowser
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.live import Live
from rich.text import Text

from apixo_async import AsyncClient, Limits
from apixo_async._cli import options, session
from apixo_async._cli.console import Screen, dollars, seconds
from apixo_async._cli.dashboard import Dashboard
from apixo_async._cli.demo_run import DemoRun, DemoTask, Hastened, Report
from apixo_async._cli.prompts import wishes
from apixo_async._cli.simulate import check_installed
from apixo_async._polling.policy import FLOOR
from apixo_async._text import one_line

#: Limits of the demo's account, small enough that one sees them fill up.
LIMITS: Final = Limits(concurrent_tasks=12, requests_per_minute=1_000)
_KEY: Final = "demo-key"
_BALANCE: Final = Decimal(1000)
_FRAME: Final = 0.1  # seconds between two pictures


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the demo is asked for."""

    out: Path
    speed: float
    tasks: int
    seed: int


def demo(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the pictures and index.html go.")
    ] = Path("apixo-demo"),
    speed: Annotated[
        float, typer.Option(min=0.1, max=1000, help="How many times faster than real tasks run.")
    ] = 20.0,
    tasks: Annotated[int, typer.Option(min=1, max=1000, help="How many tasks.")] = 24,
    seed: Annotated[int, typer.Option(help="Replays ids and durations.")] = 0,
    open_: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the contact sheet in a browser.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """See the main job done: 24 tasks, some of which fail, in under 20 s.

    Needs no key and no network: a simulator of the service runs inside, on a port of this
    machine, and nothing is bought.
    """
    check_installed()
    screen = Screen(as_json=as_json)
    out.mkdir(parents=True, exist_ok=True)
    _publish(session.run(_demo(DemoOptions(out, speed, tasks, seed), screen)), screen, show=open_)


def _publish(report: Report, screen: Screen, *, show: bool) -> None:
    report.sheet().write(report.page)
    report.print(screen)
    if show:
        webbrowser.open(report.page.resolve().as_uri())


async def _demo(plan: DemoOptions, screen: Screen) -> Report:
    pieces = [DemoTask(wish, wish.input) for wish in wishes(plan.tasks)]
    async with _client(plan, pieces) as client:
        before = await client.balance()
        began = time.perf_counter()
        await _watched(client, pieces, plan, screen)
        took = time.perf_counter() - began
        return Report(
            pieces=pieces,
            took=took,
            speed=plan.speed,
            statistics=client.statistics(),
            before=before,
            after=await client.balance(),
            page=plan.out / "index.html",
        )


@asynccontextmanager
async def _client(plan: DemoOptions, pieces: Sequence[DemoTask]) -> AsyncGenerator[AsyncClient]:
    from apixo_async.testing import Fault, Simulator, serve

    simulator = Simulator(
        seed=plan.seed,
        speed=plan.speed,
        key=_KEY,
        balance=_BALANCE,
        concurrent_tasks=LIMITS.concurrent_tasks,
        requests_per_minute=LIMITS.requests_per_minute,
        longest_side=512,
    )
    fails = (piece.wish.fails for piece in pieces)
    simulator.faults.submit(*(None if fail is None else Fault.task_fails(*fail) for fail in fails))
    async with (
        serve(simulator) as url,
        AsyncClient(
            _KEY,
            base_url=url,
            limits=LIMITS,
            polling=Hastened(floor=FLOOR / plan.speed, speed=plan.speed),
            proxy="",  # Whatever the environment says: this address is of this machine.
            seed=plan.seed,
        ) as client,
    ):
        yield client


async def _watched(
    client: AsyncClient, pieces: Sequence[DemoTask], plan: DemoOptions, screen: Screen
) -> None:
    title = (
        f"apixo demo: {len(pieces)} tasks on a simulator, {plan.speed:g} times as fast as real ones"
    )
    board = Dashboard(title, pieces)
    if screen.live:
        run = DemoRun(client, pieces, plan.out, lambda piece: board.news.append(_headline(piece)))
        await _drawn(run.make_all(), board, client, screen)
        return
    screen.note(board.title)
    run = DemoRun(client, pieces, plan.out, lambda piece: screen.note(_headline(piece).plain))
    await run.make_all()


async def _drawn(
    work: Coroutine[object, object, None], board: Dashboard, client: AsyncClient, screen: Screen
) -> None:
    # Drawn by the loop itself: a thread of rich's would read states while they change.
    with Live(console=screen.err, auto_refresh=False) as live:
        async with asyncio.TaskGroup() as group:
            working = group.create_task(work)
            while not working.done():
                live.update(board.draw(client.statistics()), refresh=True)
                await asyncio.wait({working}, timeout=_FRAME)
        live.update(board.draw(client.statistics()), refresh=True)


def _headline(piece: DemoTask) -> Text:
    mark = ("failed ", "red") if piece.failure else ("done   ", "green")
    reason = f"{piece.failure[0]}  " if piece.failure else ""
    took = "" if piece.elapsed is None else seconds(piece.elapsed)
    return Text.assemble(
        mark,
        (f"{piece.wish.model:<12} ", "bold"),
        f"{took:>6}  {dollars(piece.spent):>6}  ",
        (reason, "red"),
        (one_line(piece.wish.prompt), "dim"),
        no_wrap=True,
        overflow="ellipsis",
    )
