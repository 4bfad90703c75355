"""`apixo generate`: one prompt, from the price to the files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from apixo_async import Input, Result, Task
from apixo_async._cli import options, session
from apixo_async._cli.console import Screen, dollars
from apixo_async._cli.inputs import build_input, parse_sets, read_prompt
from apixo_async._cli.progress import watch


class GenerateOptions(NamedTuple):
    """What is to be made, and how it is to be waited for."""

    input: Input
    provider: str | None
    timeout: float | None
    out: Path
    wait: bool


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
    provider: options.Provider = None,
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
    made = build_input(model, {"prompt": read_prompt(prompt), **given}, screen)
    order = GenerateOptions(made, provider, timeout, out, not no_wait)
    if order.wait:
        # Before anything is bought: a file of that name, or a disk that is read-only, ends here.
        out.mkdir(parents=True, exist_ok=True)
    session.run(_order(order, session.Access(key_file, base_url), screen))


async def _order(order: GenerateOptions, access: session.Access, screen: Screen) -> None:
    async with session.connect(access, screen, out=order.out, advise=order.wait) as client:
        screen.note(f"{order.input.model}: {_price(order.input)}", style="dim")
        task = await client.submit(order.input, provider=order.provider, timeout=order.timeout)
        if not order.wait:
            _print_ref(task, order, access, screen)
            return
        result = await watch(task, screen, kind=order.input.kind, timeout=order.timeout)
        files = await client.download(result, order.out)
    print_result(result, files, screen)


def _price(made: Input) -> str:
    price = made.price
    return "no documented price" if price is None else f"{dollars(price)} by the documents' prices"


def _print_ref(task: Task, order: GenerateOptions, access: session.Access, screen: Screen) -> None:
    if screen.as_json:
        command = access.wait_command(task.ref, order.out)
        screen.document({"model": task.model, "task_id": task.id, "wait": command})
        return
    screen.line(f"{task.model} {task.id}")
    access.advise(task.ref, order.out, screen)


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
