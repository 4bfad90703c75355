"""How a run ended, from what its rows came to."""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from apixo_async import (
    ApixoError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    DownloadError,
    OtherModel,
    Outcome,
    Progress,
    SubmitUncertainError,
    TaskFailedError,
    TaskNotFoundError,
    TaskRef,
)
from apixo_async._cli.console import Screen
from apixo_async._cli.exits import ExitCode
from apixo_async._cli.run.buying import RunResult
from apixo_async._cli.run.live_view import Notices

INPUT = OtherModel("m", prompt="x")
FAILED = TaskFailedError(
    "failed", ref=TaskRef("m", "t"), fail_code="X", fail_msg=None, family="timeout", retryable=True
)
UNCERTAIN = SubmitUncertainError(
    "lost", model="m", input=INPUT, sent_at=datetime(2026, 1, 1, tzinfo=UTC)
)
UNSAVED = DownloadError("the disk is full")
BAD = BadRequestError("bad", status=400, code=400, message="bad")
BUDGET = BudgetExceededError("x", max_cost=Decimal(1), spent=Decimal(1), price=Decimal(1))


def outcome(error: ApixoError | None, *, resumed: bool = False) -> Outcome:
    """Return what became of a row."""
    return Outcome("k", INPUT, None, None, error, 1, resumed=resumed)


def after(*errors: ApixoError | None, rows: int | None = None) -> RunResult:
    """Return a run whose rows came to this."""
    result = RunResult(len(errors) if rows is None else rows, {"k": 3})
    notices = Notices(Screen())
    for error in errors:
        result.note(outcome(error), notices)
    result.progress = Progress(read=len(errors))
    return result


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ((None, None), ExitCode.OK),
        ((None, FAILED), ExitCode.FAILED),
        ((FAILED, UNSAVED), ExitCode.NOT_SAVED),
        ((UNSAVED, UNCERTAIN, FAILED), ExitCode.UNCERTAIN),
        ((BAD, FAILED), ExitCode.FAILED),
        ((BAD,), ExitCode.REFUSED),
        ((TaskNotFoundError("x", ref=TaskRef("m", "t")),), ExitCode.REFUSED),
        ((ApixoError("a defect"),), ExitCode.DEFECT),
    ],
)
def test_the_gravest_end_of_a_row_decides(
    errors: tuple[ApixoError | None, ...], code: ExitCode
) -> None:
    """A run that saw all of its rows ends with what asks most of its reader."""
    result = after(*errors)
    assert (result.code, result.exit_word) == (code, "complete")


def test_what_ended_the_buying_decides_before_that() -> None:
    """A wrong key, or the most that it may cost, is what the run ends with."""
    result = after(FAILED)
    result.error = AuthenticationError("no", status=401, code=401, message="no")
    assert (result.code, result.exit_word) == (ExitCode.REFUSED, "stopped")
    result.error = BUDGET
    assert (result.code, result.exit_word) == (ExitCode.BUDGET, "stopped at --max-cost")


def test_an_interrupted_run_has_rows_left() -> None:
    """A signal that came when all rows were over changes nothing; else the run is interrupted."""
    over = after(None)
    over.signal = signal.SIGINT
    assert (over.code, over.exit_word) == (ExitCode.OK, "complete")
    no_turn = ApixoError("nothing was bought: stopped")
    no_turn.bought = False
    for result in (after(None, rows=2), after(None, no_turn)):
        result.signal = signal.SIGINT
        assert (result.code, result.exit_word) == (ExitCode.INTERRUPTED, "interrupted")
    unfinished = after(None)
    unfinished.signal = signal.SIGTERM
    unfinished.progress = Progress(read=1, in_progress=1)
    assert unfinished.code is ExitCode.INTERRUPTED


def test_only_this_run_makes_news(capsys: pytest.CaptureFixture[str]) -> None:
    """A failure of an earlier run counts, and is not told again; one of this run is told."""
    result, notices = RunResult(3, {"k": 3}), Notices(Screen())
    result.note(outcome(FAILED, resumed=True), notices)
    result.note(outcome(BUDGET), notices)
    assert capsys.readouterr().err == ""
    result.note(outcome(FAILED), notices)
    assert capsys.readouterr().err == "line 3: failed\n"
    assert result.codes[ExitCode.FAILED] == 2
    assert (result.finished, result.failed, result.others) == (2, {"timeout": 2}, {"budget": 1})
    RunResult(1, {}).note(outcome(UNSAVED), notices)
    assert capsys.readouterr().err == "key k: the disk is full\n"


def test_reasons_are_kept_that_no_journal_has() -> None:
    """Why files are missing, or nothing was bought, is known to this run alone."""
    assert after(UNSAVED).failures["k"].code == "DownloadError"
    assert after(BAD).failures["k"].code == "BadRequestError"
    assert after(FAILED, UNCERTAIN, None).failures == {}
