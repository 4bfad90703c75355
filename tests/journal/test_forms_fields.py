from __future__ import annotations

from datetime import UTC, datetime

import pytest

from apixo_async.journal._forms import fields_of, inner, moment, text, texts, truth, whole


@pytest.mark.parametrize("stored", ["", "{", "[]", "3", "null", '"x"'])
def test_no_object(stored: str) -> None:
    """What is no JSON object is an error, not an empty one."""
    with pytest.raises(ValueError, match=r"no JSON object|Expecting"):
        fields_of(stored)


FIELDS = fields_of(
    '{"text": "a", "whole": 3, "truth": false, "texts": ["a", 1, "b"], "inner": {"x": 1}, '
    '"moment": "2026-11-21T10:00:00+02:00", "naive": "2026-11-21T08:00:00", "null": null}'
)


def test_values_of_the_right_type() -> None:
    """A value of the type that is asked for is returned; of a list, its texts."""
    assert text(FIELDS, "text") == "a"
    assert whole(FIELDS, "whole") == 3
    assert truth(FIELDS, "truth") is False
    assert texts(FIELDS, "texts") == ("a", "b")
    assert inner(FIELDS, "inner") == {"x": 1}
    eight = datetime(2026, 11, 21, 8, tzinfo=UTC)
    assert moment(FIELDS, "moment") == moment(FIELDS, "naive") == eight
    assert moment(FIELDS, "moment").tzinfo is UTC  # type: ignore[union-attr]  # it is not None


@pytest.mark.parametrize("name", [*FIELDS, "missing"])
def test_values_of_another_type_read_as_missing(name: str) -> None:
    """A value of another type, null or none at all reads as missing."""
    if name != "text":
        assert text(FIELDS, name) is None or name in {"moment", "naive"}
    if name != "whole":
        assert whole(FIELDS, name) is None
    if name != "truth":
        assert truth(FIELDS, name) is None
    if name != "texts":
        assert texts(FIELDS, name) == ()
    if name != "inner":
        assert inner(FIELDS, name) == {}
    if name not in {"moment", "naive"}:
        assert moment(FIELDS, name) is None


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_a_time_beyond_the_calendar(at: str) -> None:
    """A time that UTC cannot write reads as missing, too."""
    assert moment({"at": at}, "at") is None
