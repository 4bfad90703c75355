"""What the documents leave open, or contradict each other in: a service may do any of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPoints:
    """The switches of a simulator for what no document settles; unless given, as clients assume.

    What else is open has a keyword of `Simulator`: `retry_after`, `no_credit`, `result_lifetime`,
    `expired_status`, and those of callbacks that are early, repeated, or come while a task runs.

    Attributes:
        polls_count: Whether polls, and requests for the balance, count against the limit.
        refused_count: Whether requests that are answered 429 count.
        window: Whether the limit holds for any 60 s, or for each minute of the service's clock.
        errors: Whether an error is the HTTP status too, or only the envelope's code under a 200.
        error_data: Whether the data of an error is null, missing, or an object with ``error``.
        errors_buy: Whether a submit that a scripted fault answers 500, 502 or 504 makes a task.
        created_late: Seconds from the making of a task to its ``createTime``; negative is earlier.
        whole_seconds: Whether the times are rounded to seconds.
        failed_times: Whether a failed task has times at all.
        refunds: Whether the price of a task that fails is paid back at its end.
        any_model: Whether a task is found under another model's name.
        result_json: Whether ``resultJson`` is a string that holds JSON, or that JSON itself.
        pending: Whether a task is ``pending`` at first, or ``processing`` from the beginning.
        odd_state: Whether a task is ``processing_r2`` in the second half of its processing.
        task_ids: Whether ids are ``task_`` and eight digits, or UUIDs.
        limit_headers: Whether answers have ``X-Request-Id`` and ``X-RateLimit-...`` headers.
        cents: Whether the balance is rounded to cents, half of one up.
        bare_callbacks: Whether a callback is the status object without its envelope.
        signed_callbacks: Whether a callback has an ``X-Signature`` header.
        ranges: Whether files are served in ranges.
        places_linger: Seconds, before ``speed``, for which a task counts after its end.

    Raises:
        ValueError: A word is none of those that the point has.
    """

    polls_count: bool = True
    refused_count: bool = False
    window: Literal["sliding", "minute"] = "sliding"
    errors: Literal["status", "code"] = "status"
    error_data: Literal["null", "missing", "object"] = "null"
    errors_buy: bool = False
    created_late: float = 0.0
    whole_seconds: bool = False
    failed_times: bool = True
    refunds: bool = False
    any_model: bool = False
    result_json: Literal["string", "object"] = "string"
    pending: bool = True
    odd_state: bool = False
    task_ids: Literal["digits", "uuid"] = "digits"
    limit_headers: bool = False
    cents: bool = False
    bare_callbacks: bool = False
    signed_callbacks: bool = False
    ranges: bool = True
    places_linger: float = 0.0

    def __post_init__(self) -> None:
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                allowed = ", ".join(words)
                raise ValueError(f"{name}: {getattr(self, name)!r} given; allowed is {allowed}")


_WORDS: Final = {
    "window": ("sliding", "minute"),
    "errors": ("status", "code"),
    "error_data": ("null", "missing", "object"),
    "result_json": ("string", "object"),
    "task_ids": ("digits", "uuid"),
}


DEFAULTS: Final = OpenPoints()

#: Answers to a submit after which there may be a task. A 503 counts as a refusal.
ERRORS_THAT_MAY_BUY: Final = (500, 502, 504)
