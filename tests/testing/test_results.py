"""Results: whole files, ranges of them, and their end."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from apixo_async.testing import Simulator, results
from apixo_async.testing.exchanges import Call, Reply
from apixo_async.testing.results import Results
from apixo_async.testing.tasks import SimulatedTask


def task(name: str = "task_1", **fields: object) -> SimulatedTask:
    """Return a task that ended at 30 with two results."""
    given = {"prompt": "p", **fields}
    ends = 30.0
    return SimulatedTask(
        name, "m", given, "m", "a", Decimal(0), 0.0, 1.0, ends, 29.0, images=2, file_type="png"
    )


TASK = task(aspect_ratio="3:2")


def store(expired_status: Any = 404) -> Results:
    """Return the files of a simulator that keeps them for 100 s."""
    simulator = Simulator(longest_side=96, result_lifetime=100.0, expired_status=expired_status)
    return Results(simulator.options)


def get(now: float = 30.0, index: int = 0, status: int = 404, **headers: str) -> Reply:
    """Ask for a file of the task."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return store(status).reply(TASK, index, Call("GET", "/", headers=named), now)


WHOLE = get().body
LENGTH = len(WHOLE)


def test_a_whole_file_comes_with_its_type_and_tag() -> None:
    """A plain request is answered with the whole file."""
    reply = get()
    assert reply.status == 200
    assert reply.headers == {
        "content-type": "image/png",
        "accept-ranges": "bytes",
        "etag": '"task_1-0"',
    }
    assert reply.body.startswith(b"\x89PNG")
    assert reply.body.endswith(b"IEND\xaeB`\x82")


def test_each_index_is_another_picture() -> None:
    """The results of one task differ."""
    assert get(index=1).body != WHOLE


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-", 0, LENGTH),
        ("bytes=10-", 10, LENGTH),
        ("bytes=10-19", 10, 20),
        ("bytes=10-99999999", 10, LENGTH),
        ("bytes=5-5", 5, 6),
        ("Bytes=0-0", 0, 1),
        ("bytes=-5", LENGTH - 5, LENGTH),
        ("bytes=-99999999", 0, LENGTH),
    ],
)
def test_a_range_is_answered_in_part(asked: str, start: int, stop: int) -> None:
    """206 brings exactly the bytes asked for, and says which."""
    reply = get(range=asked)
    assert reply.status == 206
    assert reply.body == WHOLE[start:stop]
    assert reply.headers["content-range"] == f"bytes {start}-{stop - 1}/{LENGTH}"


@pytest.mark.parametrize("asked", [f"bytes={LENGTH}-", f"bytes={LENGTH}-{LENGTH}", "bytes=-0"])
def test_a_range_of_nothing_is_416(asked: str) -> None:
    """A range outside the file is refused, with the file's length."""
    reply = get(range=asked)
    assert (reply.status, reply.body) == (416, b"")
    assert reply.headers["content-range"] == f"bytes */{LENGTH}"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=-",
        "bytes=9-3",
        "bytes=5-4",
        f"bytes={LENGTH + 9}-{LENGTH + 3}",
        "bytes=0-1,5-6",
        "bytes=0-1, -5",
        "bytes=0-9,",
        "bytes=a-b",
        pytest.param("bytes=" + "9" * 5000 + "-", id="long"),
        "lines=1-2",
        "",
    ],
)
def test_what_is_no_single_range_brings_the_whole(asked: str) -> None:
    """Invalid, several and other ranges are ignored, as RFC 9110 allows or demands."""
    reply = get(range=asked)
    assert (reply.status, reply.body) == (200, WHOLE)
    assert "content-range" not in reply.headers


def test_a_range_is_for_get_alone() -> None:
    """HEAD describes the whole file, whatever range it names."""
    call = Call("HEAD", "/", headers={"range": "bytes=0-1"})
    reply = store().reply(TASK, 0, call, 30.0)
    assert (reply.status, reply.body) == (200, WHOLE)


def test_a_range_of_another_version_brings_the_whole() -> None:
    """If-Range with another tag brings the whole file, with the same tag the range."""
    assert get(range="bytes=5-", if_range='"other"').status == 200
    assert get(range="bytes=5-", if_range='"task_1-0"').status == 206


@pytest.mark.parametrize(("now", "status"), [(29.9, 404), (30.0, 200), (129.9, 200), (130.0, 410)])
def test_files_are_there_from_the_end_for_their_lifetime(now: float, status: int) -> None:
    """Before a task's end there is no file, after its lifetime it is gone."""
    assert get(now, status=410).status == status


def test_a_missing_file_is_an_object_stores_404() -> None:
    """Unknown tasks and indexes, and expired files, are XML errors as object stores write them."""
    unknown = store().reply(None, 0, Call("GET", "/"), 30.0)
    assert unknown == get(index=2) == get(now=1000.0)
    assert unknown.status == 404
    assert b"<Code>NoSuchKey</Code>" in unknown.body
    assert unknown.headers == {"content-type": "application/xml"}


@pytest.mark.parametrize("name", ["aspect_ratio", "aspect", "ratio"])
def test_the_ratio_is_found_under_all_its_names(name: str) -> None:
    """Other models call their ratio otherwise."""
    content = store().content(task(**{name: "2:3"}), 0)
    assert (int.from_bytes(content[16:20]), int.from_bytes(content[20:24])) == (64, 96)


def test_a_file_is_drawn_once_while_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are kept, the longest unused forgotten first."""
    drawn: list[str] = []

    def draw(seed: str, *_: object) -> bytes:
        drawn.append(seed)
        return b""

    monkeypatch.setattr(results, "draw", draw)
    monkeypatch.setattr(results, "_CACHED", 2)
    files = store()
    one, two, three = task("1"), task("2"), task("3")
    for wanted in (one, two, one, three, one, two):
        files.content(wanted, 0)
    assert drawn == ["m/1/0", "m/2/0", "m/3/0", "m/2/0"]
