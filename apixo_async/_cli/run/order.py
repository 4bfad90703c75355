"""What one `apixo run` is asked for, and the command that asks for the same again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from apixo_async import ConfigurationError, Limits
from apixo_async._cli.inputs import parse_sets
from apixo_async._cli.rows.question import Terms
from apixo_async._cli.rows.rows import Defaults, Rows, open_rows
from apixo_async._cli.rows.source import Format
from apixo_async._cli.session import Access

#: The names of the two kinds of journal. A folder has one of them: what a simulator made is not
#: to be taken for what was paid for, and no real task is to be asked of a simulator.
_REAL: Final = "run.db"
_SIMULATED: Final = "simulated.db"


class RunOptions(NamedTuple):
    """What one run is asked for.

    Attributes:
        rows: The file of rows, or "-".
        out: The folder of the run.
        terms: What may be bought.
        limits: Those of the account.
        access: How it is reached.
        form: How the rows are written, or None to tell by themselves.
        model: The model of rows that name none.
        sets: `NAME=VALUE` fields of rows that lack them.
        provider: The route, or None.
        attempts: Tasks bought for a row at most.
        resubmit_uncertain: Whether uncertain rows of earlier runs are bought anew.
        simulate: Whether the embedded simulator stands in for the service.
    """

    rows: str
    out: Path
    terms: Terms = Terms()
    limits: Limits = Limits()
    access: Access = Access()
    form: Format | None = None
    model: str | None = None
    sets: Sequence[str] = ()
    provider: str | None = None
    attempts: int = 1
    resubmit_uncertain: bool = False
    simulate: bool = False

    @property
    def journal(self) -> Path:
        """The file that remembers what was bought."""
        return self.out / (_SIMULATED if self.simulate else _REAL)

    def open_rows(self) -> Rows:
        """Make the folder, and find the rows.

        Raises:
            ConfigurationError: The folder cannot be used so, or there are no rows to read.
            OSError: The folder cannot be made or written.
        """
        if self.out.exists() and not self.out.is_dir():
            raise ConfigurationError(f"--out {self.out} is a file; give a folder")
        if self.simulate and (self.out / _REAL).exists():
            raise ConfigurationError(f"{self.out} holds a real run: give --simulate another --out")
        if not self.simulate and (self.out / _SIMULATED).exists():
            raise ConfigurationError(f"{self.out} holds a simulated run: give another --out")
        self.out.mkdir(parents=True, exist_ok=True)
        defaults = Defaults(self.model, parse_sets(self.sets))
        return open_rows(self.rows, out=self.out, form=self.form, defaults=defaults)

    def command(self, rows: Path) -> str:
        """Return the command that asks for this, ready to be pasted.

        Args:
            rows: The file of the rows: what came through a pipe was copied to one.
        """
        given = str(rows)
        words = ["apixo", "run", f"./{given}" if given.startswith("-") else given]
        return shlex.join([*words, *self._options()])

    def command_to_go_on(self, rows: Path) -> str:
        """Return the command that goes on with it, whose word to pay twice held only once."""
        return self._replace(resubmit_uncertain=False).command(rows)

    def _options(self) -> Iterator[str]:
        for name, value in self._values():
            if value is True:
                yield name
            elif value is not None and value is not False:
                yield from (name, str(value))

    def _values(self) -> Iterator[tuple[str, object]]:
        terms, limits, usual = self.terms, self.limits, Limits()
        yield "--out", self.out
        yield "--format", self.form
        yield "--model", self.model
        yield from (("--set", pair) for pair in self.sets)
        yield "--provider", self.provider
        yield "--attempts", self.attempts if self.attempts > 1 else None
        yield "--resubmit-uncertain", self.resubmit_uncertain
        yield "--max-cost", terms.max_cost
        yield from (("--price", f"{model}={usd}") for model, usd in terms.prices.items())
        yield "--yes-unknown-price", terms.yes_unknown_price
        yield "--yes", terms.yes and not self.simulate
        for name in ("concurrent_tasks", "requests_per_minute"):
            value: int = getattr(limits, name)
            option = f"--{name.replace('_', '-')}"
            yield option, value if value != getattr(usual, name) else None
        yield "--simulate", self.simulate
        yield "--api-key-file", self.access.key_file
        yield "--base-url", self.access.base_url
