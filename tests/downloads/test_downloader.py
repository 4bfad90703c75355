"""Downloads: every file of a result, whole or not at all, whatever the server does."""

from __future__ import annotations

import asyncio
import errno
import gc
import gzip
import os
import pickle
import random
import re
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import anyio
import httpx2
import pytest

from apixo_async._downloads.downloader import Downloader, DownloadTimeouts
from apixo_async._downloads.files import Part
from apixo_async._downloads.names import RESULT_FIELDS, NameTemplate, Naming
from apixo_async._files import draft_name
from apixo_async._types import Result
from apixo_async.errors import ConfigurationError, DownloadError, ResultExpiredError

NOW = datetime(2025, 11, 21, 12, tzinfo=UTC)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20 + b"\0\0\0\0IEND\xaeB`\x82"
MP3 = b"ID3" + bytes(500)
HTML = b"<!doctype html><title>502</title>"


@dataclass
class Reply:
    """One scripted answer: how long it takes, what it says, and how its body ends."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    delay: float = 0.0
    chunk: int = 1_000
    interval: float = 0.0
    breaks: Exception | None = None

    def response(self) -> httpx2.Response:
        """Return the answer as a transport would."""
        return httpx2.Response(self.status, headers=self.headers, stream=Body(self))


class Body(httpx2.AsyncByteStream):
    """The body of a reply, chunk by chunk."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self.reply.body), self.reply.chunk):
            await asyncio.sleep(self.reply.interval)
            yield self.reply.body[at : at + self.reply.chunk]
        if self.reply.breaks is not None:
            raise self.reply.breaks


Answer = Reply | Exception


class Server(httpx2.AsyncBaseTransport):
    """Give each path its scripted answers in turn, the last one again and again."""

    def __init__(self, **script: Answer | list[Answer]) -> None:
        self.script = {
            name: [answers] if isinstance(answers, Reply | Exception) else list(answers)
            for name, answers in script.items()
        }
        self.requests: list[tuple[float, httpx2.Request]] = []
        self.active = self.most = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        self.requests.append((now(), request))
        answers = self.script[request.url.path.strip("/").partition(".")[0]]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            await asyncio.sleep(answer.delay)
        finally:
            self.active -= 1
        return answer.response()

    @property
    def ranges(self) -> list[str | None]:
        """The `Range` of every request."""
        return [request.headers.get("range") for _, request in self.requests]

    @property
    def times(self) -> list[float]:
        """The time of every request, from the first one on."""
        return [at - self.requests[0][0] for at, _ in self.requests]


def now() -> float:
    """Return the time of the running loop."""
    return asyncio.get_running_loop().time()


def sized(body: bytes, **headers: str) -> Reply:
    """Return a good answer with its length."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(body=body, headers={"content-length": str(len(body)), **named})


def broken(body: bytes, cut: int, **headers: str) -> Reply:
    """Return an answer that promises a body and breaks behind `cut` bytes of it."""
    reply = sized(body, **headers)
    reply.body, reply.breaks = body[:cut], httpx2.RemoteProtocolError("incomplete body")
    return reply


def rest(body: bytes, start: int, **headers: str) -> Reply:
    """Return an answer with the rest of a body."""
    reply = sized(body[start:], **headers)
    reply.status = 206
    reply.headers["content-range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
    return reply


def result(*names: str, task_id: str = "t", age: timedelta | None = timedelta(hours=1)) -> Result:
    """Return a result with one URL a name."""
    urls = tuple(f"https://cdn.example/{name}.jpg?sig=secret" for name in names)
    created_at = None if age is None else NOW - age
    return Result(task_id, "gpt-image-1", urls, created_at=created_at)


def downloader(
    server: Server, *, concurrency: int = 16, timeouts: DownloadTimeouts | None = None
) -> Downloader:
    """Return a downloader in front of a server."""
    return Downloader(
        server,
        user_agent="apixo-async/9",
        rng=random.Random(7),
        concurrency=concurrency,
        timeouts=timeouts or DownloadTimeouts(),
        now=lambda: NOW,
    )


async def saved(server: Server, target: Path, *names: str) -> list[Path]:
    """Download the files of these names, or of all, from a server."""
    return await downloader(server).download(result(*(names or server.script)), target)


def listed(directory: Path) -> list[str]:
    """Return the names of all files of a directory, hidden ones too."""
    return sorted(path.name for path in directory.iterdir())


# --- what is saved, and where -----------------------------------------------------------------


async def test_every_file_is_saved_in_order_under_the_name_of_its_bytes(tmp_path: Path) -> None:
    """All URLs count, and neither their names nor the declared types do."""
    server = Server(
        a=Reply(body=PNG, delay=5, headers={"content-type": "text/plain"}), b=sized(MP3)
    )
    paths = await saved(server, tmp_path / "new" / "out")
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "new/out/t-1.png",
        "new/out/t-2.mp3",
    ]
    assert [path.read_bytes() for path in paths] == [PNG, MP3]
    assert listed(tmp_path / "new" / "out") == ["t-1.png", "t-2.mp3"]


async def test_a_file_target_is_written_as_it_is_named(tmp_path: Path) -> None:
    """One file replaces the target, whatever it held; several are numbered."""
    target = tmp_path / "cat.jpeg"
    target.write_bytes(PNG[:-12] + b"an older file" + PNG[-12:])
    server = Server(a=sized(PNG), b=sized(MP3))
    assert await saved(server, target, "a") == [target]
    assert target.read_bytes() == PNG
    await saved(server, target)
    assert listed(tmp_path) == ["cat-1.jpeg", "cat-2.jpeg", "cat.jpeg"]


async def test_requests_carry_no_more_than_they_must(tmp_path: Path) -> None:
    """Neither key nor cookie is sent, and every request is bounded in time."""
    server = Server(a=sized(PNG, set_cookie="a=b"), b=sized(MP3))
    await saved(server, tmp_path)
    for _, request in server.requests:
        assert dict(request.headers) == {
            "host": "cdn.example",
            "accept": "*/*",
            "accept-encoding": "identity",
            "user-agent": "apixo-async/9",
        }
        assert request.extensions["timeout"] == {
            "connect": 10.0,
            "read": 30.0,
            "write": 30.0,
            "pool": 30.0,
        }


async def test_a_whole_file_is_kept_and_all_else_is_fetched_again(tmp_path: Path) -> None:
    """A repeated call asks for what is missing, cut, too old, or of a type that cannot tell."""
    whole = PNG[:-12] + b"kept" + PNG[-12:]
    (tmp_path / "t-1.png").write_bytes(whole)
    (tmp_path / "t-2.png").write_bytes(PNG[:-1])
    (tmp_path / "t-3.mp3").write_bytes(MP3[:-1])
    (tmp_path / "t-4.png").write_bytes(whole)
    for number, name in enumerate(listed(tmp_path), 1):
        written = NOW - timedelta(minutes=50 if number < 4 else 70)
        os.utime(tmp_path / name, (written.timestamp(), written.timestamp()))
    server = Server(a=sized(PNG), b=sized(PNG), c=sized(MP3), d=sized(PNG))
    paths = await saved(server, tmp_path)
    assert [path.read_bytes() for path in paths] == [whole, PNG, MP3, PNG]
    assert sorted(request.url.path for _, request in server.requests) == [
        "/b.jpg",
        "/c.jpg",
        "/d.jpg",
    ]


async def test_a_hostile_task_id_stays_in_the_directory(tmp_path: Path) -> None:
    """Nothing that the service says leads out of the target."""
    hostile = result("a", task_id="../../escape\0")
    (path,) = await downloader(Server(a=sized(PNG))).download(hostile, tmp_path / "out")
    assert path.parent == tmp_path / "out"
    assert listed(tmp_path) == ["out"]


# --- what breaks ------------------------------------------------------------------------------


async def test_a_broken_body_is_resumed(tmp_path: Path) -> None:
    """The next try asks for the rest of the same file only, as often as it takes."""
    server = Server(
        a=[
            broken(PNG, 2_000, etag='"v1"'),
            Reply(503),
            Reply(206, PNG[2_000:3_000], {"content-range": f"bytes 2000-2999/{len(PNG)}"}),
            rest(PNG, 3_000, etag='"v1"'),
        ]
    )
    (path,) = await saved(server, tmp_path)
    assert path.read_bytes() == PNG
    assert server.ranges == [None, "bytes=2000-", "bytes=2000-", "bytes=3000-"]
    assert {request.headers["if-range"] for _, request in server.requests[1:]} == {'"v1"'}
    assert listed(tmp_path) == ["t-1.png"]


async def test_a_short_body_with_a_length_is_resumed(tmp_path: Path) -> None:
    """A transport that does not notice a missing end does not make it whole."""
    short = broken(MP3, 100, etag='"v1"')
    short.breaks = None
    server = Server(a=[short, rest(MP3, 100)])
    (path,) = await saved(server, tmp_path)
    assert path.read_bytes() == MP3
    assert server.ranges == [None, "bytes=100-"]


async def test_a_short_body_without_a_length_is_fetched_again(tmp_path: Path) -> None:
    """An image that ends early looks like success, and is not taken for one."""
    server = Server(a=[Reply(body=PNG[:3_000]), Reply(body=b""), Reply(body=PNG)])
    (path,) = await saved(server, tmp_path)
    assert path.read_bytes() == PNG
    assert server.ranges == [None, None, None]


async def test_a_short_body_without_a_length_is_resumed_by_its_tag(tmp_path: Path) -> None:
    """A strong tag is enough to go on with an image that ended early."""
    short = Reply(body=PNG[:3_000], headers={"etag": '"v1"'})
    server = Server(a=[short, rest(PNG, 3_000, etag='"v1"')])
    (path,) = await saved(server, tmp_path)
    assert path.read_bytes() == PNG
    assert server.ranges == [None, "bytes=3000-"]


@pytest.mark.parametrize(
    "second",
    [
        sized(PNG, etag='"v2"'),
        rest(PNG, 1_500, etag='"v1"'),
        rest(PNG, 2_000, etag='"v2"'),
        rest(PNG + b"longer", 2_000, etag='"v1"'),
        Reply(206, PNG[2_000:]),
        Reply(416, b"<Error>", {"content-range": "bytes */7"}),
    ],
    ids=["whole", "start", "tag", "length", "no-range", "unsatisfiable"],
)
async def test_a_file_that_changed_is_begun_anew(second: Reply, tmp_path: Path) -> None:
    """Parts of two files are never put together."""
    other = MP3 + bytes(5_000)
    server = Server(a=[broken(other, 2_000, etag='"v1"'), second, sized(PNG, etag='"v2"')])
    (path,) = await saved(server, tmp_path)
    assert path.read_bytes() == PNG
    assert server.ranges[:2] == [None, "bytes=2000-"]
    assert server.ranges[2:] in ([], [None])


@pytest.mark.parametrize(
    "first",
    [
        *(Reply(status) for status in (408, 425, 429, 500, 502, 503, 504, 599)),
        Reply(body=HTML),
        sized(HTML),
        Reply(body=b'{"code": 500, "message": "oops"}'),
        httpx2.ConnectError("refused"),
        httpx2.ReadTimeout("slow"),
        TimeoutError(),
        ConnectionResetError("reset"),
        Exception("of a stack that nobody knows"),
    ],
    ids=repr,
)
async def test_what_may_pass_is_tried_again(first: Answer, tmp_path: Path) -> None:
    """Failures of the network and the server, and pages in a file's place, are repeated."""
    server = Server(a=[first, sized(PNG)])
    (path,) = await saved(server, tmp_path)
    assert path.read_bytes() == PNG
    assert server.ranges == [None, None]
    assert 0 < server.times[1] <= 0.5


@pytest.mark.parametrize("status", [204, 304, 400, 401, 403, 405, 451])
async def test_what_does_not_pass_is_an_error_at_once(status: int, tmp_path: Path) -> None:
    """Other statuses are not repeated."""
    server = Server(a=Reply(status))
    with pytest.raises(DownloadError, match=f"file 1: the server answered {status}") as caught:
        await saved(server, tmp_path)
    assert not isinstance(caught.value, ResultExpiredError)
    assert len(server.requests) == 1
    assert listed(tmp_path) == []


@pytest.mark.parametrize(
    ("asked", "pause"),
    [("7", 7), ("600", 60), (format_datetime(NOW + timedelta(seconds=9), usegmt=True), 9)],
)
async def test_retry_after_is_honoured_and_capped(asked: str, pause: float, tmp_path: Path) -> None:
    """The server's own pause counts, up to a minute."""
    server = Server(a=[Reply(429, headers={"retry-after": asked}), sized(PNG)])
    await saved(server, tmp_path)
    assert server.times == [0, pause]


async def test_repeats_end_with_their_budget(tmp_path: Path) -> None:
    """A file that keeps failing is given up within two minutes of its first failure."""
    server = Server(a=Reply(500, delay=3))
    began = now()
    with pytest.raises(DownloadError, match=r"answered 500; given up after 120 s"):
        await saved(server, tmp_path)
    assert 3 + 120 - 8 <= now() - began <= 3 + 120 + 3
    assert len(server.requests) > 12
    assert listed(tmp_path) == []


async def test_a_page_that_stays_is_named(tmp_path: Path) -> None:
    """HTML with status 200 is never saved as a file."""
    with pytest.raises(DownloadError, match="an HTML page"):
        await saved(Server(a=sized(HTML)), tmp_path)
    assert listed(tmp_path) == []


async def test_an_image_that_is_stored_cut_is_an_error(tmp_path: Path) -> None:
    """A file which came in full three times without its end is not asked for any more."""
    server = Server(a=sized(PNG[:-1], etag='"v1"'))
    with pytest.raises(DownloadError, match="before the end of a PNG, 3 times"):
        await saved(server, tmp_path)
    assert server.ranges == [None, None, None]
    assert listed(tmp_path) == []


async def test_a_hanging_server_is_left(tmp_path: Path) -> None:
    """One try is bounded as a whole, whether nothing comes or too little."""
    timeouts = DownloadTimeouts(transfer=60)
    for reply in (Reply(delay=1e9), Reply(body=PNG, chunk=1, interval=29)):
        began = now()
        server = Server(a=reply)
        with pytest.raises(DownloadError, match="within 60 s") as caught:
            await downloader(server, timeouts=timeouts).download(result("a"), tmp_path)
        assert now() - began == 60
        assert isinstance(caught.value.__cause__, TimeoutError)
        assert listed(tmp_path) == []


# --- what has expired -------------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("age", [None, timedelta(), timedelta(days=16)])
async def test_a_file_that_is_gone_has_expired(
    status: int, age: timedelta | None, tmp_path: Path
) -> None:
    """404 and 410 say so at any age, and the error says what to do."""
    server = Server(a=Reply(status))
    with pytest.raises(ResultExpiredError, match="attach to the task") as caught:
        await downloader(server).download(result("a", age=age), tmp_path)
    assert (caught.value.model, caught.value.task_id) == ("gpt-image-1", "t")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("age", "expired"),
    [
        (None, False),
        (timedelta(hours=24), False),
        (timedelta(hours=25), True),
        (timedelta(days=16), True),
    ],
)
async def test_a_forbidden_file_has_expired_when_it_is_old(
    age: timedelta | None, expired: bool, tmp_path: Path
) -> None:
    """403 means expired after 24 hours, the shorter of the two lifetimes that pages give."""
    with pytest.raises(DownloadError) as caught:
        await downloader(Server(a=Reply(403))).download(result("a", age=age), tmp_path)
    assert isinstance(caught.value, ResultExpiredError) is expired


# --- what is too large, or packed -------------------------------------------------------------


async def test_a_file_that_is_announced_too_large_is_not_read(tmp_path: Path) -> None:
    """The length is enough to refuse a file, also where a range tells it."""
    huge = sized(PNG, content_length="5001")
    huge.interval = 1.0
    begun = Reply(206, PNG[100:], {"content-range": "bytes 100-9998/9999"})
    short = Reply(body=PNG[:100], headers={"etag": '"v1"'})
    for script in ([huge], [short, begun]):
        began = now()
        server = Server(a=list[Answer](script))
        with pytest.raises(DownloadError, match="larger than max_bytes=5000"):
            await downloader(server).download(result("a"), tmp_path, max_bytes=5_000)
        assert now() - began < 1
        assert listed(tmp_path) == []


async def test_a_file_of_just_the_size_is_saved(tmp_path: Path) -> None:
    """The cap itself is allowed, and a byte more is not, announced or not."""
    for reply in (sized(PNG), Reply(body=PNG)):
        target = tmp_path / "a.png"
        load = downloader(Server(a=reply))
        assert await load.download(result("a"), target, max_bytes=len(PNG)) == [target]
        with pytest.raises(DownloadError, match="larger than"):
            await load.download(result("a"), target, max_bytes=len(PNG) - 1)
        assert target.read_bytes() == PNG


async def test_a_packed_file_is_unpacked(tmp_path: Path) -> None:
    """A server that compresses unasked is put up with; its broken body is not resumed."""
    packed = gzip.compress(PNG)
    headers = {"content_encoding": "gzip", "etag": '"v1"'}
    server = Server(a=[broken(packed, 40, **headers), sized(packed, **headers)])
    (path,) = await saved(server, tmp_path)
    assert path.read_bytes() == PNG
    assert server.ranges == [None, None]


async def test_a_bomb_is_defused(tmp_path: Path) -> None:
    """A small body that expands beyond the cap is refused on the way."""
    bomb = sized(gzip.compress(bytes(30_000_000)), content_encoding="gzip")
    with pytest.raises(DownloadError, match="larger than"):
        await downloader(Server(a=bomb)).download(result("a"), tmp_path, max_bytes=10_000_000)
    assert listed(tmp_path) == []


# --- several files ----------------------------------------------------------------------------


async def test_one_bad_file_does_not_cost_the_others(tmp_path: Path) -> None:
    """All are tried; the error names each that failed and holds those that were saved."""
    server = Server(a=Reply(404), b=Reply(body=PNG, delay=9), c=Reply(400), d=sized(MP3))
    with pytest.raises(DownloadError) as caught:
        await saved(server, tmp_path)
    error = caught.value
    assert not isinstance(error, ResultExpiredError)
    assert error.saved == (tmp_path / "t-2.png", tmp_path / "t-4.mp3")
    assert str(error).startswith("gpt-image-1/t: 2 of 4 files not saved: file 1: the server")
    assert "; file 3: the server answered 400" in str(error)
    assert "secret" not in str(error)
    assert listed(tmp_path) == ["t-2.png", "t-4.mp3"]
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.saved, copy.task_id) == (str(error), error.saved, "t")


async def test_the_rest_of_an_expired_result_is_saved(tmp_path: Path) -> None:
    """The error is ResultExpiredError where expiry is all that failed."""
    with pytest.raises(ResultExpiredError) as caught:
        await saved(Server(a=Reply(410), b=sized(PNG)), tmp_path)
    assert caught.value.saved == (tmp_path / "t-2.png",)


async def test_only_so_many_files_come_at_once(tmp_path: Path) -> None:
    """The bound holds over all calls."""
    slow = Reply(body=PNG, delay=10)
    server = Server(a=slow, b=slow, c=slow, d=slow, e=slow)
    load = downloader(server, concurrency=2)
    calls = [load.download(result(*names), tmp_path / names[0]) for names in ("ab", "cde")]
    began = now()
    await asyncio.gather(*calls)
    assert server.most == 2
    assert now() - began == 30


async def test_a_file_that_pauses_gives_its_place_to_another(tmp_path: Path) -> None:
    """Nothing waits behind a file that is not asked for at the moment."""
    busy = Reply(503, headers={"retry-after": "15"})
    load = downloader(server := Server(a=[busy, sized(PNG)], b=sized(PNG)), concurrency=1)
    first = asyncio.create_task(load.download(result("a"), tmp_path / "a"))
    await asyncio.sleep(1)
    await load.download(result("b"), tmp_path / "b")
    await first
    assert server.times == [0, 1, 15]


async def test_files_that_wait_for_their_turn_are_not_open(tmp_path: Path) -> None:
    """A thousand downloads at once hold no more open files than come at once."""
    server = Server(a=Reply(body=PNG, delay=10))
    load = downloader(server, concurrency=3)
    calls = [
        asyncio.create_task(load.download(result("a", task_id=f"t{number}"), tmp_path))
        for number in range(12)
    ]
    for files in (3, 6, 9, 12):
        await asyncio.sleep(9)
        names = listed(tmp_path)
        assert [len(names), sum(name.endswith(".part") for name in names)] == [files, 3]
        await asyncio.sleep(1)
    await asyncio.gather(*calls)


async def test_files_that_pause_without_a_byte_are_not_open(tmp_path: Path) -> None:
    """In an outage all files pause, and only what can be resumed keeps its temporary file."""
    busy = Reply(503, headers={"retry-after": "15"})
    half = broken(PNG, 1_000, etag='"1"')
    half.headers["retry-after"] = "15"
    server = Server(a=[busy, sized(PNG)], b=[half, busy, rest(PNG, 1_000, etag='"1"')])
    task = asyncio.create_task(saved(server, tmp_path))
    await asyncio.sleep(10)
    (part,) = listed(tmp_path)
    assert (tmp_path / part).stat().st_size == 1_000
    paths = await task
    assert [path.read_bytes() for path in paths] == [PNG, PNG]
    assert listed(tmp_path) == ["t-1.png", "t-2.png"]


def test_another_loop_may_go_on_with_the_same_downloader(tmp_path: Path) -> None:
    """Nothing is bound to a loop before its first use, nor to one that is over."""
    server = Server(a=sized(PNG), b=sized(PNG), c=sized(PNG))
    load = downloader(server, concurrency=1)
    for directory in ("first", "second"):
        paths = asyncio.run(load.download(result("a", "b", "c"), tmp_path / directory))
        assert len(paths) == 3


# --- cancellation -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "files"),
    [
        (Reply(delay=1e6), 3),
        (Reply(body=PNG, interval=12), 3),
        (Reply(503, headers={"retry-after": "50"}), 1),
    ],
    ids=["no answer", "half a body", "a pause"],
)
async def test_a_cancelled_download_leaves_nothing(
    reply: Reply, files: int, tmp_path: Path
) -> None:
    """Every file of the call ends with it, and no temporary file stays."""
    server = Server(a=reply, b=sized(PNG), c=reply)
    before = asyncio.all_tasks()
    task = asyncio.create_task(saved(server, tmp_path))
    await asyncio.sleep(30)
    assert len(listed(tmp_path)) == files
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert listed(tmp_path) == ["t-2.png"]
    assert asyncio.all_tasks() == before


@pytest.fixture
def slow_write(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Make each write say that it has begun, and wait until it may go on."""
    begun, release = threading.Event(), threading.Event()
    write = Part.write

    def slow(part: Part, pieces: Iterator[bytes], max_bytes: int) -> None:
        begun.set()
        release.wait(5)
        write(part, pieces, max_bytes)

    monkeypatch.setattr(Part, "write", slow)
    return begun, release


async def test_a_download_cancelled_in_a_write_waits_for_the_thread(
    tmp_path: Path, slow_write: tuple[threading.Event, threading.Event]
) -> None:
    """A temporary file is removed only when no thread writes to it any more."""
    begun, release = slow_write
    task = asyncio.create_task(saved(Server(a=sized(PNG)), tmp_path))
    await asyncio.to_thread(begun.wait, 5)
    task.cancel()
    await asyncio.sleep(0)
    assert len(listed(tmp_path)) == 1
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert listed(tmp_path) == []


async def test_a_cancel_scope_ends_a_download_as_well(
    tmp_path: Path, slow_write: tuple[threading.Event, threading.Event]
) -> None:
    """A scope of anyio, which cancels again and again, does not cut the clean-up short."""
    begun, release = slow_write
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(saved, Server(a=sized(PNG)), tmp_path)
            await asyncio.to_thread(begun.wait, 5)
            scope.cancel()
            threading.Timer(0.1, release.set).start()
    assert scope.cancelled_caught
    assert release.is_set()
    assert listed(tmp_path) == []


async def test_a_cancelled_download_says_nothing_of_files_that_had_failed(
    tmp_path: Path,
) -> None:
    """No complaint of asyncio's appears about errors that nobody asked for any more."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))
    task = asyncio.create_task(saved(Server(a=Reply(400), b=Reply(delay=1e6)), tmp_path))
    await asyncio.sleep(5)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    del task
    gc.collect()
    assert complaints == []


# --- bad use and bad disks --------------------------------------------------------------------


async def test_a_result_without_urls_is_a_clear_error(tmp_path: Path) -> None:
    """There is nothing to save, and the error says so."""
    with pytest.raises(DownloadError, match="has no URLs") as caught:
        await downloader(Server()).download(result(), tmp_path / "new")
    assert caught.value.task_id == "t"
    assert listed(tmp_path) == []


async def test_a_url_of_another_scheme_is_a_clear_error(tmp_path: Path) -> None:
    """Scheme and host of a URL that is not served are named."""
    odd = Result("t", "m", ("ftp://files.example/a?sig=secret",))
    with pytest.raises(DownloadError, match=r"file 1: ftp: URL with host 'files\.example'"):
        await downloader(Server()).download(odd, tmp_path)


async def test_a_cap_below_one_is_refused(tmp_path: Path) -> None:
    """A cap that no file could meet is a wrong setting."""
    with pytest.raises(ConfigurationError, match="max_bytes=0"):
        await downloader(Server()).download(result("a"), tmp_path, max_bytes=0)


@pytest.mark.parametrize("target", ["file/", "file/below.png", "a\0b.png", "nowhere\0/"])
async def test_a_target_that_cannot_be_written_is_a_clear_error(
    target: str, tmp_path: Path
) -> None:
    """The path is named, nothing is asked for, and what was there stays."""
    (tmp_path / "file").write_bytes(b"mine")
    server = Server(a=sized(PNG))
    with pytest.raises(DownloadError, match="cannot write to") as caught:
        await downloader(server).download(result("a"), f"{tmp_path}/{target}")
    assert isinstance(caught.value.__cause__, OSError | ValueError)
    assert server.requests == []
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert listed(tmp_path) == ["file"]


async def test_a_disk_that_fills_up_is_a_clear_error(tmp_path: Path) -> None:
    """What the system no longer takes is named, not tried again, and leaves nothing."""
    resource = pytest.importorskip("resource")
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    content = PNG[:-12] + bytes(400_000) + PNG[-12:]
    server = Server(a=sized(content))
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, usual[1]))
    try:
        with pytest.raises(DownloadError, match="larger than the system allows") as caught:
            await saved(server, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert isinstance(caught.value.__cause__, OSError)
    assert len(server.requests) == 1
    assert listed(tmp_path) == []


async def test_a_full_disk_at_the_last_moment_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file counts only when it is durable."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DownloadError, match="the disk is full") as caught:
        await saved(Server(a=sized(PNG)), tmp_path)
    assert isinstance(caught.value.__cause__, OSError)
    assert listed(tmp_path) == []


async def test_a_name_that_is_too_long_is_refused_before_anything_is_asked_for(
    tmp_path: Path,
) -> None:
    """A whole transfer is not spent on a name that the file system cannot hold."""
    server = Server(a=sized(PNG))
    with pytest.raises(DownloadError, match="choose a shorter one"):
        await downloader(server).download(result("a"), tmp_path / f"{'x' * 300}.png")
    assert server.requests == []
    assert listed(tmp_path) == []


async def test_a_directory_that_vanishes_is_a_clear_error(tmp_path: Path) -> None:
    """What was removed under a download is named, and a repeated call makes it anew."""
    out = tmp_path / "out"
    load = downloader(Server(a=Reply(body=PNG, delay=10), b=sized(PNG)))
    task = asyncio.create_task(load.download(result("a"), out))
    await asyncio.sleep(5)
    shutil.rmtree(out)
    with pytest.raises(DownloadError, match=r"out/t-1\.png': .* removed meanwhile.*again"):
        await task
    assert listed(tmp_path) == []
    assert await load.download(result("b"), out) == [out / "t-1.png"]


# --- processes ---------------------------------------------------------------------------------


async def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """The first download into a directory clears it of unfinished files; the next ones need not."""
    load = downloader(Server(a=sized(PNG)))
    for directory in (tmp_path / "x", tmp_path / "y"):
        directory.mkdir()
        left = directory / draft_name("other-7")
        left.write_bytes(PNG[:100])
        await load.download(result("a"), directory)
        assert listed(directory) == ["t-1.png"]
    left.touch()
    await load.download(result("a", task_id="u"), left.parent)
    assert listed(left.parent) == [left.name, "t-1.png", "u-1.png"]


async def test_two_results_for_one_name_do_not_mix(tmp_path: Path) -> None:
    """A file that two downloads write at once is one of the two, whole: the last to end."""
    other = PNG[:-12] + b"other" + PNG[-12:]
    load = downloader(Server(a=Reply(body=PNG, interval=1), b=Reply(body=other, interval=2)))
    target = tmp_path / "cat.png"
    first, second = (
        asyncio.create_task(load.download(result(name, task_id=name), target)) for name in "ab"
    )
    assert await first == [target]
    assert target.read_bytes() == PNG
    assert await second == [target]
    assert target.read_bytes() == other
    assert listed(tmp_path) == ["cat.png"]


async def test_a_sweep_spares_what_others_are_writing(tmp_path: Path) -> None:
    """Two downloaders save the same file into one directory at once, and both succeed."""
    slow = downloader(Server(a=Reply(body=PNG, interval=1)))
    first = asyncio.create_task(slow.download(result("a"), tmp_path))
    await asyncio.sleep(1.5)
    (part,) = listed(tmp_path)
    second = downloader(Server(a=Reply(body=PNG, delay=9)))
    second_task = asyncio.create_task(second.download(result("a"), tmp_path))
    await asyncio.sleep(0.1)
    assert part in listed(tmp_path)
    assert len(listed(tmp_path)) == 2
    assert await first == await second_task == [tmp_path / "t-1.png"]
    assert (tmp_path / "t-1.png").read_bytes() == PNG
    assert listed(tmp_path) == ["t-1.png"]


async def test_a_defect_of_a_transport_is_told_at_once(tmp_path: Path) -> None:
    """What no repeat can mend is not repeated, and keeps its cause."""
    server = Server(a=RuntimeError("the transport is closed"))
    with pytest.raises(DownloadError, match=re.escape("RuntimeError: the transport")) as caught:
        await saved(server, tmp_path)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert len(server.requests) == 1


async def test_a_defect_of_the_download_itself_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that is not foreseen is the cause of the one that is raised."""

    def defect(_: Part) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Part, "open", defect)
    with pytest.raises(DownloadError, match="file 1: ZeroDivisionError") as caught:
        await saved(Server(a=Reply(404)), tmp_path)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


ODD_URLS = [
    "https://cdn.example/\ud800.png",
    "https://\ud83d.example/a.png",
    "https://xn--0.example/a.png",
    "https://xn--a-ecp.ru/a",
    "https://" + "a" * 70 + ".example/\u00e4",
    "https://\u2488\u0660.example/",
    "https://[::1/",
    "https://a.example:99999/",
    "//",
    "https://a.example/\x00",
]


@pytest.mark.parametrize("url", ODD_URLS)
@pytest.mark.parametrize("by", ["result", "redirect"])
async def test_an_odd_url_costs_its_own_file_only(url: str, by: str, tmp_path: Path) -> None:
    """Whatever stands in place of a URL, the other files are saved and named."""

    async def answer(request: httpx2.Request) -> httpx2.Response:
        str(request.url).encode()
        if request.url.path.startswith("/moved"):
            # As bytes, since a header of the wire may hold anything.
            location = url.encode("utf-8", "surrogatepass")
            return httpx2.Response(302, headers=[(b"Location", location)])
        if request.url.host != "cdn.example" or "good" not in request.url.path:
            raise UnicodeError("a stack that cannot write it")
        return sized(PNG).response()

    first = url if by == "result" else "https://cdn.example/moved.png"
    odd = Result("t", "m", (first, "https://cdn.example/good.png"), created_at=NOW)
    load = Downloader(httpx2.MockTransport(answer), user_agent="ua/1", rng=random.Random(7))
    with pytest.raises(DownloadError, match="1 of 2 files not saved: file 1: ") as caught:
        await load.download(odd, tmp_path)
    assert caught.value.saved == (tmp_path / "t-2.png",)
    assert caught.value.task_id == "t"
    str(caught.value).encode()


async def test_a_transport_that_cancels_by_itself_costs_its_own_file_only(tmp_path: Path) -> None:
    """A request that ends as if it had been cancelled is one file's failure."""
    server = Server(a=sized(PNG), b=sized(PNG))
    handle = server.handle_async_request

    async def cancelled(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/a.jpg":
            raise asyncio.CancelledError
        return await handle(request)

    server.handle_async_request = cancelled  # type: ignore[method-assign]
    with pytest.raises(DownloadError, match="cancelled the request by itself") as caught:
        await saved(server, tmp_path)
    assert caught.value.saved == (tmp_path / "t-2.png",)


async def test_two_versions_of_one_length_are_not_spliced(tmp_path: Path) -> None:
    """Without a validator nothing tells that the rest is of the same file: it comes anew."""
    other = PNG[:100] + bytes(reversed(PNG[100:-12])) + PNG[-12:]
    server = Server(a=[broken(PNG, 2_000), sized(other)])
    (path,) = await saved(server, tmp_path)
    assert path.read_bytes() == other
    assert server.ranges == [None, None]


@pytest.mark.parametrize("last", [len(MP3) - 1, 200])
async def test_a_part_that_is_longer_than_its_range(last: int, tmp_path: Path) -> None:
    """A 206 with more bytes than it announced is not kept, nor what it was added to."""
    long = rest(MP3, 100)
    long.headers["content-range"] = f"bytes 100-{last}/{len(MP3)}"
    long.body += b"more"
    del long.headers["content-length"]
    server = Server(a=[broken(MP3, 100, etag='"v1"'), long, sized(MP3)])
    (path,) = await saved(server, tmp_path)
    assert path.read_bytes() == MP3
    assert server.ranges == [None, "bytes=100-", None]


async def test_a_body_that_is_longer_than_its_length(tmp_path: Path) -> None:
    """A transport that hands out more than `Content-Length` has no whole file."""
    long = sized(MP3)
    long.body += b"more"
    (path,) = await saved(Server(a=[long, sized(MP3)]), tmp_path)
    assert path.read_bytes() == MP3


async def test_the_wall_clock_is_the_default(tmp_path: Path) -> None:
    """Without a clock of its own a downloader takes the present time."""
    old = Result("t", "m", ("https://cdn.example/a",), created_at=datetime(2025, 1, 1, tzinfo=UTC))
    load = Downloader(Server(a=Reply(403)), user_agent="ua/1", rng=random.Random(7))
    with pytest.raises(ResultExpiredError):
        await load.download(old, tmp_path)


# --- read and streamed ------------------------------------------------------------------------


async def streamed(server: Server, *names: str, index: int = 0, max_bytes: int = 10**9) -> bytes:
    """Return the bytes of one file, as a consumer gets them in chunks."""
    loader, made = downloader(server), result(*(names or server.script))
    with loader.spool() as spool:
        file = await loader.receive(made, index, spool, max_bytes=max_bytes)
        return b"".join([chunk async for chunk in file])


async def test_files_are_read_in_order() -> None:
    """Each file has its name, its type by its bytes, its URL, and all its bytes."""
    server = Server(
        a=Reply(body=PNG, delay=5, headers={"content-type": "text/plain"}), b=sized(MP3)
    )
    made = result("a", "b")
    first, second = await downloader(server).read(made)
    assert (first.name, first.media_type, first.content) == ("t-1.png", "image/png", PNG)
    assert (second.name, second.media_type, second.content) == ("t-2.mp3", "audio/mpeg", MP3)
    assert (first.url, second.url) == made.urls
    assert "secret" not in repr(first)


async def test_one_file_is_streamed() -> None:
    """Only the file that is asked for is received."""
    server = Server(a=sized(PNG), b=sized(MP3))
    assert await streamed(server, index=1) == MP3
    assert [request.url.path for _, request in server.requests] == ["/b.jpg"]


@pytest.mark.parametrize("way", ["read", "stream"])
async def test_a_break_is_resumed_in_memory_too(way: str) -> None:
    """The next request asks for the rest, and the whole file comes of both."""
    server = Server(a=[broken(PNG, 2_000, etag='"v1"'), rest(PNG, 2_000, etag='"v1"')])
    if way == "read":
        (file,) = await downloader(server).read(result("a"))
        assert file.content == PNG
    else:
        assert await streamed(server) == PNG
    assert server.ranges == [None, "bytes=2000-"]


@pytest.mark.parametrize("way", ["read", "stream"])
@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (sized(HTML), "HTML page or another error text"),
        (sized(PNG[:-4]), "before the end of a PNG"),
        (Reply(body=PNG[:-4]), "before the end of a PNG"),
        (broken(PNG, 3_000), "incomplete body"),
        (Reply(403), "answered 403"),
        (sized(PNG + bytes(5_000)), "max_bytes=6000"),
    ],
)
async def test_no_short_body_and_no_error_page(way: str, reply: Reply, said: str) -> None:
    """What is no whole file of an allowed size is an error before its first byte is passed on."""
    server = Server(a=reply)
    read = downloader(server).read(result("a"), max_bytes=6_000) if way == "read" else None
    with pytest.raises(DownloadError, match=said) as caught:
        await (read or streamed(server, max_bytes=6_000))
    assert (caught.value.task_id, caught.value.saved) == ("t", ())


@pytest.mark.parametrize("way", ["read", "stream"])
async def test_what_is_gone_in_memory_too(way: str) -> None:
    """A file that is no longer stored is the same error as for a download."""
    server = Server(a=Reply(410))
    with pytest.raises(ResultExpiredError):
        await (downloader(server).read(result("a")) if way == "read" else streamed(server))


@pytest.mark.parametrize("way", ["read", "stream"])
@pytest.mark.parametrize("url", ["http://127.0.0.1/a.png", "http://169.254.169.254/", "file:///a"])
async def test_private_addresses_are_refused(way: str, url: str) -> None:
    """The ways into memory ask no other hosts than a download."""
    server, made = Server(), Result("t", "m", (url,))
    loader = downloader(server)
    with pytest.raises(DownloadError), loader.spool() as spool:
        await (loader.read(made) if way == "read" else loader.receive(made, 0, spool))
    assert server.requests == []


async def test_all_files_together_are_bounded() -> None:
    """Many small files fill no memory: together they have a bound as well."""
    server = Server(a=sized(PNG), b=Reply(body=PNG, delay=5), c=Reply(body=PNG, delay=9))
    with pytest.raises(DownloadError, match="max_total=12000"):
        await downloader(server).read(result("a", "b", "c"), max_total=12_000)
    assert len(await downloader(server).read(result("a", "b"), max_total=12_000)) == 2


@pytest.mark.parametrize("index", [-1, 2, "a", None])
async def test_an_index_that_is_none(index: int) -> None:
    """A file that the result does not have is refused."""
    server = Server(a=sized(PNG), b=sized(MP3))
    with pytest.raises(ConfigurationError, match=r"^index=.*; from 0 to 1$"):
        await streamed(server, index=index)
    with pytest.raises(ConfigurationError, match="max_total=0"):
        await downloader(server).read(result("a"), max_total=0)


async def test_a_cancelled_stream_leaves_nothing() -> None:
    """A receiver that is cancelled closes what it has received into."""
    server = Server(a=Reply(body=PNG, interval=10))
    loader = downloader(server)
    with loader.spool() as spool:
        with anyio.move_on_after(25):
            await loader.receive(result("a"), 0, spool)
        assert spool.read() == b""  # It is open.
    with pytest.raises(RuntimeError):
        spool.read()


# --- named by a template ----------------------------------------------------------------------


def naming(template: str, *earlier: Path) -> Naming:
    """Return how files are named."""
    return Naming(NameTemplate.checked(template, RESULT_FIELDS), {}, earlier)


async def test_named_files(tmp_path: Path) -> None:
    """The extension is that of the bytes, and several files are numbered."""
    server = Server(a=sized(PNG), b=sized(MP3))
    paths = await downloader(server).download(
        result("a", "b"), tmp_path / "cat.png", naming=naming("my {model}")
    )
    assert listed(tmp_path / "cat.png") == ["my gpt-image-1-1.png", "my gpt-image-1-2.mp3"]
    assert [path.read_bytes() for path in paths] == [PNG, MP3]


@pytest.mark.parametrize("links", [True, False])
async def test_a_name_that_another_file_has(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays, and the new one has its task's id in its name, also when it comes again."""
    if not links:

        def none(*_: object) -> None:
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", none)
    other = PNG[:100] + b"other" + PNG[105:]
    server = Server(a=sized(PNG), b=sized(other))
    loader = downloader(server)
    for _ in range(2):
        for name, task_id in (("a", "t1"), ("b", "t2")):
            made = result(name, task_id=task_id)
            await loader.download(made, tmp_path, naming=naming("cat"))
        assert listed(tmp_path) == ["cat-t2-1.png", "cat.png"]
        assert (tmp_path / "cat.png").read_bytes() == PNG
        assert (tmp_path / "cat-t2-1.png").read_bytes() == other


async def test_two_at_once_by_one_name(tmp_path: Path) -> None:
    """Whichever comes first has the name; nothing is lost."""
    other = PNG[:100] + b"other" + PNG[105:]
    server = Server(a=sized(PNG), b=sized(other))
    loader = downloader(server)
    found = await asyncio.gather(
        loader.download(result("a", task_id="t1"), tmp_path, naming=naming("cat")),
        loader.download(result("b", task_id="t2"), tmp_path, naming=naming("cat")),
    )
    assert [path.read_bytes() for (path,) in found] == [PNG, other]
    assert len(listed(tmp_path)) == 2


async def test_where_an_earlier_run_has_saved_it(tmp_path: Path) -> None:
    """What was noted and is whole is kept unasked; what is gone comes again, by its name."""
    server = Server(a=sized(PNG))
    loader = downloader(server)
    made = result("a", age=None)
    (path,) = await loader.download(made, tmp_path, naming=naming("cat"))
    noted = naming("dog", path)
    assert await loader.download(made, tmp_path, naming=noted) == [path]
    assert len(server.requests) == 1
    path.unlink()
    assert await loader.download(made, tmp_path, naming=naming("cat", path)) == [path]
    assert len(server.requests) == 2


async def test_a_directory_in_the_way_of_a_name(tmp_path: Path) -> None:
    """What is no file stays, and the file has its task's id in its name."""
    (tmp_path / "cat.png").mkdir()
    server = Server(a=sized(PNG))
    await downloader(server).download(result("a"), tmp_path, naming=naming("cat"))
    assert listed(tmp_path) == ["cat-t-1.png", "cat.png"]
