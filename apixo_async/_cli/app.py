"""The `apixo` command: its subcommands, and the one place where errors become exit codes."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import typer
from typer.main import get_command

from apixo_async import __version__
from apixo_async._cli import conform, demo, docs, exits, generate, models, simulate, store, tasks
from apixo_async._cli.console import Screen, close_quietly, debugging
from apixo_async._cli.exits import ExitCode
from apixo_async._cli.run import command as bulk
from apixo_async._cli.run import report as reports

_CODES = (f"{code:d}: {code.meaning}" for code in ExitCode)
# Some releases of typer keep the line breaks, others fold them: it reads well either way.
_EPILOG = "Exit codes:\n" + ";\n".join(_CODES)
_COMMANDS: tuple[Callable[..., None], ...] = (
    demo.demo,
    generate.generate,
    bulk.run,
    reports.report,
    tasks.status,
    tasks.wait,
    tasks.balance,
    models.models,
    simulate.simulate,
    conform.conform,
    docs.docs,
)

app = typer.Typer(
    name="apixo",
    help="Generate images, video and sound with the APIXO API.\n\n"
    "The API key comes from APIXO_API_KEY or a file, never from an argument. "
    "`apixo demo` needs no key and no network.",
    epilog=_EPILOG,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in _COMMANDS:
    app.command()(_command)
app.add_typer(store.app, name="store")


def _print_version(wanted: bool) -> None:
    if wanted:
        Screen().line(f"apixo {__version__}")
        raise typer.Exit


@app.callback()
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
            code = get_command(app).main(
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
    return f"{argument}=all" if argument == bulk.RETRY_FAILED else argument


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
