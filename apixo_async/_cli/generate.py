"""`apixo generate`: one prompt, from the price to the files, waited for where one can see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from apixo_async import Result, Task, WaitTimeoutError
from apixo_async._catalog import timing
from apixo_async._cli import options, session
from apixo_async._cli.console import Screen, seconds
from apixo_async._cli.inputs import build_input, parse_sets, read_prompt
from apixo_async._text import dollars

#: Seconds between two refreshes of what a person sees.
TICK: Final = 0.1

#: Shows that a task is in a state, N seconds after the wait began.
_View: TypeAlias = Callable[[str, float], None]


def generate(
    model: options.Model,
    prompt: options.Prompt,
    aspect_ratio: options.AspectRatio = None,
    num_images: options.NumImages = None,
    image_url: options.ImageUrls = None,
    resolution: options.Resolution = None,
    mode: options.Mode = None,
    output_format: options.OutputFormat = None,
    set_: options.Sets = None,
    provider: options.ByProvider = None,
    yes_unknown_model: options.YesUnknownModel = False,
    timeout: options.Timeout = None,
    out: options.Out = Path(),
    no_wait: options.NoWait = False,
    as_json: options.AsJson = False,
    key_file: options.KeyFile = None,
    base_url: options.BaseUrl = None,
) -> None:
    """Make something from a PROMPT, wait for it, and save it. This buys one task.

    `apixo models` shows what each model takes and costs.
    """
    screen = Screen(as_json=as_json)
    fields: dict[str, object] = {
        "aspect_ratio": aspect_ratio,
        "num_images": num_images,
        "image_urls": image_url or None,
        "resolution": resolution,
        "mode": mode,
        "output_format": output_format,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    given |= parse_sets(set_ or ())
    made = build_input(
        model,
        {"prompt": read_prompt(prompt), **given},
        screen,
        yes_unknown_model=yes_unknown_model,
    )
    if not no_wait:
        # Before anything is bought: a file of that name, or a disk that is read-only, ends here.
        out.mkdir(parents=True, exist_ok=True)
    access = session.Access(key_file, base_url)

    async def buy() -> None:
        async with session.connect(access, screen, out=out, advise=not no_wait) as client:
            price = "no documented price"
            if made.price is not None:
                price = f"{dollars(made.price)} by the documents' prices"
            screen.note(f"{made.model}: {price}", style="dim")
            task = await client.submit(made, provider=provider, timeout=timeout)
            if no_wait:
                _print_ref(task, out, access, screen)
                return
            result = await watch(task, screen, kind=made.kind, timeout=timeout)
            files = await client.download(result, out)
        print_result(result, files, screen)

    session.run(buy())


def _print_ref(task: Task, out: Path, access: session.Access, screen: Screen) -> None:
    if screen.as_json:
        command = access.wait_command(task.ref, out)
        screen.document({"model": task.model, "task_id": task.id, "wait": command})
        return
    screen.line(f"{task.model} {task.id}")
    access.advise(task.ref, out, screen)


def print_result(result: Result, files: Sequence[Path], screen: Screen) -> None:
    """Print where the files of a result are, or its URLs where nothing was saved."""
    if screen.as_json:
        screen.document(
            {
                "model": result.model,
                "task_id": result.task_id,
                "state": "success",
                "urls": result.urls,
                "files": [str(path) for path in files],
                "created_at": result.created_at,
                "completed_at": result.completed_at,
                "expires_at": result.expires_at,
                "cost_time": result.cost_time,
            }
        )
        return
    for place in files or result.urls:
        screen.line(str(place))
    if not result.urls:
        screen.warning(f"{result.ref} succeeded, and its result names no files")


async def watch(
    task: Task, screen: Screen, *, kind: str | None = None, timeout: float | None = None
) -> Result:
    """Wait for a task, show its state and the documents' typical time, and return its result.

    `kind` is what drives its duration: the model, if nothing better is known.

    Raises:
        WaitTimeoutError: The timeout is over, and the task is not.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    waiting = asyncio.create_task(task.wait(timeout))
    try:
        with _view(task, screen, kind or task.model) as show:
            while not waiting.done():
                show(task.state, loop.time() - began)
                await asyncio.wait({waiting}, timeout=TICK)
            show(task.state, loop.time() - began)
    finally:
        waiting.cancel()
    if not await waiting:
        waited = seconds(loop.time() - began)
        raise WaitTimeoutError(f"{task.ref} is not over after {waited}; it goes on", ref=task.ref)
    return await task


@contextmanager
def _view(task: Task, screen: Screen, kind: str) -> Generator[_View]:
    times = timing(kind)
    typical = f"typically {times.typical_low:.0f}-{times.typical_high:.0f} s"
    if screen.live:
        with _moving(screen, task.id, typical, times.typical_high) as view:
            yield view
        return
    shown: list[str] = []

    def show(state: str, elapsed: float) -> None:
        if state not in shown[-1:]:
            after = f"after {seconds(elapsed)}" if shown else typical
            screen.note(f"{task.id}: {state}, {after}")
            shown.append(state)

    yield show


@contextmanager
def _moving(screen: Screen, prefix: str, typical: str, expected: float) -> Generator[_View]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[prefix]}", markup=False),
        TextColumn("{task.description}", style="cyan", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[typical]}", style="dim", markup=False),
    )
    with Progress(*columns, console=screen.err, transient=True) as bar:
        row = bar.add_task("…", total=expected, prefix=prefix, typical=typical)

        def show(state: str, elapsed: float) -> None:
            # Past the typical time it is unknown how much is left: the bar pulses.
            total = expected if elapsed < expected else None
            bar.update(row, description=state, completed=elapsed, total=total)

        yield show
