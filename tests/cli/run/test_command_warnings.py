"""Warnings of journals, which a run opens several times."""

from __future__ import annotations

import warnings

import pytest

from apixo_async import JournalWarning
from apixo_async._cli.console import Screen
from apixo_async._cli.run.command import journal_warnings


def test_each_warning_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What the journal warns of is printed once, also where warnings are silenced."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", JournalWarning)
        with journal_warnings(Screen()):
            for text in ("a network file system", "no locks", "a network file system"):
                warnings.warn(JournalWarning(text), stacklevel=1)
    assert capsys.readouterr().err == (
        "apixo: warning: a network file system\napixo: warning: no locks\n"
    )


def test_other_warnings_are_what_they_were() -> None:
    """Whatever else is warned of goes where it went before."""
    with pytest.warns(DeprecationWarning, match="old"), journal_warnings(Screen()):
        warnings.warn("old", DeprecationWarning, stacklevel=1)
