"""A callback's error says how to answer, and survives a pickle."""

from __future__ import annotations

import pickle

import pytest

from apixo_async import ApixoError
from apixo_async.webhooks import CallbackError


@pytest.mark.parametrize(("status", "word"), [(404, "token"), (400, "names no task")])
def test_an_error_of_a_callback(status: int, word: str) -> None:
    """It is one of the package's errors, names what is wrong, and pickles."""
    error = CallbackError(status)
    assert isinstance(error, ApixoError)
    assert isinstance(error, ValueError)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.status, str(again)) == (CallbackError, status, str(error))
    assert word in str(error)
    assert error.bought is None
