"""The processes of tests that kill bulk runs, and what is left of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import apixo_async

from .map_program import Job

BOUND: Final = 60.0  # seconds that any single step may take
HERE: Final = Path(__file__).parent
PACKAGE: Final = Path(apixo_async.__file__).parents[1]


def started(program: str, options: object) -> subprocess.Popen[str]:
    """Start one of the programs beside this file."""
    extra = {"PYTHONPATH": str(PACKAGE), "APIXO_API_KEY": "test-key"}
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(HERE / program), json.dumps(options)],
        env=os.environ | extra,
        stdout=subprocess.PIPE,
        text=True,
    )


class Sold(NamedTuple):
    """What the service has sold.

    Attributes:
        tasks: Their ids, prompts and times.
        submits: When each came, and when it was over, if it was.
        given_up: Callbacks that were delivered in vain, the last time too.
    """

    tasks: list[tuple[str, str, float]]
    submits: list[tuple[float, float | None]]
    given_up: int

    def prompts(self, before: float = float("inf")) -> Counter[str]:
        """Return how many tasks each prompt had at a time."""
        return Counter(prompt for _, prompt, created in self.tasks if created < before)

    def in_flight(self, life: Life) -> int:
        """Return the submits that reached the service from a life, unanswered when it ended."""
        return sum(
            life.began < at < life.over and (ended is None or ended > life.killed)
            for at, ended in self.submits
        )


@dataclass(frozen=True)
class Shop:
    """A service in a process of its own."""

    url: str

    def sold(self) -> Sold:
        """Ask what it has sold."""
        with urllib.request.urlopen(f"{self.url}/sold", timeout=BOUND) as response:  # http only
            return Sold(**json.load(response))


@contextmanager
def shop(**options: Any) -> Iterator[Shop]:
    """Have a service."""
    with started("map_service.py", options) as process:
        try:
            assert process.stdout is not None
            yield Shop(process.stdout.readline().strip())
        finally:
            process.kill()


class Life:
    """One process of a run.

    Attributes:
        began: When it was started, as the other times on the clock that all processes share.
        killed: When it was killed, or infinity.
        over: When it was known to be over.
        outcomes: What it has said of its items: key, prompt, error and task.
    """

    def __init__(self, job: Job) -> None:
        self.began, self.killed, self.over = time.monotonic(), float("inf"), float("inf")
        self.outcomes: list[list[Any]] = []
        self._times = Counter[str]()
        self._is_mute = False
        self._process = started("map_program.py", asdict(job))
        self._news = threading.Condition()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith("\n"):  # Else it was killed while it spoke.
                word, *more = json.loads(line)
                with self._news:
                    self.outcomes += [more] if more else []
                    self._times[word] += 1
                    self._news.notify_all()
        with self._news:
            self._is_mute = True
            self._news.notify_all()

    def wait_until(self, word: str, times: int, bound: float = BOUND) -> bool:
        """Wait until it has said something so often; say whether it has."""
        with self._news:
            self._news.wait_for(lambda: self._times[word] >= times or self._is_mute, bound)
        return self._times[word] >= times

    def ends(self, within: float = BOUND) -> int | None:
        """Wait for its end; return its status, or None if it lives on."""
        try:
            status = self._process.wait(within)
        except subprocess.TimeoutExpired:
            return None
        self._listener.join(BOUND)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self.over = min(self.over, time.monotonic())
        return status

    def kill(self) -> int | None:
        """Kill it, and return its status."""
        self.killed = time.monotonic()
        self._process.kill()
        return self.ends()

    def interrupt(self) -> int | None:
        """Have it end as by Ctrl-C."""
        self._process.send_signal(signal.SIGINT)
        return self.ends()


@contextmanager
def living(job: Job) -> Iterator[Life]:
    """Have a process, which ends with the context at the latest."""
    life = Life(job)
    try:
        yield life
    finally:
        life.kill()


class Row(NamedTuple):
    """One item of a journal."""

    key: str
    state: str
    purchases: int
    task_id: str | None
    prompt: str


def rows(path: Path) -> list[Row]:
    """Return the items of a journal that nobody has open; the file must be whole."""
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        if not connection.execute("SELECT name FROM sqlite_master").fetchall():
            return []
        found = connection.execute(
            "SELECT key, state, purchases, task_id, payload FROM item ORDER BY row"
        ).fetchall()
    finally:
        connection.close()
    return [Row(*columns, json.loads(payload)["prompt"]) for *columns, payload in found]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
