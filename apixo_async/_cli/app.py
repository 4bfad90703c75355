"""The `apixo` command: its subcommands, and the one place where errors become exit codes."""

from __future__ import annotations

import logging
import os
import pkgutil
import sys
import traceback
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import typer
from typer.main import get_command

from apixo_async import __version__
from apixo_async._cli import exits
from apixo_async._cli.console import Screen, close_quietly, debugging
from apixo_async._cli.exits import ExitCode
from apixo_async._cli.options import RETRY_FAILED

_CODES = (f"{code:d}: {code.meaning}" for code in ExitCode)
# Some releases of typer keep the line breaks, others fold them: it reads well either way.
_EPILOG = "Exit codes:\n" + ";\n".join(_CODES)
#: Each command: where it is, and its line in `apixo --help`.
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "demo": (
        "demo:demo",
        "See the main job done: 24 tasks, some of which fail, in under 20 s.",
    ),
    "generate": (
        "generate:generate",
        "Make something from a PROMPT, wait for it, and save it. This buys one task.",
    ),
    "run": (
        "run.command:run",
        "Buy all rows of a FILE, and save what comes of it, with a report to look at.",
    ),
    "report": (
        "run.report:report",
        "Write the report of a run at any moment: while it goes on, and after a kill.",
    ),
    "status": (
        "tasks:status",
        "Poll a task once, and print its state. A failed task is an answer: exit code 0.",
    ),
    "wait": (
        "tasks:wait",
        "Wait for a task that was submitted before, here or anywhere else.",
    ),
    "balance": ("tasks:balance", "Print the USD left on the key."),
    "models": (
        "models:models",
        "Show what the documents say of each model: price, times, fields. Sends nothing.",
    ),
    "simulate": (
        "simulate:simulate",
        "Serve a simulator of the API, with a page to watch it. Ctrl-C or SIGTERM end it with 0.",
    ),
    "conform": (
        "conform:conform",
        "Check a service against the contract of the API, with your key: free without --max-cost.",
    ),
    "docs": (
        "docs:docs",
        "List the guides, or show one: as it is in a pipe, laid out on a terminal.",
    ),
    "store": (
        "store:app",
        "See to the purchases that processes keep in a store: list, show, resolve, delete, sweep.",
    ),
}

#: Set by the shell that wants to complete a line; the line is in another variable.
_COMPLETING: Final = "_APIXO_COMPLETE"


def _application(arguments: Sequence[str]) -> typer.Typer:
    """Return the command. Of its subcommands only the called one is imported, as that takes time.

    The others have their names and lines in the help.
    """
    app = typer.Typer(
        name="apixo",
        help="Generate images, video and sound with the APIXO API.\n\n"
        "The API key comes from APIXO_API_KEY or a file, never from an argument. "
        "`apixo demo` needs no key and no network.",
        epilog=_EPILOG,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        callback=_common,
    )
    for name, (place, about) in COMMANDS.items():
        if name not in arguments[:1] and _COMPLETING not in os.environ:
            app.command(name, help=about)(_not_called)
            continue
        found = pkgutil.resolve_name(f"apixo_async._cli.{place}")
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            app.command(name)(found)
    return app


def _not_called() -> None:
    pass


def _print_version(wanted: bool) -> None:
    if wanted:
        Screen().line(f"apixo {__version__}")
        raise typer.Exit


def _common(
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_print_version, help="Print the version."
    ),
) -> None:
    del version


def run(arguments: Sequence[str]) -> int:
    """Run the command with arguments, and return its exit code; errors are lines on stderr."""
    try:
        with _logging():
            code = get_command(_application(arguments)).main(
                args=[_with_value(one) for one in arguments] or ["--help"],
                prog_name="apixo",
                standalone_mode=False,
            )
        sys.stdout.flush()
    except BrokenPipeError:
        close_quietly()
        return ExitCode.OK
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except Exception as error:
        return report(error)
    return code if isinstance(code, int) else ExitCode.OK


def _with_value(argument: str) -> str:
    """Return an argument; --retry-failed alone stands for all, as typer has no optional values."""
    return f"{argument}=all" if argument == RETRY_FAILED else argument


@contextmanager
def _logging() -> Generator[None]:
    """Drop the client's log, which is for programs, unless APIXO_DEBUG asks for it."""
    log, level = logging.getLogger("apixo_async"), logging.getLogger("apixo_async").level
    handler = logging.StreamHandler() if debugging() else logging.NullHandler()
    log.addHandler(handler)
    log.setLevel(logging.DEBUG if debugging() else level)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def report(error: Exception) -> int:
    """Print an error on stderr, and return the exit code that stands for it."""
    screen = Screen()
    if debugging():
        traceback.print_exception(error)
    usage = getattr(error, "format_message", None)
    if usage is not None:
        # Typer's own errors: their base class lives elsewhere from release to release.
        path = getattr(getattr(error, "ctx", None), "command_path", "apixo")
        screen.error(f"{str(usage()).rstrip('.')} (see: {path} --help)")
        return ExitCode.USAGE
    for line in exits.lines(error):
        screen.error(line)
    return exits.exit_code(error)
