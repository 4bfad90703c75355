"""How long do the imports of a program take, against importing what the package stands on?

A fresh interpreter for each, interleaved, and the time that the statements take in it. Bytecode is
compiled by a first round that does not count. ``import apixo_async`` alone would say nothing, as it
imports no client. So there are two measures: the names that a program imports, and those with a
client made, which imports what a client consists of.

There are two baselines: two import statements as they stand, and the names that a program needs
that sends requests and describes one model. The targets are about the second one: ``import
pydantic`` loads little of pydantic, and no package that defines a model can come near it. The
names alone are below it, as httpx2 is imported with the first client.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import benchmarks
from benchmarks import Options, Row
from benchmarks.measuring import interleaved, median

QUESTION: Final = "Import: how long does it take?"
ROUNDS: Final = 11
TARGET: Final = 1.15
PATIENCE: Final = 30.0  # seconds for one interpreter

NAMES: Final = "from apixo_async import AsyncClient, GptImage1"
OURS: Final[Mapping[str, str]] = {
    f"`{NAMES}`": NAMES,
    f"`{NAMES}; AsyncClient(…)`": f"{NAMES}; AsyncClient('test-key')",
}
AIMED_AT: Final = "`httpx2`, `asyncio` and one `pydantic.BaseModel`"
BASELINES: Final[Mapping[str, str]] = {
    "`import httpx2, pydantic`": "import httpx2, pydantic",
    AIMED_AT: (
        "import asyncio, httpx2, pydantic\n"
        "httpx2.AsyncHTTPTransport\n"
        "class Model(pydantic.BaseModel):\n"
        "    number: int\n"
    ),
}

_CLOCKED: Final = """
import time
started = time.perf_counter()
{}
print(time.perf_counter() - started)
"""


def run(options: Options) -> Iterator[Row]:
    """Import each in interpreters of its own."""
    with tempfile.TemporaryDirectory() as cache:
        candidates = {
            name: partial(seconds, statement, cache)
            for name, statement in {**OURS, **BASELINES}.items()
        }
        for compile_all in candidates.values():
            compile_all()
        measured = interleaved(max(ROUNDS, options.rounds), candidates)
    took = {name: median(each) * 1000 for name, each in measured.items()}
    for ours, baseline in itertools.product(OURS, BASELINES):
        ratio = took[ours] / took[baseline]
        yield Row(
            QUESTION,
            f"{ours}, against {baseline}",
            f"{ratio:.2f}x",
            f"{took[ours]:.0f} against {took[baseline]:.0f} ms",
            f"at most {TARGET}x" if baseline == AIMED_AT else "",
            ratio <= TARGET if baseline == AIMED_AT else None,
        )


def seconds(statement: str, cache: str) -> float:
    """Return the seconds that a statement takes in a fresh interpreter, bytecode being cached."""
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    # The package next to this one, as in this process, wherever it was started.
    beside = str(Path(benchmarks.__path__[0]).parent)
    done = subprocess.run(
        [sys.executable, "-c", _CLOCKED.format(statement)],
        env=environment | {"PYTHONPYCACHEPREFIX": cache, "PYTHONPATH": beside},
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    return float(done.stdout)
