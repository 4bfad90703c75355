"""The exit codes of `apixo`, and the one line that stands for each error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from functools import cache
from typing import Final, Self, TypeAlias

from apixo_async._text import field_lines, one_line


class ExitCode(IntEnum):
    """What the command ends with: a promise to scripts, and its meaning in `apixo --help`."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "done"
    DEFECT = 1, "a defect of apixo itself; APIXO_DEBUG=1 shows the traceback"
    USAGE = 2, "wrong usage, configuration or input; nothing was sent"
    REFUSED = 3, "refused by the service: key, balance, permission, request, unknown task"
    FAILED = 4, "the task failed"
    NO_ANSWER = 5, "no usable answer, or not in time"
    UNCERTAIN = 6, "uncertain submit: a task may have been bought; it is not sent again"
    NOT_SAVED = 7, "the result could not be saved"
    RATE_LIMITED = 8, "rate-limited for longer than apixo waits"
    JOURNAL = 9, "the journal of a run could not be read or written"
    BUDGET = 10, "the next task would have cost more than --max-cost"
    DIFFERS = 11, "the service differs from the contract that was checked"
    INTERRUPTED = 130, "ended by Ctrl-C or SIGTERM"


_Codes: TypeAlias = tuple[tuple[type[BaseException], ExitCode], ...]
_Advice: TypeAlias = tuple[tuple[type[BaseException], str], ...]


# Imports are in functions here, since most runs of the command end without an error.


@cache
def _codes() -> _Codes:
    """Return the codes of errors: the first row that an error is an instance of decides."""
    from pydantic import ValidationError

    from apixo_async import errors
    from apixo_async._cli.report.replacing import ReportError

    return (
        (errors.ConfigurationError, ExitCode.USAGE),
        (errors.RateLimitError, ExitCode.RATE_LIMITED),
        (errors.InternalServerError, ExitCode.NO_ANSWER),
        (errors.APIStatusError, ExitCode.REFUSED),
        (errors.APIConnectionError, ExitCode.NO_ANSWER),
        (errors.SubmitUncertainError, ExitCode.UNCERTAIN),
        (errors.PresumedNotBoughtError, ExitCode.UNCERTAIN),
        (errors.TaskFailedError, ExitCode.FAILED),
        (errors.TaskNotFoundError, ExitCode.REFUSED),
        (errors.TaskError, ExitCode.NO_ANSWER),
        (errors.DownloadError, ExitCode.NOT_SAVED),
        (errors.JournalError, ExitCode.JOURNAL),
        (errors.StoreError, ExitCode.JOURNAL),
        (errors.KeyConflictError, ExitCode.USAGE),
        (errors.BudgetExceededError, ExitCode.BUDGET),
        (errors.ApixoError, ExitCode.DEFECT),
        (ValidationError, ExitCode.USAGE),
        (ReportError, ExitCode.NOT_SAVED),
        (OSError, ExitCode.USAGE),
        (KeyboardInterrupt, ExitCode.INTERRUPTED),
    )


@cache
def _advice() -> _Advice:
    """Return what to do next, where the error cannot say it in the words of the command line."""
    from apixo_async import errors

    return (
        (
            errors.AuthenticationError,
            "is APIXO_API_KEY, or the file given with --api-key-file, the right key?",
        ),
        (
            errors.SubmitUncertainError,
            "look at your account before you run this again: the task may exist and be charged",
        ),
    )


_EXTRA_OF_MODULE: Final[Mapping[str, str]] = dict.fromkeys(
    ("starlette", "uvicorn", "PIL"), "simulator"
)


def exit_code(error: BaseException) -> ExitCode:
    """Return the exit code that an error stands for."""
    if _missing_extra(error):
        return ExitCode.USAGE
    return next((code for cls, code in _codes() if isinstance(error, cls)), ExitCode.DEFECT)


def lines(error: BaseException) -> Iterator[str]:
    """Yield an error as one line; an input that is wrong in several fields, a line for each."""
    from pydantic import ValidationError

    from apixo_async.errors import ApixoError

    if isinstance(error, ValidationError):
        yield from field_lines(error)
    elif extra := _missing_extra(error):
        yield one_line(f"{error}: python -m pip install 'apixo-async[{extra}]'")
    elif isinstance(error, OSError) and error.strerror and not isinstance(error, ApixoError):
        yield one_line(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    elif exit_code(error) is ExitCode.DEFECT:
        yield one_line(
            f"unexpected {type(error).__name__}: {error} (APIXO_DEBUG=1 shows the traceback)"
        )
    else:
        yield one_line(str(error) or type(error).__name__)
    yield from (advice for cls, advice in _advice() if isinstance(error, cls))


def _missing_extra(error: BaseException) -> str | None:
    if not isinstance(error, ModuleNotFoundError):
        return None
    return _EXTRA_OF_MODULE.get(str(error.name).partition(".")[0])
