"""Processes that buy with keys from one store: a program of tests, whose argument is a `Job`.

It imports everything once, and then forks a process for each line that it reads: so starting one
takes milliseconds, and a process that lives for a second spends it buying. It prints their ids.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Bytes at the end of the file of keys, from which another process's is picked.
_RECENT: Final = 2_000


@dataclass(frozen=True)
class Job:
    """What each process does.

    Attributes:
        url: Where the service is.
        store: Words for the store.
        keys: A file of the keys that were asked for.
        slots: Tasks at once, of all of them.
        requests: Requests a minute, of all of them.
        at_once: Keys that one process asks for at the same time.
        lease: Seconds of its lease.
        until: When it ends by itself, in seconds since the epoch.
        first: Seconds until the first poll of a task.
        interval: Seconds between later ones.
    """

    url: str
    store: str
    keys: str
    slots: int
    requests: int
    at_once: int
    lease: float
    until: float
    first: float
    interval: float


async def work(job: Job, number: int) -> None:
    """Buy until the time is up: three of four times by a key of its own."""
    from apixo_async import ApixoError, AsyncClient, FluxKontext, Limits, Polling

    rng, keys = random.Random(number), Path(job.keys)

    def key() -> str:
        if rng.random() < 0.25 and keys.exists():
            with keys.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _RECENT))
                recent = file.read().split()[1:]
            if recent:
                return rng.choice(recent).decode()
        own = f"k-{number}-{rng.randrange(10**12)}"
        with keys.open("ab") as file:
            file.write(f"{own}\n".encode())
        return own

    async with AsyncClient(
        "test-key",
        base_url=job.url,
        store=job.store,
        limits=Limits(job.slots, job.requests),
        polling=Polling.fixed(job.first, job.interval),
        seed=number,
    ) as client:

        async def buy() -> None:
            while time.time() < job.until:
                one = key()
                try:
                    await client.generate(FluxKontext(mode="pro", prompt=one), key=one)
                except ApixoError as error:
                    sys.stderr.write(f"{one}: {error!r}\n")
                    await asyncio.sleep(0.05)

        await asyncio.gather(*(buy() for _ in range(job.at_once)))


def main() -> None:
    """Fork a process for each line."""
    job = Job(**json.loads(sys.argv[1]))
    # What is built at import takes it from here; it is no setting of the client's.
    import apixo_async._limits.leased as leased

    leased.LEASE = job.lease  # type: ignore[misc]  # a test's, to see leases end
    import apixo_async._downloads.downloader
    import apixo_async._submit.keyed
    import apixo_async.stores._postgres
    import apixo_async.stores._sqlite

    if job.store.startswith("postgresql"):
        import psycopg

        assert psycopg
    assert apixo_async
    logging.basicConfig(level=logging.ERROR)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody waits for them.
    gc.freeze()
    for number, _ in enumerate(sys.stdin):
        child = os.fork()
        if child == 0:
            asyncio.run(work(job, number))
            os._exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
