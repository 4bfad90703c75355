"""What reads foreign bytes, as functions of bytes which raise only where something is wrong.

Each target asserts what is documented: which errors may come, and what holds of what is returned.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx2

from apixo_async import (
    APIStatusError,
    ConfigurationError,
    DownloadError,
    GptImage2,
    InputWarning,
    JournalError,
    Result,
    TaskFailedError,
    TaskRef,
    from_dict,
)
from apixo_async import _media as media
from apixo_async._canonical import identity
from apixo_async._cli.rows.rows import Defaults, read, row_of
from apixo_async._cli.rows.source import Format, Problem, find_format, lines
from apixo_async._downloads.files import safe_name
from apixo_async._downloads.source import Again, shown
from apixo_async._downloads.source import _next as redirected
from apixo_async._downloads.transfer import BATCH, Inflater, Transfer
from apixo_async._hosts import reach
from apixo_async._http.verdicts import (
    Bought,
    Over,
    Refused,
    Running,
    Uncertain,
    judge_poll,
    judge_submit,
    says_throttled,
)
from apixo_async._http.wire import (
    Answer,
    encode_submit,
    parse_date,
    parse_retry_after,
    read_balance,
    read_object,
)
from apixo_async._types import POLLED
from apixo_async.journal import _moves as moves
from apixo_async.journal import _reads as reads
from apixo_async.journal._entry import Entry, Row, entry_of
from apixo_async.journal._error_forms import error_text
from apixo_async.journal._failures import JournalRefusal
from apixo_async.journal._forms import result_of, result_text
from apixo_async.journal._log import condition_of
from apixo_async.journal._store import JournalStore
from apixo_async.webhooks import CallbackError, WebhookReceiver
from apixo_async.webhooks._body import task_id_in
from apixo_async.webhooks._tokens import (
    FILES,
    FileToken,
    Intent,
    Signer,
    seal,
    seal_file,
    unseal,
    unseal_file,
)

Target = Callable[[bytes], None]

TARGETS: Final[dict[str, Target]] = {}

#: Seconds of the processor within which any input of a few KiB is read, on a slow machine.
LONGEST: Final = 5.0

#: Words that a fuzzer would take long to find, a character a byte.
WORDS: Final = (
    '"taskId"', '"data"', '"code"', "200", "429", '"message"', '"state"', '"success"', '"failed"',
    '"resultJson"', '"resultUrls"', '"failCode"', '"createTime"', '"completeTime"', '"costTime"',
    "\\ud83d", "\\udc00", "Infinity", "NaN", "1e999", "null", "true", "[[[[[[[[", '{"a":{"a":',
    '"prompt"', '"image_urls"', '"http://a"', '"model"', '"key"', "prompt,", '""', "\xef\xbb\xbf",
    "bytes 5-9/10", "gzip", "Fri, 27 Nov 2026 01:02:03 GMT", "+9999", "-0000", "http://[::1]/",
    "IEND\xaeB`\x82", "ftypavif", "moov", "mdat", "meta", "RIFF", "WEBP", "<svg", "</svg>",
)  # fmt: skip

_NOW: Final = datetime(2026, 11, 27, tzinfo=UTC)
_REF: Final = TaskRef("gpt-image-2", "task_1")
_STATUSES: Final = (200, 201, 204, 301, 400, 401, 402, 403, 404, 408, 409, 410, 422, 429, 499, 500)
_SECRET: Final = b"a secret for fuzzing"


def target(function: Target) -> Target:
    """Add a function to the targets, by its name."""
    TARGETS[function.__name__] = function
    return function


def check(name: str, data: bytes) -> None:
    """Run a target, and raise what is wrong: too much time taken, too."""
    begun = time.process_time()
    TARGETS[name](data)
    took = time.process_time() - begun
    assert took < LONGEST, f"{name}: {took:.1f} s for {len(data)} bytes"


def _answer(data: bytes) -> Answer:
    status = 599 if not data else data[0] if data[0] >= 100 else _STATUSES[data[0] % 16]
    return Answer(status, data[1:], None, "Fri, 27 Nov 2026 01:02:03 GMT")


# --- answers of the API ----------------------------------------------------------------------


def _plain_id(body: bytes) -> str | None:
    """Return the task id in a body that any reader of JSON agrees about."""
    with suppress(ValueError, RecursionError, AttributeError, TypeError, LookupError):
        task_id = json.loads(body.decode(), object_pairs_hook=_unique)["data"]["taskId"].strip()
        task_id.encode()
        return None if "\ufffd" in task_id else task_id or None
    return None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a name is given twice")
    return found


@target
def submit_answers(data: bytes) -> None:
    """A submit is bought, refused or uncertain, and never refused where there is an id."""
    answer = _answer(data)
    verdict = judge_submit(answer, "gpt-image-2")
    task_id = _plain_id(answer.body)
    if task_id is not None:
        assert verdict == Bought(task_id)
    if isinstance(verdict, Bought):
        ref = TaskRef("gpt-image-2", verdict.task_id)
        assert quote(ref.task_id, safe="")
        assert safe_name(ref.task_id)
    elif isinstance(verdict, Refused):
        assert isinstance(verdict.error, APIStatusError)
        assert "\n" not in str(verdict.error)
        str(verdict.error).encode()
        json.loads(error_text(verdict.error))
        assert answer.status >= 400 or read_object(answer.body).code is not None
    else:
        assert isinstance(verdict, Uncertain)
        assert verdict.body_head is not None
        assert len(verdict.body_head) <= 1024
    says_throttled(answer)
    balance = read_balance(read_object(answer.body))
    assert balance is None or abs(balance) <= 10**12


@target
def poll_answers(data: bytes) -> None:
    """Whatever a look tells can be kept in a journal, and read from there."""
    answer = _answer(data)
    verdict = judge_poll(answer, _REF)
    if isinstance(verdict, Over):
        outcome = verdict.outcome
        if isinstance(outcome, Result):
            again = result_of(result_text(outcome), outcome.model, outcome.task_id)
            assert (again.urls, again.cost_time) == (outcome.urls, outcome.cost_time)
            assert again.created_at == outcome.created_at
            assert all(url.encode() for url in outcome.urls)
            repr(outcome)
            for url in outcome.urls:
                with suppress(DownloadError):
                    redirected(httpx2.URL("https://cdn.example/"), url)
        else:
            assert isinstance(outcome, TaskFailedError)
            str(outcome).encode()
            json.loads(error_text(outcome))
        assert verdict.lasted is None or verdict.lasted > 0 or verdict.lasted == 0
    elif not isinstance(verdict, Running):
        str(verdict.error).encode()
        assert verdict.error.task_id == _REF.task_id
        json.loads(error_text(verdict.error))
    if isinstance(verdict, Over | Running):
        repr(verdict.snapshot)
        assert verdict.snapshot.state
        verdict.snapshot.state.encode()
        assert verdict.at is not None


# --- headers ---------------------------------------------------------------------------------


@target
def dates(data: bytes) -> None:
    """`Retry-After` and `Date` are seconds within bounds, or nothing."""
    value = data.decode("ascii", "replace")
    pause = parse_retry_after(value, _NOW)
    assert pause is None or 0 <= pause < float("inf")
    moment = parse_date(value)
    assert moment is None or 1577836800 < moment < 4102444800


_NAMES: Final = (
    b"Content-Range",
    b"ETag",
    b"Last-Modified",
    b"Content-Length",
    b"Content-Encoding",
)


@target
def download_headers(data: bytes) -> None:
    """What a file server's headers say can be asked for, or is refused as a download's error."""
    status, *values = data.split(b"\n")
    values = [value.strip(b" \t\r\0") for value in values]
    headers = [pair for pair in zip(_NAMES, values, strict=False) if pair[1]]
    transfer = Transfer()
    for code in (200, 206, 416):
        with suppress(DownloadError):
            transfer.admit(httpx2.Response(code, headers=headers), len(status))
        assert transfer.total is None or 0 <= transfer.total < 10**18
        httpx2.Request("GET", "https://cdn.example/a", headers=transfer.conditions(5))
    location = httpx2.Headers([(b"Location", status)]).get("location")
    with suppress(DownloadError):
        url = redirected(httpx2.URL("https://cdn.example/a?b"), location)
        assert url.scheme == "https"
        assert reach(url.host) in ("public", "private", "loopback", "link-local")
        assert "?" not in shown(url)


# --- media -----------------------------------------------------------------------------------


@target
def files(data: bytes) -> None:
    """A file has a type, and a few thousand reads tell whether it is whole."""
    asked = 0

    def read(offset: int, length: int) -> bytes:
        nonlocal asked
        asked += 1
        assert offset >= 0
        assert 0 <= length <= 1 << 16
        return data[offset : offset + length]

    found = media.identify(data[: media.HEAD])
    found.whole(len(data), read)
    assert asked <= 10_010
    with suppress(Again):
        for piece in Inflater().pieces([data[:7], data[7:]]):
            assert 0 < len(piece) <= BATCH


# --- callbacks -------------------------------------------------------------------------------

_SIGNER: Final = Signer(_SECRET)
_TOKEN: Final = seal(Intent("5a" * 16, "gpt-image-2", 2**32 - 1), _SIGNER)
_FILE_SIGNER: Final = Signer(_SECRET, FILES)
_FILE_NAME: Final = seal_file(FileToken("5a" * 32, "5a" * 8, "png", 2**32 - 1), _FILE_SIGNER)


@target
def callback_bodies(data: bytes) -> None:
    """A body names a task or none; the receiver answers it the same in pieces."""
    found = task_id_in(data)
    if found is not None:
        assert found.isascii()
        assert found.isprintable()
    told: list[TaskRef] = []
    receiver = WebhookReceiver("https://app.example/hook", _SECRET, on_unknown=told.append)
    parsed: TaskRef | int
    try:
        parsed = receiver.parse(_TOKEN, data)
    except CallbackError as error:
        parsed = error.status
    assert parsed == (TaskRef("gpt-image-2", found) if found else 400)
    assert _call(receiver, f"/hook/{_TOKEN}", data) == 503
    assert [ref.task_id for ref in told] == ([found] if found else [])


def _call(receiver: WebhookReceiver, path: str, body: bytes, method: str = "POST") -> int:
    half = len(body) // 2
    messages: Iterator[dict[str, Any]] = iter(
        [
            {"type": "http.request", "body": body[:half], "more_body": True},
            {"type": "http.request", "body": body[half:]},
        ]
    )
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return next(messages)

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "method": method}
    asyncio.run(receiver.asgi()(scope, receive, send))
    status = sent[0]["status"]
    assert isinstance(status, int)
    return status


@target
def callback_tokens(data: bytes) -> None:
    """No token but the one that was made opens anything, in any spelling."""
    text = data.decode("latin-1") if data[:1] < b"\x80" else data.decode("utf-8", "surrogateescape")
    found = unseal(text, [_SIGNER])
    assert found is None or seal(found, _SIGNER) == text
    token = _TOKEN
    for at, new in zip(data[::2], data[1::2], strict=False):  # Letters of a right one, changed.
        place = at % len(token)
        token = token[:place] + chr(new) + token[place + 1 :]
    assert (unseal(token, [_SIGNER]) is None) == (token != _TOKEN)
    file = unseal_file(text, [_FILE_SIGNER])
    assert file is None or seal_file(file[0], _FILE_SIGNER) == text
    name = _FILE_NAME
    for at, new in zip(data[::2], data[1::2], strict=False):
        place = at % len(name)
        name = name[:place] + chr(new) + name[place + 1 :]
    assert (unseal_file(name, [_FILE_SIGNER]) is None) == (name != _FILE_NAME)
    receiver = WebhookReceiver("https://app.example/hook", _SECRET)
    method, _, path = text.partition(" ")
    is_right = method == "POST" and f"/{path}".endswith(f"/{_TOKEN}")
    assert _call(receiver, path, b"{}", method) == (503 if is_right else 404)


# --- inputs ----------------------------------------------------------------------------------


class _File:
    """What `find_format` needs of a path."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def open(self, mode: str) -> BytesIO:
        assert mode == "rb"
        return BytesIO(self.data)


_MODELS: Final = (None, "gpt-image-1", "gpt-image-2", "flux-kontext", "sora-2")


@target
def rows(data: bytes) -> None:
    """Each row is an input that can be sent and kept, or a problem in words."""
    choice, text = (data[0] if data else 0), data[1:]
    with suppress(ConfigurationError):
        find_format(_File(text), "rows", None)  # type: ignore[arg-type]
    form = (*Format,)[choice % 3]
    fields: dict[str, object] = {"size": "1k"} if choice & 64 else {}
    defaults = Defaults(_MODELS[choice // 3 % 5], fields)
    for raw in read(form, lines(BytesIO(text))):
        row = raw if isinstance(raw, Problem) else row_of(raw, form, defaults)
        if isinstance(row, Problem):
            str(row).encode()
        else:
            assert row.key is None or row.key.encode()
            _use(row.input)
            _ = [doubt.encode() for doubt in row.doubts]


def _use(made: Any) -> None:
    identity(made, None).digest  # noqa: B018
    assert made.kind.startswith(made.model)
    assert made.price is None or made.price > 0
    body = json.loads(encode_submit(made, POLLED))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        assert from_dict(made.model, body["input"]) == made
    repr(made)


@target
def inputs(data: bytes) -> None:
    """A mapping makes an input, or a ValueError."""
    choice, text = (data[0] if data else 0), data[1:]
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return
    model = (*_MODELS, "../x")[1 + choice % 5]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        try:
            made = from_dict(str(model), fields)
        except ValueError as error:
            str(error)
        except TypeError:
            assert not isinstance(fields, dict)
        else:
            _use(made)


# --- journals --------------------------------------------------------------------------------


@target
def journal_rows(data: bytes) -> None:
    """A row of a journal is an entry, or damaged."""
    try:
        columns = json.loads(data)
        assert isinstance(columns, list)
        row = Row(*(_column(column) for column in columns))
    except (ValueError, TypeError, AssertionError, RecursionError):
        return
    try:
        entry = entry_of(row, "run.db")
    except JournalError as error:
        refused = error
    else:
        _keep(entry)
        return
    str(refused).encode()
    assert refused.bought is None or (row.purchases, row.task_id) == (0, None)


def _keep(entry: Entry) -> None:
    entry.input.payload()
    repr(entry)
    assert entry.cost >= 0
    if entry.result is not None:
        _ = entry.result.ref, result_text(entry.result)
    if entry.error is not None:
        error_text(entry.error)


def _column(value: object) -> Any:
    """Return what SQLite may give: of JSON, texts, numbers, NULL, and {"": "..."} for bytes."""
    if isinstance(value, dict):
        return str(value.get("")).encode("utf-8", "replace")
    if isinstance(value, str):
        value.encode()
    if isinstance(value, bool | list) or (isinstance(value, int) and abs(value) >= 2**63):
        raise TypeError
    return value


@target
def journal_logs(data: bytes) -> None:
    """A write-ahead log is whole, empty or damaged."""
    assert condition_of(BytesIO(data)) in ("whole", "empty", "damaged")


_BASE: Final[list[bytes]] = []


def _base(path: Path) -> bytes:
    """Return the bytes of a small journal: an item done, one failed, one in doubt."""
    if not _BASE:
        store = JournalStore(str(path))
        store.open(1_700_000_000.0, "1.0")
        connection = store._connection
        assert connection is not None
        error = TaskFailedError(
            "it failed", ref=_REF, fail_code="Timeout", fail_msg=None, family="timeout",
            retryable=True,
        )  # fmt: skip
        result = Result("task_1", "gpt-image-2", ("https://cdn.example/1.png",), {})
        for number, end in enumerate(("succeeded", "failed", "uncertain"), 1):
            moves.enter(connection, f"key-{number}", identity(GptImage2(prompt="a castle"), None))
            marks = {"price": 20_000, "mark": f"mark-{number}", "at": 1_700_000_001.0}
            moves.move(connection, "intend", number, **marks)
            if end == "uncertain":
                break
            moves.move(connection, "submitted", number, task_id=f"task_{number}", at=1.7e9)
            text = result_text(result) if end == "succeeded" else error_text(error)
            name = "result" if end == "succeeded" else "error"
            moves.move(connection, end, number, at=1_700_000_009.0, **{name: text})
        store.close()
        _BASE.append(path.read_bytes())
    return _BASE[0]


@target
def journal_files(data: bytes) -> None:
    """A file is opened and read, or refused; a damaged item is refused alone."""
    with tempfile.TemporaryDirectory(dir=_shm()) as directory:
        path = Path(directory, "run.db")
        changed = bytearray(_base(Path(directory, "base.db")))
        length = data[0] if data else 0
        for at in range(1, len(data) - 3, 4):  # Where, and two bytes that stand there then.
            place = int.from_bytes(data[at : at + 2], "big") % (len(changed) - 1)
            changed[place : place + 2] = data[at + 2 : at + 4]
        path.write_bytes(changed[: -1000 * length or None])
        before = path.read_bytes()
        store = JournalStore(str(path))
        try:
            store.open(1_700_000_100.0, "1.0")
        except JournalError as error:
            str(error)
            # In the header, of 100 bytes, SQLite notes the mode and counts changes.
            assert path.read_bytes()[100:] == before[100:]
            return
        try:
            _read(store)
        finally:
            with suppress(sqlite3.Error):
                store.close()


def _read(store: JournalStore) -> None:
    connection = store._connection
    assert connection is not None
    with suppress(sqlite3.Error):
        reads.counts(connection)
        assert min(reads.spent(connection)) >= 0
        after = 0
        while page := reads.page(connection, after=after, pending=False):
            after = page[-1].row
            for row in page:
                with suppress(JournalError):
                    entry_of(row, store.path)
        with suppress(JournalRefusal):
            row = moves.enter(connection, "key-1", identity(GptImage2(prompt="a castle"), None))
            with suppress(JournalError):
                entry_of(row, store.path)


def _shm() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
