"""What one run is asked for, the command that asks for the same again, and where it buys."""

from __future__ import annotations

import random
import shlex
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Final, NamedTuple

from apixo_async import (
    AsyncClient,
    ConfigurationError,
    FailureCategory,
    Limits,
    Provider,
    Timeouts,
)
from apixo_async._cli import session
from apixo_async._cli.console import Screen
from apixo_async._cli.inputs import parse_sets
from apixo_async._cli.rows.question import Terms
from apixo_async._cli.rows.rows import Defaults, Rows, open_rows
from apixo_async._cli.rows.source import Format
from apixo_async._cli.session import Access
from apixo_async.errors import FAILURE_CATEGORIES
from apixo_async.events import Event

#: The names of the two kinds of journal. A folder has one of them: what a simulator made is not
#: to be taken for what was paid for, and no real task is to be asked of a simulator.
_REAL: Final = "run.db"
_SIMULATED: Final = "simulated.db"
JOURNALS: Final = (_REAL, _SIMULATED)


class Simulation(NamedTuple):
    """The embedded simulator in the place of the service."""

    speed: float = 50.0
    balance: Decimal = Decimal(100_000)
    #: Replays ids and durations; None for others each time, as ids are in the journal.
    seed: int | None = None
    #: The failCode and failMsg of each task in their order, or None for one that succeeds.
    fails: Sequence[tuple[str, str] | None] = ()
    #: Where what was bought is noted, or None for the folder of the run.
    journal: Path | None = None


class RunOptions(NamedTuple):
    """What one run is asked for."""

    rows: str
    out: Path
    terms: Terms = Terms()
    limits: Limits = Limits()
    access: Access = Access()
    #: How the rows are written, or None to find out by their name or first line.
    form: Format | None = None
    model: str | None = None
    sets: Sequence[str] = ()
    provider: Provider | None = None
    attempts: int = 1
    resubmit_uncertain: bool = False
    simulate: bool = False
    simulation: Simulation = Simulation()
    #: What other processes of the account share, or None; no simulated run does.
    store: str | None = None
    #: A template of the files' names, or None for the task's id and number.
    name: str | None = None
    #: Categories of failures of earlier runs that are bought again.
    retry: tuple[FailureCategory, ...] = ()
    #: Fields of rows that are left out, and those that are only kept for the report.
    ignore: Sequence[str] = ()
    keep: Sequence[str] = ()

    @property
    def journal(self) -> Path:
        """The file that remembers what was bought."""
        if self.simulate and self.simulation.journal:
            return self.simulation.journal
        return self.out / (_SIMULATED if self.simulate else _REAL)

    def make_folder(self) -> None:
        """Make the folder, unless it is there."""
        if self.out.exists() and not self.out.is_dir():
            raise ConfigurationError(f"--out {self.out} is a file; give a folder")
        if self.simulate and (self.out / _REAL).exists():
            raise ConfigurationError(f"{self.out} holds a real run: give --simulate another --out")
        if not self.simulate and (self.out / _SIMULATED).exists():
            raise ConfigurationError(f"{self.out} holds a simulated run: give another --out")
        self.out.mkdir(parents=True, exist_ok=True)

    def open_rows(self) -> Rows:
        """Make the folder, and find the rows."""
        self.make_folder()
        given, ignore, keep = parse_sets(self.sets), frozenset(self.ignore), frozenset(self.keep)
        defaults = Defaults(self.model, given, ignore, keep)
        return open_rows(self.rows, out=self.out, form=self.form, defaults=defaults)

    def command(self, rows: Path) -> str:
        """Return the command that asks for this, ready to be pasted.

        Args:
            rows: The file of the rows: what came through a pipe was copied to one.
        """
        given = str(rows)
        words = ["apixo", "run", f"./{given}" if given.startswith("-") else given]
        for name, value in self._options():
            if value is not None and value is not False:
                words += [name] if value is True else [name, str(value)]
        return shlex.join(words)

    def command_to_go_on(self, rows: Path) -> str:
        """Return the command that goes on; what is to be bought anew was meant for this run."""
        return self._replace(resubmit_uncertain=False, retry=()).command(rows)

    def _options(self) -> Iterator[tuple[str, object]]:
        terms, limits, usual = self.terms, self.limits, Limits()
        yield "--out", self.out
        yield "--format", self.form
        yield "--model", self.model
        yield from (("--set", pair) for pair in self.sets)
        for option, names in (("--ignore", self.ignore), ("--keep", self.keep)):
            yield from ((option, name) for name in names)
        yield "--provider", self.provider
        yield "--attempts", self.attempts if self.attempts > 1 else None
        yield "--name", self.name
        named = "" if self.retry == FAILURE_CATEGORIES else f"={','.join(self.retry)}"
        yield f"--retry-failed{named}", bool(self.retry)
        yield "--resubmit-uncertain", self.resubmit_uncertain
        yield "--max-cost", terms.max_cost
        yield from (("--price", f"{model}={usd}") for model, usd in terms.prices.items())
        yield "--yes-unknown-price", terms.yes_unknown_price
        yield "--yes-unknown-model", terms.yes_unknown_model
        yield "--yes", terms.yes and not self.simulate
        for name in ("concurrent_tasks", "requests_per_minute"):
            value: int = getattr(limits, name)
            option = f"--{name.replace('_', '-')}"
            yield option, value if value != getattr(usual, name) else None
        # A URL may hold a password: it is not printed, and belongs in APIXO_STORE.
        yield "--store", None if self.store is None or "://" in self.store else self.store
        yield "--simulate", self.simulate
        yield "--api-key-file", self.access.key_file
        yield "--base-url", self.access.base_url


_KEY: Final = "simulated-key"
_KEPT: Final = 1_000  # exchanges that the simulator remembers


def open_client(
    options: RunOptions, screen: Screen, on_event: Callable[[Event], None]
) -> AbstractAsyncContextManager[AsyncClient]:
    """Open a client of the account, or of a simulator."""
    if options.simulate:
        return _simulated(options, on_event)
    # No person waits for each request of a run: it repeats for as long as a program should.
    return session.connect(
        options.access,
        screen,
        advise=False,
        limits=options.limits,
        store=options.store,
        timeouts=Timeouts(),
        on_event=on_event,
    )


@asynccontextmanager
async def _simulated(
    options: RunOptions, on_event: Callable[[Event], None]
) -> AsyncGenerator[AsyncClient]:
    from apixo_async.testing import Fault, Simulator, serve

    simulation, limits = options.simulation, options.limits
    seed = random.getrandbits(32) if simulation.seed is None else simulation.seed
    simulator = Simulator(
        seed=seed,
        speed=simulation.speed,
        key=_KEY,
        balance=simulation.balance,
        concurrent_tasks=limits.concurrent_tasks,
        requests_per_minute=limits.requests_per_minute,
        longest_side=512,
        keep_log=_KEPT,
    )
    simulator.faults.submit(
        *(None if fail is None else Fault.task_fails(*fail) for fail in simulation.fails)
    )
    async with (
        serve(simulator) as url,
        AsyncClient(
            _KEY,
            base_url=url,
            limits=limits,
            polling=simulator.polling,
            proxy="",  # Whatever the environment says: this address is of this machine.
            seed=simulation.seed,
            on_event=on_event,
        ) as client,
    ):
        yield client


async def ask_balance(options: RunOptions, screen: Screen) -> Decimal:
    """Return what is left on the key before anything is bought."""
    if options.simulate:
        return options.simulation.balance
    async with session.connect(options.access, screen, advise=False) as client:
        return await client.balance()
