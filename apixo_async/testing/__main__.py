"""Serve a simulator until it is interrupted: ``python -m apixo_async.testing --help``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import signal
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from apixo_async.testing.faults import Fault
from apixo_async.testing.options import KEY
from apixo_async.testing.process import KEY_VARIABLE
from apixo_async.testing.server import serve_forever
from apixo_async.testing.simulator import Simulator

_KEPT: Final = 10_000  # exchanges that a served simulator keeps by default: it may run for days


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; the first line of output is the base URL."""
    options = _parser().parse_args(arguments)
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(_serve(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m apixo_async.testing",
        description="A simulator of the APIXO service on a port. The first line of output is its "
        f"base URL, which is also the page to watch it on. Its key is that of {KEY_VARIABLE}, "
        f"else {KEY!r}.",
        argument_default=argparse.SUPPRESS,  # what is not given has the default of Simulator
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--speed", type=float, help="divides durations and delays")
    parser.add_argument("--balance", type=Decimal, help="USD")
    parser.add_argument("--no-credit", choices=("402", "400"))
    parser.add_argument("--models", type=_names, help="such as a,b: others are 404")
    parser.add_argument("--concurrent-tasks", type=int)
    parser.add_argument("--requests-per-minute", type=int)
    parser.add_argument("--retry-after", type=float, help="seconds, for the header of a 429")
    parser.add_argument("--failure-rate", type=float, help="0 to 1")
    for part in ("lost", "early", "duplicate", "processing"):
        parser.add_argument(f"--{part}-callbacks", type=float, help="0 to 1")
    parser.add_argument("--callback-delay", type=float, help="seconds, before speed")
    parser.add_argument("--callback-spread", type=float, help="seconds more, drawn")
    parser.add_argument(
        "--fetch-images",
        action=argparse.BooleanOptionalAction,
        help="fetch image_urls from hosts of this machine; bad ones fail their task",
    )
    parser.add_argument("--result-lifetime", type=float, help="seconds")
    parser.add_argument("--keep-log", type=int, default=_KEPT, help="exchanges")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds for each API call")
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


async def _serve(options: argparse.Namespace) -> None:
    settings = vars(options)
    host, port, latency = (settings.pop(name) for name in ("host", "port", "latency"))
    simulator = Simulator(key=os.environ.get(KEY_VARIABLE) or KEY, **settings)
    if latency > 0:
        simulator.faults.during(-math.inf, math.inf, Fault.delay(latency))
    serving = asyncio.current_task()
    assert serving is not None
    with contextlib.suppress(NotImplementedError):  # Windows ends the process by itself
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    await serve_forever(simulator, host, port, started=lambda url: print(url, flush=True))


if __name__ == "__main__":
    main()
