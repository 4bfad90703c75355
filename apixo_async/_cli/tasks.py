"""`apixo status`, `apixo wait` and `apixo balance`: what exists already, from any process."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from apixo_async import Snapshot, TaskRef
from apixo_async._cli import options, session
from apixo_async._cli.console import Screen
from apixo_async._cli.generate import print_result, watch
from apixo_async._text import dollars


def status(
    model: options.Model,
    task_id: options.TaskId,
    as_json: options.AsJson = False,
    key_file: options.KeyFile = None,
    base_url: options.BaseUrl = None,
) -> None:
    """Poll a task once, and print its state. A failed task is an answer: exit code 0."""
    screen = Screen(as_json=as_json)
    access, ref = session.Access(key_file, base_url), TaskRef(model, task_id)

    async def poll() -> Snapshot:
        async with session.connect(access, screen, advise=False) as client:
            return await client.poll(ref)

    snapshot = session.run(poll())
    if screen.as_json:
        # Its own fields last: nothing that the service sends can shadow them.
        known = {"model": model, "task_id": task_id, "state": snapshot.state}
        screen.document({**known, "status": snapshot.raw})
        return
    reason = [said for said in (snapshot.fail_code, snapshot.fail_msg) if said]
    screen.line(": ".join((snapshot.state, *reason)))


def wait(
    model: options.Model,
    task_id: options.TaskId,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Save the files there; without it, print their URLs."),
    ] = None,
    timeout: options.Timeout = None,
    as_json: options.AsJson = False,
    key_file: options.KeyFile = None,
    base_url: options.BaseUrl = None,
) -> None:
    """Wait for a task that was submitted before, here or anywhere else."""
    screen = Screen(as_json=as_json)
    access, ref = session.Access(key_file, base_url), TaskRef(model, task_id)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)

    async def wait_for_it() -> None:
        async with session.connect(access, screen, out=out) as client:
            result = await watch(client.attach(ref), screen, timeout=timeout)
            files = [] if out is None else await client.download(result, out)
        print_result(result, files, screen)

    session.run(wait_for_it())


def balance(
    as_json: options.AsJson = False,
    key_file: options.KeyFile = None,
    base_url: options.BaseUrl = None,
) -> None:
    """Print the USD left on the key."""
    screen = Screen(as_json=as_json)
    access = session.Access(key_file, base_url)

    async def ask() -> Decimal:
        async with session.connect(access, screen) as client:
            return await client.balance()

    left = session.run(ask())
    if screen.as_json:
        screen.document({"balance": left, "currency": "USD"})
    else:
        screen.line(dollars(left))
