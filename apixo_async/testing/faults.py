"""What can go wrong with one exchange, scripted per turn and per kind of request.

Which faults let the service carry out the request (create the task, charge for it):

================== =========== =================================================================
fault              carried out what the client meets
================== =========== =================================================================
none               yes         the healthy answer
delay              yes         the answer, later
status, html, raw  on request  this answer instead (``carried_out=True`` does both)
lost_answer        yes         the connection is closed without an answer
reset_after        yes         the connection is reset without an answer
truncated          yes         the head and a part of the body, then the end of the connection
hang               yes         nothing, for ever: its own timeout must end it
reset_before       no          the connection is reset after the request was sent
refused            no          no connection; no byte is sent
unreachable        no          no connection, nor a refusal: its own timeout must end it
odd_state and the  yes         the healthy answer, altered as the fault's name says
other alterations
task_fails         yes         the healthy answer; the task that the submit creates will fail
task_lasts         yes         the healthy answer; the task that the submit creates lasts so long
================== =========== =================================================================

``carried_out=False`` makes ``hang`` spare the service too.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast

from apixo_async.testing.replies import MEANINGS, Reply, as_json

Alteration: TypeAlias = Callable[[dict[str, Any]], None]
End: TypeAlias = Literal["answer", "close", "reset", "hang", "refuse", "unreachable"]

_UNSET: Final = object()
_GATEWAY_PAGE = b"<html><head><title>%d</title></head><body><h1>%d</h1><hr>gateway</body></html>"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one exchange instead of, or on top of, the healthy turn.

    Made by its class methods; every field is for those who write a server around it.

    Attributes:
        name: For the log.
        carried_out: Whether the service does what it is asked for.
        end: How the exchange ends; all but ``answer`` leave the client without one.
        wait: Seconds from the arrival of the request to that end.
        reply: The answer to give instead of the service's own.
        alter: Changes the envelope of the service's own answer in place.
        keep: The part of the body to send, 0 to 1; None sends all of it.
        framed: Whether a body cut short was announced with its full length.
        lasts: Seconds, before ``speed``, that the created task will take.
        fails: failCode and failMsg with which the created task will end.
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
        return dataclasses.replace(fault, turns=n * fault.turns)

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
        """Answer with HTTP status ``code``, in an envelope unless told otherwise.

        Args:
            code: The HTTP status; 200 with an error as ``code_in_body`` is possible.
            code_in_body: The envelope's code; the HTTP status unless given.
            message: The envelope's message; the documents' word for the code unless given.
            data: The envelope's data, such as ``{"error": "..."}``.
            has_data: False leaves the key out.
            envelope: False sends JSON without ``code``, ``message`` and ``data``.
            retry_after: Seconds for a ``Retry-After`` header.
            carried_out: Whether the service does what it is asked for all the same.
        """
        inner = code if code_in_body is None else code_in_body
        word = message or MEANINGS.get(inner, "error")
        body: dict[str, object] = {"code": inner, "message": word} if envelope else {"error": word}
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
        """Carry out on arrival and answer, or do ``then``, so many seconds later."""
        wait = seconds + (then.wait if then else 0.0)
        return dataclasses.replace(then or HEALTHY, name=_name("delay", then), wait=wait)

    @classmethod
    def truncated(cls, keep: float = 0.5, *, content_length: bool = True) -> Fault:
        """Send the first part of the body, ``keep`` of it (0 to 1), and end the connection.

        Without ``content_length`` the body is framed by the end of the connection alone, so that
        an HTTP client cannot know that something is missing.
        """
        return cls("truncated", keep=keep, framed=content_length)

    @classmethod
    def odd_state(cls, state: str = "processing_r2") -> Fault:
        """Answer a look with an undocumented state, as one caller met it, and no more than that."""

        def alter(status: dict[str, Any]) -> None:
            for name in status.keys() - {"taskId", "createTime"}:
                del status[name]
            status["state"] = state

        return cls(f"odd_state {state}", alter=_of_status(alter))

    @classmethod
    def result_json_as_object(cls) -> Fault:
        """Give ``resultJson`` as an object instead of a string that holds JSON."""

        def alter(status: dict[str, Any]) -> None:
            if "resultJson" in status:
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
        return dataclasses.replace(cls.result_json('{"resultUrls":[]}'), name="no_result_urls")

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
        return dataclasses.replace(cls.data(None), name="data_null")

    @classmethod
    def task_fails(
        cls,
        fail_code: str = "CONTENT_VIOLATION",
        fail_msg: str = "Content does not meet safety guidelines",
        then: Fault | None = None,
    ) -> Fault:
        """Let the task that this submit creates fail, after its duration."""
        return dataclasses.replace(
            then or HEALTHY, name=_name("task_fails", then), fails=(fail_code, fail_msg)
        )

    @classmethod
    def task_lasts(cls, seconds: float, then: Fault | None = None) -> Fault:
        """Let the task that this submit creates take so long, before ``speed``."""
        return dataclasses.replace(then or HEALTHY, name=_name("task_lasts", then), lasts=seconds)


HEALTHY: Final = Fault("")


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
