"""All rows of a file, read one by one as often as they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from apixo_async import ConfigurationError, Input
from apixo_async._cli.rows.formats import Format
from apixo_async._cli.rows.lines import Problem, lines
from apixo_async._cli.rows.readers import Raw, read
from apixo_async._cli.rows.row import NO_DEFAULTS, Defaults, Row, row_of
from apixo_async._cli.rows.source import Source, Stamp, find_source


class Rows:
    """The rows of a source. Memory is that of one row, however many there are.

    The file may not change between two readings, nor during the second one: what was checked
    and agreed to is what is bought.

    Args:
        source: The file.
        defaults: What rows that do not say it themselves are given.
    """

    __slots__ = ("_stamp", "defaults", "source")

    def __init__(self, source: Source, defaults: Defaults) -> None:
        self.source = source
        self.defaults = defaults
        self._stamp: Stamp | None = None

    def read(self) -> Iterator[Row | Problem]:
        """Yield the rows in order, and a problem in the place of each that is bad.

        Raises:
            ConfigurationError: The file has changed since the first reading began.
            OSError: It can no longer be read.
        """
        with self.source.path.open("rb") as file:
            self._stamp = self._stamp or Stamp.of(file)
            for raw in read(self.source.format, lines(file)):
                row = raw if isinstance(raw, Problem) else self._row(raw)
                self._check_unchanged(file)
                yield row
            self._check_unchanged(file)

    def _row(self, raw: Raw) -> Row | Problem:
        return row_of(raw, self.source.format, self.defaults)

    def _check_unchanged(self, file: BinaryIO) -> None:
        if Stamp.of(file) != self._stamp:
            raise ConfigurationError(
                f"{self.source.name} has changed since it was checked; run the same command again:"
                " what is bought already is not bought again"
            )

    def entries(self) -> Iterator[tuple[str | None, Input]]:
        """Yield the key, or None, and the input of each row, once all rows are checked.

        Raises:
            ConfigurationError: The file has changed since then, or a row is bad after all.
            OSError: It can no longer be read.
        """
        for row in self.read():
            if isinstance(row, Problem):
                raise ConfigurationError(f"{self.source.name}, {row}")
            yield row.key, row.input


def open_rows(
    given: str, *, out: Path, form: Format | None = None, defaults: Defaults = NO_DEFAULTS
) -> Rows:
    """Find the rows of a file, or of stdin, and how they are written.

    Args:
        given: A path, or "-" for stdin, which is first copied into `out`.
        out: The folder of the run.
        form: How they are written, or None to tell by the name or the first line.
        defaults: What rows that do not say it themselves are given.

    Raises:
        ConfigurationError: There are no rows to read; the message says what to do.
        OSError: The copy of stdin cannot be written.
    """
    source = find_source(given, out, form)
    if source.format is Format.PLAIN and defaults.model is None:
        raise ConfigurationError(f"{source.name} holds plain prompts: give --model for them")
    return Rows(source, defaults)
