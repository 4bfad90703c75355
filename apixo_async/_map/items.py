"""The inputs of a map, read one by one from any iterable, and what became of each."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias, TypedDict, cast

from apixo_async._catalog import medium
from apixo_async._polling.outcomes import billed
from apixo_async._sync import fresh
from apixo_async._task import Task
from apixo_async._types import Billing, Result, TaskRef
from apixo_async._validation import check_input
from apixo_async.errors import (
    ApixoError,
    Category,
    ConfigurationError,
    SubmitUncertainError,
    TaskFailedError,
)
from apixo_async.inputs import FluxKontext, GptImage1, GptImage2, Input, OtherModel

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

    from apixo_async._downloads.names import NameTemplate, Naming
    from apixo_async.journal._entry import Entry


#: What became of the last task of an input; see `Outcome.state`.
OutcomeState: TypeAlias = Literal["success", "failed", "unfinished", "uncertain", "unbought"]

#: What a cell of a table holds.
Plain: TypeAlias = str | int | float | list[str] | None


class OutcomeColumns(TypedDict):
    """The columns of an outcome in a table, whatever its input.

    Attributes:
        key: As the attribute of the outcome.
        model: The model's name; None where what was given is no input.
        task_id: The id of the last task, or None.
        state: What became of that.
        urls: Where its files are.
        paths: Where they were saved.
        purchases: As the attribute.
        resumed: As the attribute.
        tag: As the attribute.
        cost: USD of all purchases by the documented price or that of the client; None where it is
            not known.
        seconds: What the task took by the service's count, or None.
        error: The error's text, or None.
        category: Its category, or None.
    """

    key: str
    model: str | None
    task_id: str | None
    state: OutcomeState
    urls: list[str]
    paths: list[str]
    purchases: int
    resumed: bool
    tag: str | None
    cost: float | None
    seconds: float | None
    error: str | None
    category: Category | None


#: The columns that come before the fields of the input.
_FIRST: Final = ("key", "model", "task_id", "state")


@dataclass(frozen=True, slots=True, repr=False)
class Outcome:
    """What became of one input: a result, or an error.

    It can be pickled; the copy has the `ref` of its task, and no `task`.

    Attributes:
        key: The caller's, or the input's place among those read, counted from "0"; with a journal,
            one that is made of the input and of how often it occurred.
        input: What was to be made; None where what was given is no input.
        task: The last task that was bought for it; None where there is none, and where its end
            comes from the journal.
        result: What the task made, or None.
        error: Why there is no result, or None. Its `bought` says False when no task was made, and
            None when this cannot be known, as in a `SubmitUncertainError`.
            A `DownloadError` comes with the result that could not be saved.
        purchases: Tasks bought for it, each of which the service may have charged; earlier runs of
            the same journal count.
        paths: Where the result was saved, with `download_to`.
        resumed: Whether an earlier run of the same journal bought it, and this one nothing more.
        ref: The reference of the task that `result` or `error` is about, or None.
        tag: The `tag` of the map.
    """

    key: str
    input: Input | None
    task: Task | None
    result: Result | None
    error: ApixoError | None
    purchases: int
    paths: tuple[Path, ...] = ()
    resumed: bool = False
    ref: TaskRef | None = None
    tag: str | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a result, saved where it was to be saved."""
        return self.error is None

    @property
    def state(self) -> OutcomeState:
        """What became of the last task.

        "success"; "failed", as the service said; "unfinished": it may go on, and is waited for no
        more; "uncertain": it cannot be known whether one was bought; "unbought": none was.
        """
        if self.result is not None:
            return "success"
        if self.error is not None and self.error.task_over:
            return "failed"
        if self.error is None or isinstance(self.error, SubmitUncertainError):
            return "uncertain"
        if self.purchases:
            return "unfinished"
        return "uncertain" if self.error.bought is None else "unbought"

    def unwrap(self) -> Result:
        """Return the result.

        Raises:
            ApixoError: There is none, or it could not be saved: a copy of `error`.
        """
        if self.error is not None:
            raise fresh(self.error)
        assert self.result is not None  # One of the two is there.
        return self.result

    def to_dict(self) -> dict[str, Plain]:
        """Return one row of a table: `pandas.DataFrame([one.to_dict() for one in outcomes])`.

        Its columns are those of `OutcomeColumns`, for success and failure alike, and between
        `state` and `urls` the fields of the input. A field that has the name of a column is
        `input_` and its name.
        """
        columns = cast("dict[str, Plain]", self.columns())
        given = {
            f"input_{name}" if name in columns else name: _plain(value)
            for name, value in _fields_of(self.input).items()
        }
        first = {name: columns[name] for name in _FIRST}
        return {**first, **given, **{k: v for k, v in columns.items() if k not in first}}

    def columns(self) -> OutcomeColumns:
        """Return `to_dict` without the fields of the input: what a table of inputs lacks."""
        result, error = self.result, self.error
        return {
            "key": self.key,
            "model": self.input.model if self.input else None,
            "task_id": self.ref.task_id if self.ref else None,
            "state": self.state,
            "urls": [*result.urls] if result else [],
            "paths": [str(path) for path in self.paths],
            "purchases": self.purchases,
            "resumed": self.resumed,
            "tag": self.tag,
            "cost": self._cost(),
            "seconds": result.cost_time if result else None,
            "error": str(error) if error else None,
            "category": error.category if error else None,
        }

    def _cost(self) -> float | None:
        if self.state == "uncertain":
            return None
        if not self.purchases:
            return 0.0
        prices = (one.cost for one in (self.result, self.task) if one is not None)
        price = next((price for price in prices if price is not None), None)
        if price is None and self.input is not None:
            price = self.input.price
        return None if price is None else float(price * self.purchases)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> CoreSchema:
        # As a response model of FastAPI, or a field of a model, it is what `to_dict` returns.
        from pydantic_core import core_schema

        return core_schema.is_instance_schema(
            cls,
            serialization=core_schema.plain_serializer_function_ser_schema(
                cls.to_dict, return_schema=core_schema.dict_schema(core_schema.str_schema())
            ),
        )

    def __reduce__(self) -> tuple[object, ...]:
        values = (getattr(self, field.name) for field in fields(self))
        return Outcome, tuple(None if isinstance(value, Task) else value for value in values)

    def __copy__(self) -> Self:
        return self  # By itself, `copy` would go through `__reduce__`.

    def _repr_html_(self) -> str:
        """Show its files, or its error, in a notebook."""
        from apixo_async import _html  # Here, since only notebooks need it.

        title = self.key if self.ref is None else f"{self.key}: {self.ref}"
        urls = self.result.urls if self.result else ()
        made = medium(self.input.model) if self.input else ""
        return _html.page(title, urls, note=str(self.error or ""), medium=made)

    def __repr__(self) -> str:
        about = "" if self.ref is None else f" {self.ref}"
        ended = "success" if self.error is None else type(self.error).__name__
        return f"<Outcome {self.key!r}{about} {ended}>"


def _fields_of(given: Input | None) -> dict[str, object]:
    if given is None:
        return {}
    return given.payload() if isinstance(given, OtherModel) else given.model_dump(mode="json")


def _plain(value: object) -> Plain:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list):
        items = cast("Sequence[object]", value)
        if all(isinstance(item, str) for item in items):
            return [str(item) for item in items]
    return json.dumps(value, ensure_ascii=False)


def _ref_of(*about: Task | Result | ApixoError | None) -> TaskRef | None:
    return next((one.ref for one in about if one is not None and one.ref is not None), None)


#: A key of None stands for no key; an outcome has failed, and is passed on.
Given: TypeAlias = Input | tuple[str | None, Input] | Outcome
Inputs: TypeAlias = Iterable[Given] | AsyncIterable[Given]


class Stage(IntEnum):
    """Where an item is on its way; each later one up to SAVING has a task.

    Attributes:
        IDLE: Not begun, or over.
        ENTERING: The journal is asked for it.
        BUYING: A purchase waits for its pause, slot and permit, or for the answer to its POST.
        RUNNING: Its task is polled.
        DOUBTFUL: Its submit is uncertain, and a callback may name its task.
        SAVING: The files of its result are downloaded.
    """

    IDLE = 0
    ENTERING = 1
    BUYING = 2
    RUNNING = 3
    DOUBTFUL = 4
    SAVING = 5


@dataclass(slots=True)
class Item:
    """One input on its way through a map.

    Attributes:
        number: Its place among those read, from 0.
        stage: Where it is.
        given_key: The caller's, or None.
        key: The caller's, or its number; with a journal, the one that it has there.
        input: What to buy; None where what was given is no input.
        refused: Why nothing is bought for it, or None.
        task: The last task bought for it.
        purchases: Tasks bought for it.
        failure: How that task failed, while another one is tried.
        doubt: Why its submit was uncertain, while a callback may still name its task.
        entry: Its place in the journal, or None.
        resumed: Whether an earlier run bought it.
        bought_now: Whether this run bought something for it, or may have.
        result: What its last task made, or None.
        paths: Where the result was saved.
    """

    number: int
    given_key: str | None
    key: str
    input: Input | None
    refused: ApixoError | None = None
    stage: Stage = Stage.IDLE
    task: Task | None = None
    purchases: int = 0
    failure: TaskFailedError | None = None
    doubt: SubmitUncertainError | None = None
    entry: Entry | None = None
    resumed: bool = False
    bought_now: bool = False
    result: Result | None = None
    paths: tuple[Path, ...] = ()

    def naming(self, template: NameTemplate) -> Naming:
        """Return how the files of its result are named."""
        from apixo_async._downloads.names import Naming, slug

        assert self.input is not None  # Otherwise there is no result.
        prompt = self.input.payload().get("prompt")
        words = slug(prompt if isinstance(prompt, str) else "")
        values: dict[str, str | int] = {"row": self.number + 1, "key": self.key, "slug": words}
        return Naming(template, values, self.paths)

    def outcome(self, error: ApixoError | None, tag: str | None = None) -> Outcome:
        """Return what became of it."""
        return Outcome(
            key=self.key,
            input=self.input,
            task=self.task,
            result=billed(self.result, Billing(tag)) if self.result else None,
            error=error,
            purchases=self.purchases,
            paths=self.paths,
            resumed=self.resumed and not self.bought_now,
            tag=tag,
            ref=_ref_of(self.task, self.result, error),
        )


class OutcomeBuffer:
    """The outcomes that were not taken yet.

    Args:
        ordered: Whether they are taken in the order of their inputs.
    """

    __slots__ = ("_next", "_ordered", "_outcomes")

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._outcomes: OrderedDict[int, Outcome] = OrderedDict()
        self._next = 0

    def __len__(self) -> int:
        return len(self._outcomes)

    def put(self, number: int, outcome: Outcome) -> None:
        """Add the outcome of the input with this number."""
        self._outcomes[number] = outcome

    def take(self) -> Outcome | None:
        """Return the next outcome, or None while it is not there."""
        number = self._next if self._ordered else next(iter(self._outcomes), None)
        if number is None or number not in self._outcomes:
            return None
        self._next += 1
        return self._outcomes.pop(number)

    def clear(self) -> list[Outcome]:
        """Return all that are left, and forget them."""
        left = list(self._outcomes.values())
        self._outcomes.clear()
        return left


def check_inputs(given: object) -> Inputs:
    """Return what was given if inputs can be read from it.

    Raises:
        ConfigurationError: They cannot, or it is one input where many are expected.
    """
    if isinstance(given, GptImage1 | GptImage2 | FluxKontext | OtherModel):
        raise ConfigurationError("map takes many inputs: `submit` buys one")
    if isinstance(given, Mapping):
        raise ConfigurationError("map: a mapping given; its .items() are (key, input) pairs")
    if isinstance(given, str | bytes) or not isinstance(given, Iterable | AsyncIterable):
        raise ConfigurationError(
            f"map: a {type(given).__name__} given; it takes an iterable, or an async one, of "
            "inputs or (key, input) pairs"
        )
    return cast("Inputs", given)


async def items(inputs: Inputs) -> AsyncGenerator[Item]:
    """Yield the inputs as items; if they come from a generator, it is closed in the end."""
    number = 0
    async with aclosing(_entries(inputs)) as entries:
        async for entry in entries:
            yield _item(number, entry)
            number += 1


async def _entries(inputs: Inputs) -> AsyncGenerator[object]:
    if isinstance(inputs, AsyncIterable):
        source = aiter(inputs)
        try:
            async for entry in source:
                yield entry
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()
        return
    plain = iter(inputs)
    try:
        for entry in plain:
            yield entry
    finally:
        if isinstance(plain, Generator):
            plain.close()


def _item(number: int, entry: object) -> Item:
    key: object = None
    given = entry
    if isinstance(entry, Outcome):
        return _passed_on(number, entry)
    if isinstance(entry, tuple):
        pair = cast("tuple[object, ...]", entry)
        if len(pair) != 2:
            return _refused(number, f"a tuple of {len(pair)} given; a (key, input) pair has two")
        key, given = pair
        if key is not None and not isinstance(key, str):
            return _refused(
                number, f"key: {key!r:.200} given; a key is a str, such as {str(key)!r:.200}"
            )
    given_key = key if isinstance(key, str) else None
    shown = str(number) if given_key is None else given_key
    try:
        return Item(number, given_key, shown, check_input(given))
    except ConfigurationError as error:
        return Item(number, given_key, shown, None, error.with_traceback(None))


def _passed_on(number: int, parent: Outcome) -> Item:
    if parent.error is None:
        return _refused(
            number, f"{parent.key}: an Outcome with a result given; what is made of it is an input"
        )
    error = fresh(parent.error)
    if parent.result is not None:
        error.bought = True  # It could not be saved: there is no doubt about its task.
    return Item(number, parent.key, parent.key, None, error)


def _refused(number: int, why: str) -> Item:
    return Item(number, None, str(number), None, ConfigurationError(why))
