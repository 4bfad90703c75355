"""What the service saw of each simulated life, as a hash: it changes where behaviour does.

`python -m tests.support.simulation.traces` records them anew; say in the commit why they
changed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from apixo_async.testing import Exchange

#: One file for each way in which Python adds up floats: from 3.12 on, `sum` corrects its errors.
RECORDED = Path(__file__).with_name(f"traces_{'3.12' if sys.version_info >= (3, 12) else '3.11'}")
TRACED = 300  # seeds
#: What else decides in which order a loop runs its callbacks.
LIBRARIES = ("httpx2", "anyio")


def trace_of(log: Sequence[Exchange]) -> str:
    """Return the hash of a log: when what was asked, and how it was answered."""
    lines = (f"{one.at!r} {one.method} {one.path} {one.status}\n" for one in log)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def libraries() -> dict[str, str]:
    """Return the versions of what the traces depend on."""
    return {name: version(name) for name in LIBRARIES}


def recorded() -> tuple[dict[str, str], list[str]]:
    """Return the libraries with which the traces were recorded, and a trace for each seed."""
    first, *traces = RECORDED.read_text("utf-8").splitlines()
    return json.loads(first), traces


def main() -> None:
    """Record the traces."""
    from .life import simulate

    traces = [trace_of(simulate(seed).log) for seed in range(TRACED)]
    RECORDED.write_text("\n".join([json.dumps(libraries()), *traces, ""]), "utf-8")


if __name__ == "__main__":
    main()
