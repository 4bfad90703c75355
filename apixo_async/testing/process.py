"""The service on a port of a second process: a client under test has its own to itself."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Collection, Generator, Mapping
from typing import IO, Final, TypedDict, Unpack, cast

from apixo_async.testing.options import KEY, known_models

KEY_VARIABLE: Final = "APIXO_SIMULATOR_KEY"
_STARTING = 30.0  # seconds until the second process must have printed its base URL
_ENDING = 5.0  # seconds that it may take to end after SIGTERM


class ProcessOptions(TypedDict, total=False):
    """The options of `Simulator` that fit on a command line, with host, port and latency."""

    host: str
    port: int
    seed: int
    speed: float
    key: str
    balance: float
    no_credit: str
    models: Collection[str]
    concurrent_tasks: int
    requests_per_minute: int
    retry_after: float
    failure_rate: float
    lost_callbacks: float
    early_callbacks: float
    duplicate_callbacks: float
    processing_callbacks: float
    callback_delay: float
    callback_spread: float
    fetch_images: bool
    result_lifetime: float
    keep_log: int
    latency: float


@contextlib.contextmanager
def serve_process(**options: Unpack[ProcessOptions]) -> Generator[str, None, None]:
    """Run ``python -m apixo_async.testing`` for as long as the context lasts; yield its base URL.

    What happened there is at ``GET /_simulator/log``, ``/_simulator/callbacks`` and
    ``/_simulator/statistics``. ``latency`` is in seconds, for every call of the API; the other
    options are those of `Simulator`.

    Raises:
        RuntimeError: The process ended, or printed no base URL within 30 s.
        ValueError: A name in ``models`` could not stand in a path.
    """
    given = dict(options)
    if "models" in options:
        given["models"] = ",".join(sorted(known_models(options["models"])))
    key = str(given.pop("key", KEY))
    command = [sys.executable, "-m", "apixo_async.testing", *_arguments(given)]
    environment = {**os.environ, KEY_VARIABLE: key, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield _first_line(process)
        finally:
            process.terminate()
            try:
                process.wait(_ENDING)
            except subprocess.TimeoutExpired:
                process.kill()


def _arguments(options: Mapping[str, object]) -> list[str]:
    return [_argument(name.replace("_", "-"), value) for name, value in options.items()]


def _argument(name: str, value: object) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name}={value}"


def _first_line(process: subprocess.Popen[str]) -> str:
    # Pipes have no deadline of their own that works everywhere; a thread and a queue have one.
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    stdout = cast("IO[str]", process.stdout)
    threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
    try:
        line = lines.get(timeout=_STARTING).strip()
    except queue.Empty:
        line = ""
    if not line.startswith("http"):
        raise RuntimeError(f"the simulator's process did not start: {line or 'it said nothing'}")
    return line
