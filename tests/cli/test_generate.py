"""What `generate` prints of a result."""

from __future__ import annotations

import pytest

from apixo_async import Result
from apixo_async._cli.console import Screen
from apixo_async._cli.generate import print_result


def test_a_result_without_files_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """A success that names no files is no silence."""
    print_result(Result("task_1", "sora-2", ()), [], Screen())
    out, err = capsys.readouterr()
    assert out == ""
    assert "sora-2/task_1 succeeded" in err
