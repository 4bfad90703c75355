"""A bulk run, as a program that tests start and kill: its one argument is a `Job` as JSON.

Each line of its output is a JSON array: ``["bought"]``, ``["read"]`` when the last input was read,
and ``["outcome", key, prompt, error, task]``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from apixo_async import AsyncClient, GptImage2, Limits, Polling, TaskSubmitted
from apixo_async.aiohttp import AiohttpTransport

SECRET: Final = "a secret that no test gives away"


@dataclass(frozen=True)
class Job:
    """What to run.

    Attributes:
        url: Where the service is.
        items: How many inputs there are.
        words: First words of prompts, one after the other; "" is none.
        journal: The journal, or None.
        results: A file of the keys that have results, for a run without a journal.
        port: Where callbacks come in, or None.
        files: Where results are saved, or None.
        resubmit: Whether to buy anew what is uncertain.
        dies: A fail point such as "intend:after-commit", or None.
        after: How often that has to be passed.
        swift: Whether aiohttp carries the requests, and not httpx2.
        name: Stands in every prompt.
        rate: Requests a minute.
        tasks: Tasks at once.
        pause: Seconds until the first poll of a task; later ones follow in half of that.
    """

    url: str
    items: int
    words: tuple[str, ...] = ("",)
    journal: str | None = None
    results: str | None = None
    port: int | None = None
    files: str | None = None
    resubmit: bool = False
    dies: str | None = None
    after: int = 1
    swift: bool = False
    name: str = "castle"
    rate: int = 15_000
    tasks: int = 1_000
    pause: float = 1.0

    def orders(self) -> Iterator[tuple[str | None, str]]:
        """Yield keys and prompts: a tenth are twins without keys, another tenth twins with."""
        for number in range(self.items):
            word = self.words[number % len(self.words)]
            twin = number % 10 in (0, 5)
            prompt = f"{self.name} " + (f"twin {number // 30}" if twin else str(number))
            has_key = number % 10 == 5 or (not twin and number % 3 == 0)
            yield f"row {number}" if has_key else None, f"{word} {prompt}".strip()


def say(*words: object) -> None:
    """Write a line at once: whoever is killed has said it."""
    os.write(1, json.dumps(words).encode() + b"\n")


def die_at(point: str, after: int) -> Callable[[str], None]:
    """Return a hook of the journal that ends this process at once."""
    passed = 0

    def hook(here: str) -> None:
        nonlocal passed
        passed += here == point
        if passed == after:
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


def read(job: Job, ended: set[str]) -> Iterator[tuple[str | None, GptImage2]]:
    """Yield the inputs of a run; where keys of results are kept, every input has one."""
    for number, (key, prompt) in enumerate(job.orders()):
        picture = GptImage2(mode="text-to-image", prompt=prompt)
        if job.results is None:
            yield key, picture
        elif str(number) not in ended:
            yield str(number), picture
    say("read")


@asynccontextmanager
async def receiving(port: int) -> AsyncIterator[Any]:
    """Serve a receiver."""
    from aiohttp import web

    from apixo_async.webhooks import WebhookReceiver

    receiver = WebhookReceiver(f"http://127.0.0.1:{port}/apixo", SECRET)
    app = web.Application()
    app.add_routes(receiver.aiohttp_routes())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        yield receiver
    finally:
        await runner.cleanup()


async def run(job: Job) -> None:
    """Buy everything, and say what comes of it."""
    if job.dies is not None:
        from apixo_async.journal._journal import Journal

        hook = die_at(job.dies, job.after)
        Journal.open = partial(Journal.open, hook=hook)  # type: ignore[method-assign]  # `map` gives it none
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving(job.port)) if job.port else None
        client = await stack.enter_async_context(
            AsyncClient(
                base_url=job.url,
                transport=AiohttpTransport() if job.swift else None,
                limits=Limits(job.tasks, job.rate),
                polling=Polling.fixed(job.pause, job.pause / 2),
                webhooks=receiver,
                on_event=lambda event: say("bought") if isinstance(event, TaskSubmitted) else None,
            )
        )
        ended = ended_before(job.results)
        outcomes = await stack.enter_async_context(
            client.map(
                read(job, ended),
                journal=job.journal,
                download_to=job.files,
                resubmit_uncertain=job.resubmit,
            )
        )
        async for outcome in outcomes:
            keep(job.results, outcome.key)
            error, task = outcome.error, outcome.task
            prompt = None if outcome.input is None else outcome.input.prompt
            name = None if error is None else type(error).__name__
            say("outcome", outcome.key, prompt, name, None if task is None else task.id)


def ended_before(results: str | None) -> set[str]:
    """Return the keys that have a result."""
    if results is None or not Path(results).exists():
        return set()
    return set(Path(results).read_text("utf-8").splitlines())


def keep(results: str | None, key: str) -> None:
    """Note, durably, that a key has its result."""
    if results is not None:
        with Path(results).open("a", encoding="utf-8") as file:
            file.write(f"{key}\n")
            file.flush()
            os.fsync(file.fileno())


if __name__ == "__main__":
    logging.getLogger("apixo_async").setLevel(logging.ERROR)  # What is uncertain is expected.
    with suppress(KeyboardInterrupt):
        asyncio.run(run(Job(**json.loads(sys.argv[1]))))
