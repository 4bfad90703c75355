"""What is told of a run while it goes on."""

from __future__ import annotations

import pytest

from apixo_async import ApixoError, AuthenticationError, OtherModel, Outcome, events
from apixo_async._cli.console import Screen
from apixo_async._cli.run.live_view import Notices


def outcome(error: ApixoError | None) -> Outcome:
    """Return what became of a row."""
    return Outcome("k", OtherModel("m", prompt="x"), None, None, error, 1)


class Watched(Screen):
    """A screen that somebody looks at."""

    __slots__ = ()

    @property
    def live(self) -> bool:
        """Say so."""
        return True


def test_one_event_of_a_kind_is_told_in_half_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """A thousand tasks that meet the same outage are one line; what ends it is another."""
    now = [0.0]
    notices = Notices(Screen(), lambda: now[0])
    for _ in range(1_000):
        notices.event(events.ServiceDown("m", "HTTP 500"))
    notices.event(events.ServiceRecovered("m", 3.0))
    notices.event(events.TaskAttached("m", "t"))
    notices.event(events.SubmitRefused("m", "no credit", None))
    notices.event(events.SubmitRefused("m", "busy", 1.0))
    now[0] = 30.0
    notices.event(events.ServiceDown("m", "HTTP 502"))
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 4
    assert "HTTP 500" in told[0]
    assert "busy" in told[2]
    assert "HTTP 502" in told[3]


def test_a_pipe_is_not_filled_with_failures(capsys: pytest.CaptureFixture[str]) -> None:
    """The first twenty are lines; then one says where the others will be."""
    notices = Notices(Screen())
    for number in range(100):
        notices.outcome(f"line {number}", outcome(ApixoError("lost")))
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 21
    assert told[3].startswith("line 3: ")
    assert "results.jsonl" in told[20]


def test_what_ends_the_run_is_no_notice(capsys: pytest.CaptureFixture[str]) -> None:
    """A row that succeeded needs no line, nor does an error that the run itself ends with."""
    wrong_key = AuthenticationError("no", status=401, code=401, message="no")
    for error in (None, wrong_key):
        Notices(Screen()).outcome("line 1", outcome(error))
    assert capsys.readouterr().err == ""


def test_a_person_sees_the_latest(capsys: pytest.CaptureFixture[str]) -> None:
    """Below the picture are the newest four; nothing is printed beside it."""
    notices = Notices(Watched())
    for number in range(100):
        notices.outcome(f"line {number}", outcome(ApixoError("lost\x1b[2J")))
    assert [text.plain[:7] for text in notices.shown] == [
        "line 96",
        "line 97",
        "line 98",
        "line 99",
    ]
    assert "\x1b" not in notices.shown[0].plain
    assert capsys.readouterr().err == ""


def test_a_reader_that_left_stops_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody reads the lines any more, the run goes on without them."""

    def gone(*_: object, **__: object) -> None:
        raise BrokenPipeError

    screen = Screen()
    monkeypatch.setattr(screen.err, "print", gone)
    Notices(screen).outcome("line 1", outcome(ApixoError("lost")))
