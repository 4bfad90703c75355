"""What a service did while it was asked: answers, polls, callbacks, and what could not be asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, cast

from apixo_async._text import one_line

DAY: Final = 86_400.0

_MOST_MONEY: Final = 10**9

#: Characters of a service's words that a report shows.
_SHOWN: Final = 120
_URL: Final = re.compile(r"https?://\S+")

#: Parts of the names of headers by which services announce limits.
_LIMIT_WORDS: Final = ("ratelimit", "rate-limit", "quota", "remaining", "available")


class Unknown(Exception):  # a signal inside the contract, not an error of its users
    """End a check: what it would need was not seen."""


@dataclass(frozen=True, slots=True)
class SeenAnswer:
    """One answer of the service.

    Attributes:
        began: When the request was sent, in seconds since the Unix epoch.
        ended: When the answer was there.
        status: The HTTP status.
        headers: Names in lower case.
        content: The body.
    """

    began: float
    ended: float
    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def body(self) -> object:
        """The JSON of the body; None where it is none."""
        try:
            return cast("object", json.loads(self.content, parse_float=Decimal))
        except (ValueError, RecursionError):
            return None

    @property
    def envelope(self) -> Mapping[str, object]:
        """The object of the body, empty where it is none."""
        body = self.body
        return cast("Mapping[str, object]", body) if isinstance(body, dict) else {}

    @property
    def code(self) -> int | None:
        """The envelope's code."""
        code = self.envelope.get("code")
        return code if isinstance(code, int) and not isinstance(code, bool) else None

    @property
    def data(self) -> object:
        """The envelope's data."""
        return self.envelope.get("data")

    @property
    def error(self) -> int | None:
        """The code of an error: that of HTTP before the envelope's; None where it went well."""
        if self.status >= 300:
            return self.status
        return self.code if self.code not in (None, 0, 200) else None

    @property
    def status_object(self) -> Mapping[str, object]:
        """The status of a task; empty where there is none."""
        data = self.data
        return cast("Mapping[str, object]", data) if isinstance(data, dict) else {}

    @property
    def state(self) -> str:
        """The state of a task in small letters, as clients compare it."""
        return str(self.status_object.get("state", "")).strip().lower()

    @property
    def is_over(self) -> bool:
        """Whether it shows a task that has ended."""
        return self.state in ("success", "failed")

    def says(self) -> str:
        """Return what it says in a few words."""
        words = f"HTTP {self.status}"
        if not self.envelope:
            return f"{words}, no envelope"
        message = str(self.envelope.get("message"))
        return f"{words}, code {self.envelope.get('code')!r}, {message[:_SHOWN]!r}"


@dataclass(frozen=True, slots=True)
class ReceivedCallback:
    """One callback.

    Attributes:
        at: When it came, in seconds since the Unix epoch.
        answered: The status that it was answered with.
        headers: Names in lower case.
        content: The body.
    """

    at: float
    answered: int
    headers: Mapping[str, str]
    content: bytes

    def as_answer(self) -> SeenAnswer:
        """Return it as if it had been asked for."""
        return SeenAnswer(self.at, self.at, 200, self.headers, self.content)


@dataclass(frozen=True, slots=True)
class Flood:
    """What the limit of requests did with more than it allows; times are seconds of one clock.

    Attributes:
        kind: What was sent: polls, or requests for the balance.
        first_at: When the first request was sent.
        accepted: How many requests of the 60 s before the first 429 were accepted.
        refusal: The first 429, or None where none came.
        back_at: When a request was accepted again.
        freed: How many requests had left a window of 60 s when the limit was reached once more.
        again: How many were accepted until then.
        refused: How many requests were answered 429 in between.
    """

    kind: str
    first_at: float
    accepted: int
    refusal: SeenAnswer | None = None
    back_at: float | None = None
    freed: int | None = None
    again: int = 0
    refused: int = 0


@dataclass
class Evidence:
    """All that was seen; the checks of the contract are functions of it.

    Attributes:
        answers: By what was asked.
        polls: Of the one task, in order.
        callbacks: Those of a task in callback mode, in order of arrival.
        refused_callbacks: Those of another one, which were answered 500.
        flood: What the limit of requests did.
        crowd: Answers to more submits than tasks are allowed at once, in order.
        skipped: Why something was not asked, by the name of its stage.
        secrets: Words that no report may hold.
        speed: How many times faster than the documented service it is: a simulator says so.
    """

    answers: dict[str, SeenAnswer] = field(default_factory=dict[str, SeenAnswer])
    polls: list[SeenAnswer] = field(default_factory=list[SeenAnswer])
    callbacks: list[ReceivedCallback] = field(default_factory=list[ReceivedCallback])
    refused_callbacks: list[ReceivedCallback] = field(default_factory=list[ReceivedCallback])
    flood: Flood | None = None
    crowd: list[SeenAnswer] = field(default_factory=list[SeenAnswer])
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    secrets: set[str] = field(default_factory=set[str])
    speed: float = 1.0

    def __getitem__(self, name: str) -> SeenAnswer:
        """Return the answer to what was asked under a name.

        Raises:
            Unknown: It was not asked, or not answered.
        """
        if name not in self.answers:
            raise Unknown(self.reason(name.partition(":")[0]))
        return self.answers[name]

    def reason(self, stage: str) -> str:
        """Return why a stage has shown nothing."""
        return self.skipped.get(stage, "it was not asked, or not answered")

    def status(self, name: str) -> Mapping[str, object]:
        """Return the status of a task that was asked for under a name.

        Raises:
            Unknown: There is none.
        """
        found = self[name].status_object
        if not found:
            raise Unknown(f"no status object: {self[name].says()}")
        return found

    def all_answers(self) -> Iterator[SeenAnswer]:
        """Yield every answer of the API, thus none of a file."""
        yield from (answer for name, answer in self.answers.items() if ": file" not in name)
        yield from self.polls
        yield from self.crowd
        if self.flood is not None and self.flood.refusal is not None:
            yield self.flood.refusal

    def money(self, name: str) -> Decimal:
        """Return a balance.

        Raises:
            Unknown: It was not answered with a number.
        """
        amount = number_of(self[name].data)
        if amount is None:
            raise Unknown("the balance is no number")
        if not abs(amount) < _MOST_MONEY:
            raise Unknown("the balance is beyond all money")
        return amount

    def clean(self, text: str) -> str:
        """Return a text in one line, without URLs and without what no report may hold."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "...")
        return one_line(_URL.sub("(URL)", text))


def number_of(value: object) -> Decimal | None:
    """Return a number of JSON, or None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    return Decimal(value)


def decoded(result: object) -> object:
    """Return what a `resultJson` holds, in either form; None where it cannot be read."""
    if not isinstance(result, str):
        return result
    try:
        return cast("object", json.loads(result))
    except (ValueError, RecursionError):
        return None


def result_urls(answer: SeenAnswer) -> list[str]:
    """Return the `resultUrls` of a task, in either form of its result."""
    result = decoded(answer.status_object.get("resultJson"))
    if not isinstance(result, dict):
        return []
    urls = cast("Mapping[str, object]", result).get("resultUrls")
    found = cast("list[object]", urls) if isinstance(urls, list) else []
    return [url for url in found if isinstance(url, str)]


def limit_headers(answers: Iterable[SeenAnswer]) -> list[str]:
    """Return the names of headers that announce limits."""
    names = {name for answer in answers for name in answer.headers}
    return sorted(name for name in names if any(word in name for word in _LIMIT_WORDS))
