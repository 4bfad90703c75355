"""Exit codes and the line for each error."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from apixo_async import errors, inputs
from apixo_async._cli import exits
from apixo_async._cli.exits import ExitCode
from apixo_async._map.buyer import StoppedError
from apixo_async._types import TaskRef
from apixo_async.webhooks import CallbackError

REF = TaskRef("gpt-image-1", "task_1")


def status_error(cls: type[errors.APIStatusError], status: int) -> errors.APIStatusError:
    """Make an error of the service."""
    return cls(f"{status}: the service's words", status=status)


def uncertain() -> errors.SubmitUncertainError:
    """Make an uncertain submit."""
    wanted = inputs.OtherModel("sora-2", prompt="x")
    sent_at = datetime(2026, 1, 1, tzinfo=UTC)
    return errors.SubmitUncertainError("lost", model="sora-2", input=wanted, sent_at=sent_at)


def failed() -> errors.TaskFailedError:
    """Make a failed task."""
    return errors.TaskFailedError(
        "task_1 failed: CONTENT_VIOLATION",
        ref=REF,
        fail_code="CONTENT_VIOLATION",
        fail_msg="no",
        family="content",
        retryable=False,
    )


CODES = [
    (errors.ConfigurationError("no key"), ExitCode.USAGE),
    (errors.ClientClosedError("closed"), ExitCode.DEFECT),
    (errors.PollerDiedError("died"), ExitCode.DEFECT),
    (errors.JournalError("the disk is full"), ExitCode.JOURNAL),
    (errors.StoreError("the database is away"), ExitCode.JOURNAL),
    (errors.KeyConflictError("another input", key="k"), ExitCode.USAGE),
    (
        errors.BudgetExceededError(
            "enough", max_cost=Decimal(1), spent=Decimal(1), price=Decimal("0.35")
        ),
        ExitCode.BUDGET,
    ),
    (errors.APIConnectionError("no answer"), ExitCode.NO_ANSWER),
    (errors.APITimeoutError("too late"), ExitCode.NO_ANSWER),
    (status_error(errors.BadRequestError, 400), ExitCode.REFUSED),
    (status_error(errors.AuthenticationError, 401), ExitCode.REFUSED),
    (status_error(errors.InsufficientBalanceError, 402), ExitCode.REFUSED),
    (status_error(errors.PermissionDeniedError, 403), ExitCode.REFUSED),
    (status_error(errors.NotFoundError, 404), ExitCode.REFUSED),
    (status_error(errors.RateLimitError, 429), ExitCode.RATE_LIMITED),
    (status_error(errors.InternalServerError, 503), ExitCode.NO_ANSWER),
    (uncertain(), ExitCode.UNCERTAIN),
    (failed(), ExitCode.FAILED),
    (errors.TaskNotFoundError("gone", ref=REF), ExitCode.REFUSED),
    (errors.WaitTimeoutError("late", ref=REF), ExitCode.NO_ANSWER),
    (errors.TaskAbandonedError("old", ref=REF), ExitCode.NO_ANSWER),
    (errors.PresumedNotBoughtError("nothing", ref=REF), ExitCode.UNCERTAIN),
    (CallbackError(404), ExitCode.DEFECT),
    (errors.DownloadError("disk"), ExitCode.NOT_SAVED),
    (errors.ResultExpiredError("expired"), ExitCode.NOT_SAVED),
    (FileNotFoundError(2, "No such file or directory", "key.txt"), ExitCode.USAGE),
    (ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn"), ExitCode.USAGE),
    (KeyboardInterrupt(), ExitCode.INTERRUPTED),
    (RuntimeError("a defect"), ExitCode.DEFECT),
    (ValueError("a defect too: inputs have been checked before"), ExitCode.DEFECT),
]


@pytest.mark.parametrize(("error", "code"), CODES, ids=lambda value: type(value).__name__)
def test_each_error_has_its_code(error: BaseException, code: ExitCode) -> None:
    """Every error that the package raises ends the command with its documented code."""
    assert exits.exit_code(error) is code


def test_no_error_of_the_package_is_forgotten() -> None:
    """The table above holds every concrete class of the error tree."""
    tree = [errors.ApixoError]
    for cls in tree:
        tree += cls.__subclasses__()
    # The last one ends the waits of a map and is caught there.
    abstract = {errors.ApixoError, errors.APIStatusError, errors.TaskError, StoppedError}
    ours = {cls for cls in tree if cls.__module__.startswith("apixo_async")}
    assert ours - abstract <= {type(error) for error, _ in CODES}


@pytest.mark.parametrize(("error", "code"), CODES, ids=lambda value: type(value).__name__)
def test_an_error_is_said_in_single_lines(error: BaseException, code: ExitCode) -> None:
    """No error prints an empty line, a line break, or nothing at all."""
    said = list(exits.lines(error))
    assert said
    assert all(line.strip() and "\n" not in line for line in said)
    assert ("APIXO_DEBUG=1" in said[0]) == (code is ExitCode.DEFECT)


def test_each_code_has_a_meaning() -> None:
    """Codes are whole numbers that a shell can take, each with a meaning of its own."""
    assert [int(code) for code in ExitCode] == [*range(12), 130]
    assert len({code.meaning for code in ExitCode}) == len(ExitCode)


def test_a_wrong_input_has_a_line_for_each_field() -> None:
    """A wrong input names each field, its value and what is allowed, once each."""
    with pytest.raises(ValidationError) as caught:
        inputs.from_dict("gpt-image-1", {"prompt": "x" * 10_001, "num_images": 3, "size": "big"})
    said = list(exits.lines(caught.value))
    assert exits.exit_code(caught.value) is ExitCode.USAGE
    assert [line.partition(":")[0] for line in said] == [
        "prompt", "num_images", "size"
    ]  # fmt: skip
    assert said[0].endswith("...' given)") or said[0].endswith("... given)")
    assert len(said[0]) < 160
    assert said[1] == "num_images: input should be 1, 2 or 4 (3 given)"
    assert said[2] == "size: is no field of this model ('big' given)"


def test_an_input_wrong_as_a_whole_has_one_line() -> None:
    """A rule over several fields is said without the whole input behind it."""
    with pytest.raises(ValidationError) as caught:
        inputs.from_dict("gpt-image-2", {"prompt": "x", "mode": "image-to-image"})
    said = list(exits.lines(caught.value))
    assert said == ["image_urls: [] given; mode image-to-image takes 1 to 16 URLs"]


def test_a_nested_field_is_named_by_its_path() -> None:
    """A wrong item of a list is named by the field and its place."""

    class Listed(BaseModel):
        urls: list[int]

    with pytest.raises(ValidationError) as caught:
        Listed.model_validate({"urls": [1, "x"]})
    assert next(exits.lines(caught.value)).startswith("urls.1: ")


def test_a_file_error_names_the_file() -> None:
    """An error of the file system says which file, in the system's words."""
    with pytest.raises(OSError, match="No such file") as caught:
        Path("/nowhere/key.txt").read_text()
    assert list(exits.lines(caught.value)) == ["/nowhere/key.txt: No such file or directory"]
    assert list(exits.lines(OSError(28, "No space left"))) == ["No space left"]


@pytest.mark.parametrize(
    ("module", "extra"),
    [("uvicorn.config", "simulator"), ("starlette", "simulator"), ("PIL", "simulator")],
)
def test_a_missing_extra_is_named(module: str, extra: str) -> None:
    """A module of an extra that is not installed tells the command that installs it."""
    (line,) = exits.lines(ModuleNotFoundError(f"No module named {module!r}", name=module))
    assert f"pip install 'apixo-async[{extra}]'" in line


def test_an_unknown_missing_module_is_a_defect() -> None:
    """A missing module of no extra is a defect, not a matter of extras."""
    error = ModuleNotFoundError("No module named 'nonsense'", name="nonsense")
    assert exits.exit_code(error) is ExitCode.DEFECT
    assert "nonsense" in next(exits.lines(error))


def test_advice_follows_where_the_error_cannot_give_it() -> None:
    """A wrong key and an uncertain submit are followed by what to do."""
    wrong_key = list(exits.lines(status_error(errors.AuthenticationError, 401)))
    assert "APIXO_API_KEY" in wrong_key[1]
    assert "look at your account" in list(exits.lines(uncertain()))[1]
