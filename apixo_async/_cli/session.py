"""One run of the event loop with one client: made from the options, closed without losing an id."""

from __future__ import annotations

import asyncio
import gc
import os
import shlex
import signal
import stat
import sys
import urllib.request
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final, TypeVar

import httpx2
import typer

from apixo_async import (
    AsyncClient,
    ConfigurationError,
    Limits,
    Task,
    TaskRef,
    Timeouts,
    errors,
    events,
)
from apixo_async._cli import exits
from apixo_async._cli.console import Screen
from apixo_async._cli.exits import ExitCode

T = TypeVar("T")

#: A person would rather see an error than watch repeats for as long as a program should try.
_TIMEOUTS: Final = Timeouts(retry=20.0)


@dataclass(frozen=True, slots=True)
class Access:
    """How the account is reached."""

    key_file: Path | None = None
    base_url: str | None = None

    def wait_command(self, ref: TaskRef, out: Path | None = None) -> str:
        """Return the command that goes on with a task, ready to be pasted."""
        words = ["apixo", "wait", ref.model, ref.task_id]
        options = {"--out": out, "--api-key-file": self.key_file, "--base-url": self.base_url}
        for name, value in options.items():
            if value is not None:
                words += [name, str(value)]
        return shlex.join(words)

    def advise(self, ref: TaskRef, out: Path | None, screen: Screen) -> None:
        """Print how to go on with a task that is not over."""
        screen.note(f"{ref.task_id} goes on; to wait for it:")
        screen.note(f"  {self.wait_command(ref, out)}", style="bold")


@asynccontextmanager
async def connect(
    access: Access,
    screen: Screen,
    *,
    out: Path | None = None,
    advise: bool = True,
    limits: Limits | None = None,
    store: str | None = None,
    timeouts: Timeouts | None = None,
    on_event: Callable[[events.Event], None] | None = None,
) -> AsyncGenerator[AsyncClient]:
    """Open a client, and close it; for each task that is not over, say how to go on with it.

    Without `timeouts` and `on_event`, it suits a person who waits in front of it: it gives up soon,
    and prints what makes the wait longer.
    """
    client = AsyncClient(
        find_key(access, screen),
        base_url=access.base_url,
        transport=fastest_transport(),
        limits=limits,
        store=store,
        timeout=timeouts or _TIMEOUTS,
        on_event=on_event or partial(remark, screen),
        on_orphan=partial(orphaned, screen),
    )
    # What is imported by now stays: no collection of garbage, which stops all else, looks at it.
    gc.freeze()
    try:
        yield client
    finally:
        gc.unfreeze()
        try:
            await client.aclose()
        finally:
            # Also after a second Ctrl-C, which cuts the closing short.
            for ref in client.unfinished if advise else ():
                access.advise(ref, out, screen)


def remark(screen: Screen, event: events.Event) -> None:
    """Print what makes the wait longer; what ends it is printed as an error."""
    repeated = (
        isinstance(event, events.SubmitRefused | events.PollFailed) and event.again_in is not None
    )
    if repeated or isinstance(event, events.LimitReached):
        screen.note(str(event), style="yellow")


def orphaned(screen: Screen, orphan: Task | errors.SubmitUncertainError) -> None:
    """Print what became of a submit that was cut short; its task, if any, is advised on anyway."""
    if isinstance(orphan, errors.SubmitUncertainError):
        for line in exits.lines(orphan):
            screen.error(line)


def find_key(access: Access, screen: Screen) -> str | None:
    """Return the key of the file, or None where the client finds one in the environment."""
    if access.key_file is not None:
        return read_key(access.key_file, screen)
    if not os.environ.get("APIXO_API_KEY", "").strip():
        raise ConfigurationError(
            "no API key: set APIXO_API_KEY, or give --api-key-file PATH; without one, try "
            "`apixo simulate`"
        )
    return None


def read_key(path: Path, screen: Screen) -> str:
    """Return the first line of a key file, and warn when others can read it."""
    try:
        key = path.read_text(encoding="utf-8").partition("\n")[0].strip()
    except UnicodeDecodeError:
        # Not chained: the cause would hold the file's bytes.
        raise ConfigurationError(f"{path}: no UTF-8 text; its first line is the key") from None
    if not key:
        raise ConfigurationError(f"{path}: the first line is empty; it is to hold the API key")
    if os.name == "posix" and (readers := path.stat().st_mode & (stat.S_IROTH | stat.S_IRGRP)):
        who = "everybody" if readers & stat.S_IROTH else "its group"
        screen.warning(f"{path} can be read by {who} here: chmod 600 {shlex.quote(str(path))}")
    return key


def fastest_transport() -> httpx2.AsyncBaseTransport | None:
    """Return the aiohttp transport where it is installed and no proxy is set, else None."""
    if {"http", "https", "all"} & set(urllib.request.getproxies_environment()):
        return None
    try:
        from apixo_async.aiohttp import AiohttpTransport
    except (ImportError, ConfigurationError):
        return None
    return AiohttpTransport()


def run(main: Coroutine[object, object, T], *, interrupted: ExitCode = ExitCode.INTERRUPTED) -> T:
    """Run a command on an event loop; SIGTERM ends it as Ctrl-C does.

    What was interrupted ends with the code `interrupted`.

    Raises:
        typer.Exit: A signal ended it. What was open has been closed.
    """
    with terminated_as_interrupted(), asyncio.Runner() as runner:
        try:
            return runner.run(main)
        except KeyboardInterrupt:
            raise typer.Exit(interrupted) from None


@contextmanager
def terminated_as_interrupted() -> Generator[None]:
    """Have SIGTERM do what Ctrl-C does, also where Ctrl-C itself is ignored."""

    def interrupt(_number: int, frame: FrameType | None) -> None:
        handler = signal.getsignal(signal.SIGINT)
        (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        with _ignored_interrupts_blocked():
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _ignored_interrupts_blocked() -> Generator[None]:
    """Keep SIGINT away in another way where it is ignored.

    A shell that runs a script has it ignored for jobs in the background. asyncio then installs no
    handler, which is the one that SIGTERM is to call; with the default handler it does.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN or sys.platform == "win32":
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Which also drops those that came.
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
