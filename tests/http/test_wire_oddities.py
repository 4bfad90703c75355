"""Whatever bytes and headers come, reading them raises nothing."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async._http.wire import (
    Answer,
    created_epoch,
    parse_date,
    parse_retry_after,
    read_balance,
    read_envelope,
    read_result,
    read_status,
    read_task_id,
)
from apixo_async._types import TaskRef

REF = TaskRef("gpt-image-1", "task_12345678")
LIVELY = settings(max_examples=150, deadline=None, database=None)
NOW = datetime(2015, 10, 21, 7, 28, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0.5", 0.5),
        ("0", 0.0),
        ("-5", 0.0),
        ("", None),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("1e999", None),
        ("Wed, 21 Oct 2015 07:29:30 GMT", 90.0),
        ("Wed, 21 Oct 2015 09:29:30 +0200", 90.0),
        ("Wed, 21 Oct 2015 07:29:30 -0000", 90.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
        ("Wed, 21 Oct 99999999999 07:28:00 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 +99999999999999999999", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    """Seconds or an HTTP date, never negative, and None for anything else."""
    assert parse_retry_after(value, NOW) == seconds
    elsewhere = NOW.astimezone(timezone(timedelta(hours=9)))
    assert parse_retry_after(value, elsewhere) == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("1445412480", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 1_792_567_680.0),
        ("Wed, 21 Oct 2026 09:28:00 +0200", 1_792_567_680.0),
        ("Wed, 21 Oct 2026 07:28:00", 1_792_567_680.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("Wed, 01 Jan 2020 00:00:00 GMT", None),
        ("Wed, 01 Jan 2020 00:00:01 GMT", 1_577_836_801.0),
        ("Thu, 31 Dec 2099 23:59:59 GMT", 4_102_444_799.0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", None),
        ("Wed, 21 Oct 2226 07:28:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", None),
        ("Wed, 21 Oct 99999999999 07:28:00 GMT", None),
    ],
)
def test_date(value: str | None, seconds: float | None) -> None:
    """A `Date` header is seconds since the epoch, and None where it is no time of an answer."""
    assert parse_date(value) == Answer(200, b"", date_header=value).date == seconds


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
NAMES = ["taskId", "state", "resultJson", "failCode", "failMsg", "createTime", "costTime", "error"]


@LIVELY
@given(
    st.binary(max_size=60)
    | st.builds(
        lambda code, message, data: json.dumps(
            {"code": code, "message": message, "data": data}
        ).encode(),
        json_values,
        json_values,
        json_values | st.dictionaries(st.sampled_from(NAMES), json_values),
    )
)
def test_nothing_is_too_odd_to_read(body: bytes) -> None:
    """Whatever bytes come, reading them raises nothing."""
    found = read_envelope(body)
    if found is None:
        return
    assert isinstance(found.words, str)
    task_id, balance, status = read_task_id(found), read_balance(found), read_status(found)
    assert task_id is None or task_id.strip() == task_id != ""
    assert balance is None or balance.is_finite()
    if status is not None:
        result = read_result(status, REF)
        assert all(result.urls)
        assert result.expires_at is None or result.created_at is not None
        assert isinstance(created_epoch(status), float | None)


@LIVELY
@given(
    st.text(max_size=40)
    | st.builds(
        "Wed, {} {} {} {}:{}:{} {}".format,
        st.integers(0, 99),
        st.sampled_from(["Oct", "Foo"]),
        st.integers(0, 10**12),
        *[st.integers(0, 99)] * 3,
        st.text(alphabet="+-0123456789GMT", max_size=22),
    )
)
def test_no_header_is_too_odd(value: str) -> None:
    """Whatever a `Retry-After` or a `Date` holds, it is a number of seconds from 0 up or None."""
    date = parse_date(value)
    assert date is None or 1.5e9 < date < 4.2e9
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds < math.inf
