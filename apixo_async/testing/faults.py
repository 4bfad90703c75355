"""What can go wrong with an exchange, and the script of when it does."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias, cast

from apixo_async.testing.exchanges import MEANINGS, Kind, Reply, as_json

Alteration: TypeAlias = Callable[[dict[str, Any]], None]
End: TypeAlias = Literal["answer", "close", "reset", "hang", "refuse", "unreachable"]

_UNSET: Final = object()
_GATEWAY_PAGE = b"<html><head><title>%d</title></head><body><h1>%d</h1><hr>gateway</body></html>"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one exchange instead of, or on top of, the healthy turn.

    Its class methods make it; the fields are for the transport and the server that apply it.

    Attributes:
        name: For the log.
        carried_out: Whether the service carries the request out.
        end: How the exchange ends; all but ``answer`` leave the client without one.
        wait: Seconds from the arrival of the request to that end.
        reply: The answer to give instead of the service's own.
        alter: Changes the envelope of the service's own answer in place.
        keep: The part of the body to send, 0 to 1; None sends all of it.
        framed: Whether a body cut short was announced with its full length.
        lasts: Seconds, before ``speed``, that the created task takes.
        fails: failCode and failMsg with which the created task ends.
        turns: How many turns this fault takes.
    """

    name: str
    carried_out: bool = True
    end: End = "answer"
    wait: float = 0.0
    reply: Reply | None = None
    alter: Alteration | None = None
    keep: float | None = None
    framed: bool = True
    lasts: float | None = None
    fails: tuple[str, str] | None = None
    turns: int = 1

    @classmethod
    def none(cls) -> Fault:
        """Let one turn go well."""
        return HEALTHY

    @classmethod
    def repeat(cls, n: int, fault: Fault) -> Fault:
        """Take ``n`` turns with the same fault.

        Raises:
            ValueError: ``n`` is below 1.
        """
        if n < 1:
            raise ValueError(f"n: {n} given; a fault takes at least one turn")
        return replace(fault, turns=n * fault.turns)

    @classmethod
    def status(
        cls,
        code: int,
        *,
        code_in_body: int | None = None,
        message: str | None = None,
        data: object = None,
        has_data: bool = True,
        envelope: bool = True,
        retry_after: float | None = None,
        carried_out: bool = False,
    ) -> Fault:
        """Answer with HTTP status ``code``, by default in an envelope.

        Args:
            code: The HTTP status; 200 with an error as ``code_in_body`` is possible.
            code_in_body: The envelope's code; the HTTP status unless given.
            message: The envelope's message; the documented meaning of the code unless given.
            data: The envelope's data, such as ``{"error": "..."}``.
            has_data: False leaves the key out.
            envelope: False sends JSON without ``code``, ``message`` and ``data``.
            retry_after: Seconds for a ``Retry-After`` header.
            carried_out: Whether the service carries the request out all the same.
        """
        inner = code if code_in_body is None else code_in_body
        message = message or MEANINGS.get(inner, "error")
        body: dict[str, object] = (
            {"code": inner, "message": message} if envelope else {"error": message}
        )
        if envelope and has_data:
            body["data"] = data
        headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
        reply = as_json(body, status=code, headers=headers)
        return cls(f"status {code}", carried_out=carried_out, reply=reply)

    @classmethod
    def html(cls, status: int = 502, *, carried_out: bool = False) -> Fault:
        """Answer with a gateway's HTML page."""
        page = _GATEWAY_PAGE % (status, status)
        reply = Reply(status, page, {"content-type": "text/html"})
        return cls(f"html {status}", carried_out=carried_out, reply=reply)

    @classmethod
    def raw(
        cls,
        status: int,
        body: bytes = b"",
        content_type: str = "application/json",
        *,
        headers: Mapping[str, str] | None = None,
        carried_out: bool = False,
    ) -> Fault:
        """Answer with exactly these bytes; ``headers`` may add a ``location`` and the like."""
        reply = Reply(status, body, {"content-type": content_type, **(headers or {})})
        return cls(f"raw {status}", carried_out=carried_out, reply=reply)

    @classmethod
    def lost_answer(cls) -> Fault:
        """Carry out the request and close the connection instead of answering."""
        return cls("lost_answer", end="close")

    @classmethod
    def reset_after(cls) -> Fault:
        """Carry out the request and reset the connection instead of answering."""
        return cls("reset_after", end="reset")

    @classmethod
    def reset_before(cls) -> Fault:
        """Reset the connection once the request was sent, and carry out nothing."""
        return cls("reset_before", carried_out=False, end="reset")

    @classmethod
    def refused(cls) -> Fault:
        """Refuse the connection: nothing is sent and nothing carried out."""
        return cls("refused", carried_out=False, end="refuse")

    @classmethod
    def unreachable(cls) -> Fault:
        """Neither accept nor refuse the connection: the client's connect timeout must end it."""
        return cls("unreachable", carried_out=False, end="unreachable")

    @classmethod
    def hang(cls, *, carried_out: bool = True) -> Fault:
        """Never answer: the client's read timeout must end it."""
        return cls("hang", carried_out=carried_out, end="hang")

    @classmethod
    def delay(cls, seconds: float, then: Fault | None = None) -> Fault:
        """Carry out on arrival; answer, or do ``then``, ``seconds`` seconds later."""
        wait = seconds + (then.wait if then else 0.0)
        return replace(then or HEALTHY, name=_name("delay", then), wait=wait)

    @classmethod
    def truncated(cls, keep: float = 0.5, *, content_length: bool = True) -> Fault:
        """Send the first part of the body, ``keep`` of it (0 to 1), and end the connection.

        Without ``content_length`` the body is framed by the end of the connection alone, so that
        an HTTP client cannot know that something is missing.
        """
        return cls("truncated", keep=keep, framed=content_length)

    @classmethod
    def odd_state(cls, state: str = "processing_r2") -> Fault:
        """Answer a poll with an undocumented state, as one caller met it, and without a result."""

        def alter(status: dict[str, Any]) -> None:
            for name in status.keys() - {"taskId", "createTime"}:
                del status[name]
            status["state"] = state

        return cls(f"odd_state {state}", alter=_of_status(alter))

    @classmethod
    def result_json_as_object(cls) -> Fault:
        """Give ``resultJson`` as an object instead of a string that holds JSON."""

        def alter(status: dict[str, Any]) -> None:
            if isinstance(status.get("resultJson"), str):
                status["resultJson"] = json.loads(status["resultJson"])

        return cls("result_json_as_object", alter=_of_status(alter))

    @classmethod
    def result_json(cls, value: object) -> Fault:
        """Give a success's ``resultJson`` this value, such as a string that holds no JSON."""

        def alter(status: dict[str, Any]) -> None:
            if "resultJson" in status:
                status["resultJson"] = value

        return cls("result_json", alter=_of_status(alter))

    @classmethod
    def no_result_urls(cls) -> Fault:
        """Let a success name no result."""
        return replace(cls.result_json('{"resultUrls":[]}'), name="no_result_urls")

    @classmethod
    def no_timestamps(cls) -> Fault:
        """Leave ``createTime``, ``completeTime`` and ``costTime`` out."""

        def alter(status: dict[str, Any]) -> None:
            for name in ("createTime", "completeTime", "costTime"):
                status.pop(name, None)

        return cls("no_timestamps", alter=_of_status(alter))

    @classmethod
    def data(cls, value: object = _UNSET) -> Fault:
        """Give the healthy envelope's data this value, or leave the key out without one."""

        def alter(envelope: dict[str, Any]) -> None:
            if value is _UNSET:
                envelope.pop("data", None)
            else:
                envelope["data"] = value

        return cls("data missing" if value is _UNSET else "data", alter=alter)

    @classmethod
    def data_null(cls) -> Fault:
        """Give the healthy envelope's data as null."""
        return replace(cls.data(None), name="data_null")

    @classmethod
    def task_fails(
        cls,
        fail_code: str = "CONTENT_VIOLATION",
        fail_msg: str = "Content does not meet safety guidelines",
        then: Fault | None = None,
    ) -> Fault:
        """Let the task that this submit creates fail, after its duration."""
        return replace(then or HEALTHY, name=_name("task_fails", then), fails=(fail_code, fail_msg))

    @classmethod
    def task_lasts(cls, seconds: float, then: Fault | None = None) -> Fault:
        """Let the task that this submit creates take ``seconds`` seconds, before ``speed``."""
        return replace(then or HEALTHY, name=_name("task_lasts", then), lasts=seconds)


HEALTHY: Final = Fault("")


def _check(turn: object) -> None:
    if turn is not None and not isinstance(turn, Fault):
        raise TypeError(f"{turn!r:.200} is no fault: such as Fault.lost_answer(), called")


def framed(reply: Reply, fault: Fault) -> tuple[dict[str, str], int]:
    """Return the headers to send, and how many bytes of the body to send before the end."""
    headers = dict(reply.headers)
    if fault.framed:
        headers["content-length"] = str(len(reply.body))
    length = len(reply.body)
    return headers, length if fault.keep is None else int(length * fault.keep)


def _name(outer: str, inner: Fault | None) -> str:
    return f"{outer}, {inner.name}" if inner and inner.name else outer


def _of_status(change: Alteration) -> Alteration:
    def alter(envelope: dict[str, Any]) -> None:
        data = envelope["data"]
        if isinstance(data, dict) and "state" in data:
            change(cast("dict[str, Any]", data))

    return alter


API: Final[frozenset[Kind]] = frozenset(("submit", "poll", "balance"))


@dataclass(frozen=True, slots=True)
class _Outage:
    start: float
    end: float
    fault: Fault
    kinds: frozenset[Kind]


class Script:
    """Decide the fault of each request: the script's next turn, else an outage, else none.

    Each method appends turns, one a request of that kind, in the order in which requests begin;
    None or ``Fault.none()`` is a healthy turn.
    """

    def __init__(self) -> None:
        self._turns: defaultdict[tuple[Kind, str | None], deque[Fault]] = defaultdict(deque)
        self._outages: list[_Outage] = []

    def submit(self, *turns: Fault | None) -> None:
        """Script the next submits.

        Raises:
            TypeError: A turn is neither a fault nor None, here and in the methods below.
        """
        self._add("submit", None, turns)

    def poll(self, *turns: Fault | None, task_id: str | None = None) -> None:
        """Script the next polls, of one task if given; that task's own turns come first."""
        self._add("poll", task_id, turns)

    def balance(self, *turns: Fault | None) -> None:
        """Script the next requests for the balance."""
        self._add("balance", None, turns)

    def download(self, *turns: Fault | None) -> None:
        """Script the next requests for result files."""
        self._add("download", None, turns)

    def during(self, start: float, end: float, fault: Fault, kind: Kind | None = None) -> None:
        """Have ``fault`` from ``start`` until ``end``, in seconds of the service's clock.

        It meets requests of ``kind`` that have no turn of their own; without a kind, every request
        to the API, but no download. ``-math.inf`` and ``math.inf`` have it always.
        """
        _check(fault)
        kinds: frozenset[Kind] = API if kind is None else frozenset((kind,))
        self._outages.append(_Outage(start, end, fault, kinds))

    @property
    def left(self) -> int:
        """How many scripted turns no request has taken yet."""
        return sum(fault.turns for queue in self._turns.values() for fault in queue)

    def clear(self) -> None:
        """Forget all turns and outages."""
        self._turns.clear()
        self._outages.clear()

    def take(self, kind: Kind, task_id: str | None, now: float) -> Fault:
        """Return the fault of the request that begins now, and use its turn up."""
        queue = self._turns.get((kind, task_id)) or self._turns.get((kind, None))
        if queue:
            fault = queue.popleft()
            if fault.turns > 1:
                queue.appendleft(replace(fault, turns=fault.turns - 1))
            return fault
        for outage in self._outages:
            if kind in outage.kinds and outage.start <= now < outage.end:
                return outage.fault
        return HEALTHY

    def _add(self, kind: Kind, task_id: str | None, turns: tuple[Fault | None, ...]) -> None:
        for turn in turns:
            _check(turn)
        self._turns[kind, task_id].extend(turn or HEALTHY for turn in turns)
