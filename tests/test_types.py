"""What callers are handed is frozen, small, and says no more than it should."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from apixo_async._types import (
    POLLED,
    Delivery,
    Estimate,
    Limits,
    Result,
    Snapshot,
    Statistics,
    TaskRef,
    as_seconds,
    estimate,
)
from apixo_async.errors import ConfigurationError

CREATED = datetime(2026, 1, 9, 13, 33, 30, 929_000, tzinfo=UTC)
URL = "https://r2.apixo.ai/xxx.png"
RESULT = Result(
    task_id="task_1",
    model="gpt-image-1",
    urls=(URL,),
    raw={"resultUrls": [URL], "seed": 7},
    created_at=CREATED,
    completed_at=CREATED + timedelta(seconds=41.388),
    cost_time=41.0,
)
VALUES = [
    Delivery("https://example.com/hook", "auto"),
    Estimate(Decimal("1.05"), 3, 1),
    Limits(3, 10),
    RESULT,
    Snapshot("task_1", "gpt-image-1", "processing", {"state": "processing"}),
    Statistics(1_000, 10_000, slots_used=4),
    TaskRef("gpt-image-1", "task_1"),
]
each_value = pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)


@each_value
def test_values_are_frozen(value: Limits) -> None:
    """Nobody can change a value that was handed out."""
    name = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, "other")
    with pytest.raises((AttributeError, TypeError)):
        value.news = 1  # type: ignore[attr-defined]  # that it cannot be set is the point


@each_value
def test_values_travel(value: object) -> None:
    """Values are equal to their copies and pickles, and hash alike."""
    for twin in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert twin == value
        assert hash(twin) == hash(value)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(0, 0.0), (3, 3.0), (2.5, 2.5), (-1, -1.0), (1e308, 1e308)],
    ids=repr,
)
def test_as_seconds(given: float, seconds: float) -> None:
    """A finite number is a number of seconds, whatever its type."""
    assert as_seconds(given) == seconds
    assert isinstance(as_seconds(given), float)


@pytest.mark.parametrize(
    "given",
    [
        None,
        True,
        False,
        "3",
        b"3",
        Decimal(3),
        timedelta(1),
        math.nan,
        math.inf,
        -math.inf,
        10**400,
        [],
        1j,
    ],
    ids=lambda value: repr(value)[:12],
)
def test_what_is_no_number_of_seconds(given: object) -> None:
    """Anything else is none, neither True nor a text nor what no float can hold."""
    assert as_seconds(given) is None


def test_limits_of_the_documents() -> None:
    """Without a word, the limits are 1,000 tasks and 10,000 requests a minute."""
    assert Limits() == Limits(concurrent_tasks=1_000, requests_per_minute=10_000)
    assert Limits(1, 1).requests_per_minute == 1


@pytest.mark.parametrize("field", ["concurrent_tasks", "requests_per_minute"])
@pytest.mark.parametrize("given", [0, -1, 1.0, True, "10", None, math.inf], ids=repr)
def test_limits_below_one(field: str, given: object) -> None:
    """A limit is a whole number from 1 up; the error names the field and what was given."""
    with pytest.raises(ConfigurationError, match=rf"{field}={given!r}; a whole number from 1 up"):
        Limits(**{field: given})  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("field", ["model", "task_id"])
@pytest.mark.parametrize("given", ["", " \n", None, 7, b"x", "task_\ud800"], ids=ascii)
def test_a_ref_is_two_texts(field: str, given: object) -> None:
    """A reference is made of two texts that a URL can hold, and says which one is not."""
    parts = {"model": "gpt-image-1", "task_id": "task_1", field: given}
    with pytest.raises(ConfigurationError, match=f"TaskRef: {field}="):
        TaskRef(**parts)  # type: ignore[arg-type]  # wrong on purpose


def test_a_ref_reads_as_a_path() -> None:
    """A reference shows model and id."""
    assert str(TaskRef("gpt-image-1", "任务/1")) == "gpt-image-1/任务/1"


def test_a_ref_is_a_key() -> None:
    """References of the same task are one key of a dict."""
    assert {TaskRef("m", "1"): 1, TaskRef("m", "1"): 2, TaskRef("n", "1"): 3} == {
        TaskRef("m", "1"): 2,
        TaskRef("n", "1"): 3,
    }


def test_results_expire() -> None:
    """The URLs of a result last 15 days from its creation."""
    assert RESULT.expires_at == datetime(2026, 1, 24, 13, 33, 30, 929_000, tzinfo=UTC)
    assert RESULT.ref == TaskRef("gpt-image-1", "task_1")


@pytest.mark.parametrize("created", [None, datetime.max.replace(tzinfo=UTC)], ids=str)
def test_nobody_knows_when_a_result_expires(created: datetime | None) -> None:
    """Without a creation time, or with an absurd one, there is no expiry."""
    assert dataclasses.replace(RESULT, created_at=created).expires_at is None


def test_what_the_service_sent_is_not_shown() -> None:
    """The raw object may hold anything, so that no repr shows it."""
    assert "seed" not in repr(RESULT)
    snapshot = Snapshot("task_1", "m", "success", {"prompt": "a secret castle"})
    assert repr(snapshot) == "Snapshot(task_id='task_1', model='m', state='success')"


def test_a_result_shows_its_images() -> None:
    """In a notebook a result is its images; hostile URLs become no markup and no script."""
    urls = (URL, 'https://x/"><script>alert(1)</script>', "javascript:alert(2)", "http://x/&y")
    shown = Result("<b>", "m", urls)._repr_html_()
    assert shown.count("<img ") == 3
    assert f'<a href="{URL}" ' in shown
    assert f'<img src="{URL}" ' in shown
    assert "m/&lt;b&gt;" in shown
    assert "http://x/&amp;y" in shown
    assert "<script" not in shown
    assert "javascript" not in shown


def test_a_result_may_have_no_images() -> None:
    """A result without URLs shows its task alone."""
    assert Result("task_1", "m", ())._repr_html_() == "<div>m/task_1</div>"
    assert (Result("t", "m", ()).raw, Result("t", "m", ()).cost_time) == ({}, None)


def test_an_estimate_counts_what_has_no_price() -> None:
    """Prices add up exactly; inputs without one are counted and not taken for free."""
    assert estimate([Decimal("0.1"), None, Decimal("0.2")]) == Estimate(Decimal("0.3"), 2, 1)
    assert estimate([]) == Estimate(Decimal(0), 0, 0)


def test_statistics_begin_at_zero() -> None:
    """A client that did nothing yet has its limits and zeroes."""
    counts = dataclasses.asdict(Statistics(7, 9))
    assert counts.pop("slots_limit") == 7
    assert counts.pop("requests_limit") == 9
    assert counts.pop("uncertain_entries") is None
    assert set(counts.values()) == {0}


def test_polling_is_the_usual_delivery() -> None:
    """Without options there is no callback, and no provider is named."""
    assert Delivery() == POLLED
    assert (POLLED.callback_url, POLLED.provider) == (None, None)
