"""The JSON of the API: bodies are built, and answers are read however odd they are.

A field of the wrong type reads as missing, so that one odd value never hides the others: any answer
may hold the id of a paid task.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, NamedTuple, TypeAlias, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidatorFunctionWrapHandler
from pydantic import WrapValidator as Wrap
from pydantic_core import from_json

from apixo_async._result_files import files_of
from apixo_async._text import one_line
from apixo_async._types import Delivery, Result, TaskInput, TaskRef

T = TypeVar("T")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

#: A `Date` header outside of these is an error of its server.
_EARLIEST: Final = datetime(2020, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)

#: Characters of the service's own words that an error keeps.
MOST_WORDS: Final = 500

#: Unicode's replacement character: for a byte that is not UTF-8, or half of a surrogate pair.
_REPLACEMENT: Final = "\ufffd"

#: In JSON text: an escaped backslash, a surrogate pair, or (the group) half of one. A service that
#: cuts a text within an emoji writes such a half (RFC 8259, section 8.2), which can be encoded for
#: no terminal, log, journal or URL.
_HALF: Final = re.compile(
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)

#: Longer integers are read as floats, since Python refuses those of more than 4,300 digits.
_MOST_DIGITS: Final = 300

#: More are an error; integers beyond this could not be divided as floats.
_MOST_MILLISECONDS: Final = 1e300

#: USD; a balance above this is an error, and arithmetic with a `Decimal` of any size may raise.
_MOST_BALANCE: Final = Decimal(10) ** 12


#: By it a served simulator says how many times as fast as the real service it is.
SPEED_HEADER: Final = "X-Apixo-Simulator-Speed"


class Answer(NamedTuple):
    """An HTTP answer: its status and what arrived of its body.

    Attributes:
        status: The HTTP status.
        body: The decoded body, or its beginning where the connection broke.
        retry_after: Seconds of the `Retry-After` header, or None.
        date_header: The `Date` header, or None; of most answers it is never parsed.
        cut: Whether the body was longer than `LONGEST_ANSWER`, and its end is missing.
        speed_header: The header by which a simulator says how fast it is, or None.
    """

    status: int
    body: bytes
    retry_after: float | None = None
    date_header: str | None = None
    cut: bool = False
    speed_header: str | None = None

    @property
    def date(self) -> float | None:
        """When the service answered, by its own clock, in seconds since the Unix epoch."""
        return parse_date(self.date_header)


def _or_none(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    try:
        return handler(value)
    except (ValueError, ArithmeticError):  # The latter from numbers beyond a float.
        return None


Lenient: TypeAlias = Annotated[T | None, Wrap(_or_none)]


class _Wire:
    __slots__ = ()
    # A numeric id or fail code is still an id or a fail code.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(coerce_numbers_to_str=True)


WirePart = TypeVar("WirePart", bound=_Wire)


#: Filled by the first answers, which keeps imports fast. Threads that build the same one at once
#: get one each; with `defer_build`, pydantic before 2.14 would let them share a half-built one.
_ADAPTERS: Final[dict[type[_Wire], TypeAdapter[Any]]] = {}


_NUMBER: Final = frozenset[type]({int, float, type(None)})
_TEXT: Final = frozenset[type]({str, type(None)})

#: The types that the documents give the fields, and null, which are taken as they are.
_DOCUMENTED: Final[Mapping[str, frozenset[type]]] = {
    "code": frozenset({int, type(None)}),
    "data": frozenset({dict, type(None)}),
    "resultJson": frozenset({str, dict, type(None)}),
    **dict.fromkeys(("message", "taskId", "error", "state", "failCode", "failMsg"), _TEXT),
    **dict.fromkeys(("createTime", "completeTime", "costTime"), _NUMBER),
}


def _read(part: type[WirePart], given: object) -> WirePart:
    """Read the fields of a part of an answer; anything but an object has none."""
    found = cast("dict[str, object]", given) if isinstance(given, dict) else {}
    known = {name: found[name] for name in part.__annotations__ if name in found}
    for name, value in known.items():
        if type(value) not in _DOCUMENTED[name]:
            break
    else:
        return part(**known)  # Nearly always: there is nothing to convert.
    adapter = _ADAPTERS.get(part)
    if adapter is None:
        adapter = _ADAPTERS[part] = TypeAdapter(part)
    read: WirePart = adapter.validate_python(known)
    return read


@dataclass(slots=True)
class Envelope(_Wire):
    """`{"code": ..., "message": ..., "data": ...}`, each part possibly missing."""

    code: Lenient[int] = None
    message: Lenient[str] = None
    data: Any = None

    @property
    def words(self) -> str:
        """The service's own words on an error, on one line."""
        return one_line(": ".join(self.statements), MOST_WORDS)

    @property
    def statements(self) -> tuple[str, ...]:
        """What the service says of an error: `message` and `data.error`, each on one line."""
        inner = _read(Status, self.data).error
        said = (one_line(part) for part in (self.message, inner) if isinstance(part, str))
        return tuple(dict.fromkeys(part for part in said if part))


@dataclass(slots=True)
class Status(_Wire):
    """What `data` holds, in the wire's names: a task's id or status, or an error's words."""

    taskId: Lenient[str] = None  # noqa: N815 - the wire's name
    error: Lenient[str] = None
    state: Lenient[str] = None
    resultJson: Any = None  # noqa: N815
    failCode: Lenient[str] = None  # noqa: N815
    failMsg: Lenient[str] = None  # noqa: N815
    createTime: Lenient[float] = None  # noqa: N815
    completeTime: Lenient[float] = None  # noqa: N815
    costTime: Lenient[float] = None  # noqa: N815


def read_envelope(body: bytes) -> Envelope | None:
    """Return the envelope in a body, or None where there is none, such as in an HTML page."""
    return as_envelope(read_object(body))


def as_envelope(found: Envelope) -> Envelope | None:
    """Return what was found if it is an envelope of the API.

    It has an integer `code`, which the JSON of a gateway in front of the API has not.
    """
    # A task id is paid for, and counts without a code as well.
    return found if found.code is not None or read_task_id(found) else None


def read_object(body: bytes, *, cut: bool = False) -> Envelope:
    """Return the fields of an envelope that a body has, even if it is none.

    Of a body that is cut, the values before the cut are read.
    """
    return _read(Envelope, _parsed(body, cut=cut))


def _parsed(given: bytes | str, *, cut: bool = False) -> object:
    """Return parsed JSON however odd it is, or None; no text in it has half a surrogate pair."""
    try:
        return from_json(given, allow_partial=cut)
    except ValueError:
        pass
    # A byte-order mark, a raw control character or a byte that is not UTF-8 must not hide the id of
    # a paid task.
    text = given if isinstance(given, str) else given.decode(errors="replace")
    text = text.removeprefix("\ufeff")
    whole = _HALF.sub(lambda found: _REPLACEMENT if found[1] else found[0], text)
    try:
        return json.loads(
            whole,
            strict=False,
            parse_int=lambda digits: int(digits) if len(digits) < _MOST_DIGITS else float(digits),
        )
    except (ValueError, RecursionError):
        return None


def read_task_id(envelope: Envelope) -> str | None:
    """Return the id of the task that a submit made, or None."""
    task_id = (_read(Status, envelope.data).taskId or "").strip()
    # An id with a character that was lost is none: no task could be polled by it.
    return task_id if task_id and _REPLACEMENT not in task_id else None


def read_status(envelope: Envelope) -> Status | None:
    """Return the status object, or None where `data` holds none with a state."""
    status = _read(Status, envelope.data)
    return status if status.state else None


def read_balance(envelope: Envelope) -> Decimal | None:
    """Return the balance in USD, or None where `data` is no number."""
    data = cast("object", envelope.data)
    if isinstance(data, bool) or not isinstance(data, int | float | str):
        return None
    try:
        balance = Decimal(str(data))
    except (InvalidOperation, ValueError):
        return None
    return balance if balance.is_finite() and abs(balance) <= _MOST_BALANCE else None


def read_result(status: Status, ref: TaskRef) -> Result:
    """Build the result of a successful task; `resultJson` may be a string or an object."""
    raw = _decoded(status.resultJson)
    return Result(
        task_id=ref.task_id,
        model=ref.model,
        urls=_urls(raw) or tuple(file.url for file in files_of(raw)),
        raw=raw,
        created_at=_moment(status.createTime),
        completed_at=_moment(status.completeTime),
        cost_time=_seconds(status.costTime),
    )


def created_epoch(status: Status) -> float | None:
    """Return the task's creation in seconds since the Unix epoch, or None."""
    return _seconds(status.createTime)


def lasted(status: Status) -> float | None:
    """Return how many seconds a task took, or None.

    Its stamps come first, because `costTime` leaves out the time in which the task was queued.
    """
    created, completed = _seconds(status.createTime), _seconds(status.completeTime)
    if created and completed and completed >= created:
        return completed - created
    cost = _seconds(status.costTime)
    return cost if cost is not None and cost > 0 else None


def encode_submit(
    task_input: TaskInput, delivery: Delivery, images: Mapping[str, str] = MappingProxyType({})
) -> bytes:
    """Build the body of a submit; `request_type` is always sent, `provider` only when set.

    Args:
        task_input: What to make.
        delivery: The options.
        images: The URLs of local images, by what stands for them in the payload.
    """
    body: dict[str, object] = {"request_type": "callback" if delivery.callback_url else "async"}
    if delivery.callback_url:
        body["callback_url"] = delivery.callback_url
    if delivery.provider is not None:
        body["provider"] = delivery.provider
    payload = body["input"] = task_input.payload()
    if images:
        urls = cast("list[str]", payload["image_urls"])
        payload["image_urls"] = [images.get(url, url) for url in urls]
    return json.dumps(body).encode()


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds of a `Retry-After` header, given as a number or as an HTTP date."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        moment = _http_date(value)
        if moment is None:
            return None
        seconds = (moment - now).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def parse_speed(value: str | None) -> float | None:
    """Return the number of a simulator's `SPEED_HEADER`, from 0.001 to a million."""
    try:
        speed = 0.0 if value is None else float(value)
    except ValueError:
        return None
    return speed if 1e-3 <= speed <= 1e6 else None


def parse_date(value: str | None) -> float | None:
    """Return a `Date` header in seconds since the Unix epoch, or None where it is absurd."""
    moment = None if value is None else _http_date(value)
    if moment is None or not _EARLIEST < moment < _LATEST:
        return None
    return moment.timestamp()


def _http_date(value: str) -> datetime | None:
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _decoded(result_json: object) -> Mapping[str, object]:
    if isinstance(result_json, str):
        found = _parsed(result_json)
        result_json = result_json if found is None and result_json.strip() != "null" else found
    if isinstance(result_json, list):
        return {"resultUrls": cast("list[object]", result_json)}
    if isinstance(result_json, dict):
        return cast("Mapping[str, object]", result_json)
    return {} if result_json is None else {"resultJson": result_json}


def _urls(raw: Mapping[str, object]) -> tuple[str, ...]:
    found = raw.get("resultUrls")
    if isinstance(found, str):
        return (found,)
    if not isinstance(found, list):
        return ()
    return tuple(url for url in cast("list[object]", found) if isinstance(url, str) and url)


def _seconds(milliseconds: float | None) -> float | None:
    # A comparison and no `isfinite`, which raises for an integer of 400 digits.
    if milliseconds is None or not abs(milliseconds) <= _MOST_MILLISECONDS:
        return None
    return milliseconds / 1000


def _moment(milliseconds: float | None) -> datetime | None:
    seconds = _seconds(milliseconds)
    try:
        return None if seconds is None else _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return None
