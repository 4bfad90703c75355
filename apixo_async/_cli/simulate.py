"""`apixo simulate`: the service on a port of this machine, until Ctrl-C."""

from __future__ import annotations

import importlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import fields
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Final

import typer

from apixo_async import ConfigurationError, Limits
from apixo_async._cli import options, session
from apixo_async._cli.console import Screen
from apixo_async._cli.exits import ExitCode
from apixo_async._hosts import is_loopback
from apixo_async._text import field_lines

if TYPE_CHECKING:
    from apixo_async.testing import OpenPoints, Simulator

_NEEDED: Final = ("starlette", "uvicorn", "PIL")
_SAMPLE: Final = {"request_type": "async", "input": {"mode": "text-to-image", "prompt": "a fox"}}


def simulate(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    speed: Annotated[float, typer.Option(help="How many times faster tasks run.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Replays ids, durations and failures.")] = 0,
    key: Annotated[
        str, typer.Option(help="The invented key that it accepts; never a real one.")
    ] = "test-key",
    balance: Annotated[float, typer.Option(min=0.0, help="USD on the key.")] = 1000.0,
    failure_rate: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="The part of all tasks that fails.")
    ] = 0.0,
    concurrent_tasks: Annotated[
        int, typer.Option(min=1, help="Tasks at once; one more is answered 429.")
    ] = Limits().concurrent_tasks,
    requests_per_minute: Annotated[
        int, typer.Option(min=1, help="Requests in any 60 s; one more is answered 429.")
    ] = Limits().requests_per_minute,
    open_points: Annotated[
        list[str] | None,
        typer.Option(
            "--open",
            metavar="NAME=VALUE",
            help="What no document settles, such as errors=code; repeatable.",
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Serve a simulator of the API, with a page to watch it. Ctrl-C or SIGTERM end it with 0."""
    check_installed()
    from apixo_async.testing import Simulator

    try:
        simulator = Simulator(
            seed=seed,
            speed=speed,
            key=key,
            balance=Decimal(str(balance)),
            failure_rate=failure_rate,
            concurrent_tasks=concurrent_tasks,
            requests_per_minute=requests_per_minute,
            # A simulator may run for days: its log is for the page and for tests.
            keep_log=10_000,
            open_points=_parse_points(open_points or ()),
        )
    except ValueError as exc:
        raise ConfigurationError(str(exc)) from exc
    screen = Screen(as_json=as_json)
    session.run(_serve(simulator, host, port, screen), interrupted=ExitCode.OK)


def _parse_points(pairs: Sequence[str]) -> OpenPoints:
    from pydantic import TypeAdapter, ValidationError

    from apixo_async.testing import OpenPoints

    given = {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
    known = [field.name for field in fields(OpenPoints)]
    for name in given:
        if name not in known:
            raise ConfigurationError(f"--open {name}: there are {', '.join(known)}")
    try:
        return TypeAdapter(OpenPoints).validate_python(given)
    except ValidationError as exc:
        raise ConfigurationError(f"--open {'; '.join(field_lines(exc))}") from exc


def check_installed() -> None:
    """Import what the simulator needs on a port."""
    for module in _NEEDED:
        importlib.import_module(module)


async def _serve(simulator: Simulator, host: str, port: int, screen: Screen) -> None:
    from apixo_async.testing import serve_forever

    def started(url: str) -> None:
        introduce(url, simulator.options.key, screen)
        if not is_loopback(host):
            screen.warning(
                f"--host {host}: whoever reaches this machine can see the prompts and pictures "
                "of this simulator; leave --host out to keep it to yourself"
            )

    try:
        await serve_forever(simulator, host, port, started=started)
    except OSError as exc:
        raise ConfigurationError(
            f"cannot listen on {host}, port {port}: {exc.strerror}; choose another with --port"
        ) from exc


def introduce(url: str, key: str, screen: Screen) -> None:
    """Print where a simulator is, and what to try."""
    curl = sample_curl(url, key)
    if screen.as_json:
        screen.document({"base_url": url, "page": f"{url}/", "curl": curl})
        return
    screen.line(f"base URL  {url}")
    screen.line(f"page      {url}/")
    screen.line(f"try       {curl}")
    variables = f"APIXO_BASE_URL={url} APIXO_API_KEY={shlex.quote(key)}"
    screen.line(f"settings  export {variables}")
    screen.note("Ctrl-C ends it.", style="dim")


def sample_curl(url: str, key: str) -> str:
    """Return a command which submits a task to a simulator, ready to be pasted."""
    address = f"{url}/api/v1/generateTask/gpt-image-2"
    headers = "-H", f"Authorization: Bearer {key}", "-H", "Content-Type: application/json"
    return shlex.join(["curl", "-X", "POST", address, *headers, "-d", json.dumps(_SAMPLE)])
