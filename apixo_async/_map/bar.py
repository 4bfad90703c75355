"""One bar for a map, in a terminal or in a notebook, through whichever of rich or tqdm is there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Protocol, cast

from apixo_async._map.progress import Progress
from apixo_async.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.progress import TaskID


class Bar(Protocol):
    """What is drawn of a map."""

    def show(self, progress: Progress) -> None:
        """Draw these counts, unless others were drawn just now."""
        ...

    def close(self) -> None:
        """Draw the last counts, and nothing more. It may be called again."""
        ...


def check_progress(given: object) -> bool:
    """Return whether a bar is wanted.

    Raises:
        ConfigurationError: It is, and there is nothing to draw it; or something else was given.
    """
    if not isinstance(given, bool):
        raise ConfigurationError(f"progress: {given!r} given; True or False")
    if given and _drawn_by() is None:
        raise ConfigurationError(
            "progress=True needs rich or tqdm: `pip install rich` (it is part of "
            "apixo-async[cli]), or in a notebook `pip install tqdm ipywidgets`"
        )
    return given


def open_bar(total: int | None) -> Bar:
    """Return a bar. Where output goes to neither a terminal nor a notebook, it draws nothing.

    Args:
        total: How many inputs there are, or None where that is not known.
    """
    return _TqdmBar(total) if _drawn_by() == "tqdm" else _RichBar(total)


def in_notebook() -> bool:
    """Return True if this runs in a kernel of Jupyter."""
    return "ipykernel" in sys.modules


def _drawn_by() -> str | None:
    names = ("tqdm", "rich") if in_notebook() else ("rich", "tqdm")
    return next((name for name in names if find_spec(name) is not None), None)


def _ended(progress: Progress) -> int:
    return progress.read - progress.in_progress


def _words(progress: Progress) -> str:
    missing = _ended(progress) - progress.succeeded
    words = (
        (missing, f"{missing} without a result"),
        (progress.spent, f"${progress.spent:.2f}"),
        (progress.unpriced, f"{progress.unpriced} of unknown price"),
    )
    return ", ".join(said for count, said in words if count)


class _RichBar:
    def __init__(self, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bars

        console = Console(stderr=True)
        self._bars = Bars(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}"),
            TimeElapsedColumn(),
            *([] if total is None else [TimeRemainingColumn(), TextColumn("left")]),
            console=console,
            disable=not (console.is_terminal or console.is_jupyter),
            # What is printed meanwhile goes above the bar; but not what goes to a file.
            redirect_stdout=sys.stdout.isatty() or console.is_jupyter,
        )
        self._bars.start()
        self._task: TaskID = self._bars.add_task("", total=total, words="")

    def show(self, progress: Progress) -> None:
        self._bars.update(self._task, completed=_ended(progress), words=_words(progress))

    def close(self) -> None:
        if not self._bars.disable:  # Rich before 14 writes an empty line for one that is.
            self._bars.stop()


class _Tqdm(Protocol):
    n: float

    def set_postfix_str(self, s: str, refresh: bool) -> None: ...
    def update(self, n: float) -> object: ...
    def close(self) -> None: ...


class _MakeTqdm(Protocol):
    def __call__(self, **options: object) -> _Tqdm: ...


#: None has tqdm draw in terminals only. In a notebook it would not count stderr as one.
_DISABLED: Final[Mapping[bool, bool | None]] = {True: False, False: None}


class _TqdmBar:
    def __init__(self, total: int | None) -> None:
        # It has no annotations, and may not be installed where types are checked.
        make = cast("_MakeTqdm", import_module("tqdm.auto").tqdm)
        self._bar = make(total=total, unit="input", disable=_DISABLED[in_notebook()])

    def show(self, progress: Progress) -> None:
        self._bar.set_postfix_str(_words(progress), refresh=False)
        self._bar.update(_ended(progress) - self._bar.n)

    def close(self) -> None:
        self._bar.close()
