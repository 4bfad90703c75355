"""Many tasks at once on real sockets: does each result come, how soon, and at what cost?

The simulator runs in a process of its own; each task takes it about 20 s. The ideal is the moment
at which the last task was over: the wall time of a client that heard of it at once.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2

from apixo_async import AsyncClient, GptImage1, Result, Statistics
from apixo_async._config import DEFAULT_BASE_URL
from apixo_async.testing import serve_process

KEY = "benchmark-key"
TICK = 0.005  # seconds between two ticks of the freeze's measure
DOCUMENTED = 30.0  # seconds that a task of gpt-image-1 takes about


@dataclass
class Flights:
    """How many requests are in flight, and the most there were."""

    now: int = 0
    most: int = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one request for as long as the context lasts."""
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            yield
        finally:
            self.now -= 1
