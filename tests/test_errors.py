"""One tree of errors: drawn as it is, picklable, and caught where callers catch already."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import get_args

import pytest

from apixo_async import errors
from apixo_async.errors import (
    APIStatusError,
    APITimeoutError,
    ApixoError,
    BudgetExceededError,
    CallbackError,
    Category,
    ConfigurationError,
    DownloadError,
    KeyConflictError,
    SubmitUncertainError,
    TaskError,
)


def tree(root: type[ApixoError]) -> Iterator[type[ApixoError]]:
    """Yield an error and all below it that the package defines."""
    yield root
    for cls in root.__subclasses__():
        if cls.__module__.startswith("apixo_async."):
            yield from tree(cls)


def sample(cls: type[ApixoError]) -> ApixoError:
    """Build an error with a value in every attribute."""
    if issubclass(cls, APIStatusError):
        return cls(
            "sora-2 answered 418",
            status=418,
            code=1418,
            message="I am a teapot",
            retry_after=7.5,
            model="sora-2",
            task_id="task_1",
        )
    if issubclass(cls, BudgetExceededError):
        money = {"max_cost": Decimal(5), "spent": Decimal("4.9"), "price": Decimal("0.35")}
        return cls("something costs too much", model="sora-2", task_id="task_1", **money)
    return cls("something happened; do this", model="sora-2", task_id="task_1")


def pickled(protocol: int, error: ApixoError) -> ApixoError:
    """Send an error through pickle."""
    twin: ApixoError = pickle.loads(pickle.dumps(error, protocol))
    return twin


#: Those that name what was submitted, one task, its files or a callback have tests of their own.
OTHERS = (SubmitUncertainError, TaskError, DownloadError, CallbackError)
HERE = [cls for cls in tree(ApixoError) if not issubclass(cls, OTHERS)]
TWINS: dict[str, Callable[[ApixoError], ApixoError]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle{protocol}": partial(pickled, protocol) for protocol in range(6)},
}


@pytest.mark.parametrize("twin_of", TWINS.values(), ids=TWINS.keys())
@pytest.mark.parametrize("cls", HERE, ids=lambda cls: cls.__name__)
def test_a_twin_keeps_everything(
    cls: type[ApixoError], twin_of: Callable[[ApixoError], ApixoError]
) -> None:
    """A copied or pickled error keeps its class, words, arguments, attributes and notes."""
    error = sample(cls)
    error.add_note("seen by a test")
    twin = twin_of(error)
    assert twin is not error
    assert type(twin) is cls
    assert (str(twin), repr(twin), twin.args) == (str(error), repr(error), error.args)
    assert str(twin).startswith(("sora-2", "something"))
    assert vars(twin) == vars(error)
    assert twin.__notes__ == ["seen by a test"]


def test_a_twin_has_no_traceback() -> None:
    """A copy starts without a traceback, so that it can be raised on its own."""
    with pytest.raises(APITimeoutError) as caught:
        raise sample(APITimeoutError)
    assert caught.value.__traceback__ is not None
    assert copy.copy(caught.value).__traceback__ is None


@pytest.mark.parametrize("cls", HERE, ids=lambda cls: cls.__name__)
def test_every_error_carries_model_and_task(cls: type[ApixoError]) -> None:
    """An error says which model and task it is about, where that is known."""
    error = sample(cls)
    assert (error.model, error.task_id) == ("sora-2", "task_1")


@pytest.mark.parametrize(
    ("cls", "category"),
    [
        (ApixoError, "other"),
        (errors.APITimeoutError, "connection"),
        (errors.BadRequestError, "refused"),
        (errors.AuthenticationError, "auth"),
        (errors.InsufficientBalanceError, "balance"),
        (errors.RateLimitError, "throttled"),
        (errors.ResultExpiredError, "download"),
        (BudgetExceededError, "budget"),
    ],
)
def test_what_an_error_is_about(cls: type[ApixoError], category: str) -> None:
    """An error says in one word what it is about, to count and to choose by."""
    assert sample(cls).category == category


def test_every_category_is_listed() -> None:
    """What any class of errors is about is one of the words of `Category`."""
    families, others = get_args(Category)
    listed = {*get_args(families), *get_args(others)}
    assert {cls._category for cls in tree(ApixoError)} <= listed
    assert set(get_args(others)) <= {cls._category for cls in tree(ApixoError)}


def test_model_and_task_may_be_unknown() -> None:
    """An error about no task has None in their place."""
    assert (ApixoError("x").model, ApixoError("x").task_id) == (None, None)
    refused = APIStatusError("x", status=500)
    assert refused.status == 500
    assert (refused.model, refused.task_id) == (None, None)
    assert (refused.code, refused.message, refused.retry_after) == (None, "", None)


@pytest.mark.parametrize("cls", HERE, ids=lambda cls: cls.__name__)
def test_only_a_submit_says_what_was_bought(cls: type[ApixoError]) -> None:
    """An error by itself does not say that nothing was bought; one that sent nothing does."""
    nothing = {ConfigurationError, BudgetExceededError, KeyConflictError}
    assert sample(cls).bought is (False if cls in nothing else None)


@pytest.mark.parametrize(
    ("cls", "caught_as"),
    [(ConfigurationError, ValueError), (APITimeoutError, TimeoutError)],
    ids=lambda cls: cls.__name__,
)
def test_a_second_base_where_people_catch_already(
    cls: type[ApixoError], caught_as: type[Exception]
) -> None:
    """A wrong setting is a ValueError, and what took too long is a TimeoutError."""
    assert issubclass(cls, caught_as)
    assert issubclass(cls, ApixoError)


@pytest.mark.parametrize("cls", [*tree(ApixoError)], ids=lambda cls: cls.__name__)
def test_names_and_words(cls: type[ApixoError]) -> None:
    """Every error ends in Error, has a docstring of its own and does not clash on attributes."""
    assert cls.__name__.endswith("Error")
    assert cls.__doc__
    assert cls.__doc__ != ApixoError.__doc__ or cls is ApixoError


def _drawn() -> dict[str, str | None]:
    """Return the tree of the docstring: each class and the one that it hangs from."""
    docstring = inspect.getdoc(errors)
    assert docstring is not None
    parents: list[str] = []
    drawn: dict[str, str | None] = {}
    for line in docstring.splitlines():
        if (found := re.match(r" {4}((?:│   |    |├── |└── )*)(\w+Error)\b", line)) is None:
            continue
        depth = len(found[1]) // 4
        drawn[found[2]] = parents[depth - 1] if depth else None
        parents[depth:] = [found[2]]
    return drawn


def test_the_tree_is_drawn_as_it_is() -> None:
    """The module's docstring shows every error, below the one that it derives from."""
    # One ends a map's waits and is caught there; loaded or not, nobody else sees it.
    public = [cls for cls in tree(ApixoError) if cls.__name__ != "StoppedError"]
    real = {
        cls.__name__: None if cls is ApixoError else cls.__bases__[0].__name__ for cls in public
    }
    modules = {errors.__name__}
    assert {cls.__module__ for cls in public} == modules
    assert _drawn() == real
