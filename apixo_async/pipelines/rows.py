"""A row becomes an input and a key, and its outcome columns: however often an engine reruns it."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from types import NoneType
from typing import Any, Final, NamedTuple, Self, cast, get_args, get_origin, get_type_hints

from anyio.from_thread import BlockingPortal, start_blocking_portal
from pydantic import ValidationError

from apixo_async import ApixoError, AsyncClient, ConfigurationError, Input, Outcome, from_dict
from apixo_async._at_exit import open_things
from apixo_async._canonical import identity
from apixo_async._catalog import Provider
from apixo_async._map.items import OutcomeColumns
from apixo_async._text import field_lines
from apixo_async._validation import check_delivery, check_key
from apixo_async.stores import Backend

#: Held while a client is made.
_opening: Final = threading.Lock()

#: Characters of a run's name: a key has room for that of the row then.
_LONGEST_RUN: Final = 100

#: Stands for a cell, where none is known.
_ANY: Final = "any"


class _Open(NamedTuple):
    """The client of this process, and the thread on whose event loop it is."""

    portal: BlockingPortal
    client: AsyncClient
    stack: ExitStack


class RowBuyer:
    """Buy a task for each row, at most once for each key, and return its outcome as columns.

    It is sent to the processes of an engine as it is made, and has one client in each: on an event
    loop of its own, since engines may block theirs. It is made at the first row, and closed at the
    end of the process. A row that the engine runs again, in whichever process, gets the task that
    was bought for it.

    What is wrong with one row, and what becomes of its task, is data: `state`, `error` and
    `category` are columns. What is wrong with all rows is raised.

    Args:
        run: A name for this run: the key of a row is `{run}/{its key}`. Another run buys anew.
        model: The model of all rows.
        fields: Where the fields of the input come from: columns by field. A cell that is None or
            NaN is not given.
        values: Fields that are the same in all rows.
        key: The column that distinguishes rows, a str or an int; None for the input itself, so that
            equal inputs are bought once.
        store: Where keys are: a file for the processes of one host, PostgreSQL for many hosts; see
            `AsyncClient`.
        unsafe_without_store: Whether rows may be bought without a store. Then each rerun of a row
            buys it again, and each process counts its limits by itself.
        provider: As for `AsyncClient.submit`.
        download_to: A folder that all processes can write to: the column `paths`.
        read: Whether to have the files themselves, in a column `data`.
        prefix: What the names of the new columns begin with.
        **options: Those of `AsyncClient`, for a client in each process. Without `api_key`, each
            process reads APIXO_API_KEY.

    Raises:
        ConfigurationError: There is no store, or an argument cannot be used.
    """

    def __init__(
        self,
        run: str,
        *,
        model: str,
        fields: Mapping[str, str],
        values: Mapping[str, object] | None = None,
        key: str | None = None,
        store: Backend | str | None = None,
        unsafe_without_store: bool = False,
        provider: Provider | None = None,
        download_to: Path | str | None = None,
        read: bool = False,
        prefix: str = "",
        **options: Any,
    ) -> None:
        if store is None and not unsafe_without_store:
            raise ConfigurationError(
                "rows: an engine may run a row again, and would buy it again: give `store=`, a "
                "file or a DSN of PostgreSQL, or accept that with `unsafe_without_store=True`"
            )
        if "/" in check_key(run, "run") or len(run) > _LONGEST_RUN:  # Two could make one key.
            raise ConfigurationError(
                f"run: {run!r} given; it has no '/', and {_LONGEST_RUN} characters at most"
            )
        self._run = run
        self._model = model
        self._fields = _checked("fields", fields)
        self._values = _checked("values", values or {})
        _check_fields(model, self._fields, self._values)
        self._key = key
        self._has_store = store is not None
        check_delivery(None, provider)
        self._provider: Provider | None = provider
        self._download_to = None if download_to is None else Path(download_to)
        self._read = read
        self._prefix = str(prefix)
        if unknown := options.keys() - inspect.signature(AsyncClient).parameters:
            raise ConfigurationError(f"rows: AsyncClient has no option {min(unknown)!r}")
        self._options: dict[str, Any] = {**options, "store": store}
        self._open: _Open | None = None
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"<RowBuyer {self._run!r} of {self._model}>"

    def __getstate__(self) -> dict[str, object]:
        """Leave the client out: each process has its own."""
        return {**self.__dict__, "_open": None, "_pid": os.getpid()}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, _pid=os.getpid())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- columns -------------------------------------------------------------------------

    @property
    def reads(self) -> list[str]:
        """The columns that a row needs."""
        columns = [*self._fields.values(), *([] if self._key is None else [self._key])]
        return [*dict.fromkeys(columns)]

    @cached_property
    def adds(self) -> dict[str, type]:
        """The columns that a row gets, and the type of each: str, int, float, bool, or a list."""
        hints = {name: _type_of(hint) for name, hint in get_type_hints(OutcomeColumns).items()}
        if self._read:
            hints["data"] = list[bytes]
        return {f"{self._prefix}{name}": hint for name, hint in hints.items()}

    def check(self, columns: Iterable[str]) -> None:
        """Check that a table has what is read, and nothing that would be replaced.

        Raises:
            ConfigurationError: It has not; nothing was bought.
        """
        given = {*columns}
        if missing := [name for name in self.reads if name not in given]:
            raise ConfigurationError(f"rows: no column {missing[0]!r}; there are {sorted(given)}")
        if taken := [name for name in self.adds if name in given]:
            raise ConfigurationError(
                f"rows: a column {taken[0]!r} is there already: give the new ones a `prefix=`"
            )

    # --- buying --------------------------------------------------------------------------

    async def buy(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Buy the task of a row, or find it, and return the new columns once it is over.

        Raises:
            ConfigurationError: The row lacks a column, or the client cannot be made.
        """
        [bought] = await self.buy_all([row])
        return bought

    async def buy_all(self, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Buy the tasks of many rows at the same time; return their columns in the same order.

        Raises:
            ConfigurationError: A row lacks a column, or the client cannot be made.
        """
        rows = [*rows]
        for row in rows:
            self.check(row)
        opened = self._opened()
        buying = opened.portal.start_task_soon(self._buy_all, opened.client, rows)
        return await asyncio.wrap_future(buying)

    async def _buy_all(
        self, client: AsyncClient, rows: Iterable[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        async with asyncio.TaskGroup() as group:
            buying = [group.create_task(self._buy(client, row)) for row in rows]
        return [each.result() for each in buying]

    async def _buy(self, client: AsyncClient, row: Mapping[str, Any]) -> dict[str, Any]:
        outcome, data = await self._outcome(client, row)
        columns: dict[str, Any] = {**outcome.columns()}
        if self._read:
            columns["data"] = data
        return {f"{self._prefix}{name}": value for name, value in columns.items()}

    async def _outcome(
        self, client: AsyncClient, row: Mapping[str, Any]
    ) -> tuple[Outcome, list[bytes]]:
        data = list[bytes]()
        key, made, task, result, error = self._run, None, None, None, None
        paths: tuple[Path, ...] = ()
        try:
            made, key = self._wanted(row)
            task = await client.submit(
                made, key=key if self._has_store else None, provider=self._provider, tag=self._run
            )
            result = await task
            if self._download_to is not None:
                paths = tuple(await client.download(result, self._download_to))
            if self._read:
                data = [file.content for file in await client.read(result)]
        except ApixoError as caught:
            error = caught
        about = task or error
        outcome = Outcome(
            key=key,
            input=made,
            task=task,
            result=result,
            error=error,
            purchases=int(task is not None),
            paths=paths,
            ref=about.ref if about else None,
            tag=self._run,
        )
        return outcome, data

    def _wanted(self, row: Mapping[str, Any]) -> tuple[Input, str]:
        """Return the input of a row, and its key.

        Raises:
            ConfigurationError: It has none; nothing was sent.
        """
        try:
            made = self._input(row)
            return made, self._key_of(row, made)
        except ConfigurationError:
            raise
        except Exception as error:  # What is in a cell may be anybody's: its `repr` may raise.
            raise ConfigurationError(
                f"{self._model}: a cell makes no field of an input ({type(error).__name__})"
            ) from None

    def _input(self, row: Mapping[str, Any]) -> Input:
        cells = {field: _plain(row[column]) for field, column in self._fields.items()}
        given = {field: cell for field, cell in cells.items() if cell is not None}
        try:
            return from_dict(self._model, {**self._values, **given})
        except ValidationError as error:
            raise ConfigurationError("; ".join(field_lines(error))) from None
        except (ValueError, TypeError) as error:
            raise ConfigurationError(str(error)) from None

    def _key_of(self, row: Mapping[str, Any], made: Input) -> str:
        if self._key is None:
            return check_key(f"{self._run}/{identity(made, self._provider).digest[:32]}")
        cell = _plain(row[self._key])
        if isinstance(cell, bool) or not isinstance(cell, str | int) or cell == "":
            raise ConfigurationError(f"{self._key}: {cell!r:.200} given; a key is a str or an int")
        return check_key(f"{self._run}/{cell}")

    # --- the client ----------------------------------------------------------------------

    def _opened(self) -> _Open:
        with _opening:
            if self._open is None:
                if self._download_to is not None:
                    _check_folder(self._download_to)
                client, stack = AsyncClient(**self._options), ExitStack()
                portal = stack.enter_context(start_blocking_portal(name="apixo_async rows"))
                stack.callback(lambda: portal.call(client.aclose))
                self._open, self._pid = _Open(portal, client, stack), os.getpid()
                open_things.add(self)
            if self._pid != os.getpid():
                raise ConfigurationError(
                    "this RowBuyer was used before the process forked: make a new one in the child"
                )
            return self._open

    def close(self) -> None:
        """Close the client of this process in bounded time; the end of the process does it, too."""
        with _opening:
            if self._pid != os.getpid():
                return
            opened, self._open = self._open, None
            open_things.discard(self)
        if opened is not None:
            opened.stack.close()


def _checked(name: str, given: object) -> dict[str, Any]:
    found = dict(cast("Mapping[object, Any]", given)) if isinstance(given, Mapping) else None
    if found is None or not all(isinstance(each, str) for each in found):
        raise ConfigurationError(f"{name}: {given!r:.200} given; a mapping of names of fields")
    return cast("dict[str, Any]", found)


def _check_fields(model: str, fields: Mapping[str, object], values: Mapping[str, object]) -> None:
    """Check what is the same for all rows.

    Raises:
        ConfigurationError: It makes no input, whatever is in a row.
    """
    if not fields or not all(isinstance(column, str) for column in fields.values()):
        raise ConfigurationError(f"fields: {fields!r:.200} given; columns by field")
    if both := fields.keys() & values:
        raise ConfigurationError(f"{min(both)}: it is in `fields` and in `values`")
    try:
        from_dict(model, {**values, **dict.fromkeys(fields, _ANY)})
    except ValidationError as error:
        found = zip(error.errors(), field_lines(error), strict=True)
        certain = (line for each, line in found if _is_certain(each["type"], each["loc"], values))
        if said := "; ".join(certain):
            raise ConfigurationError(said) from None
    except (ValueError, TypeError) as error:
        raise ConfigurationError(str(error)) from None


def _is_certain(kind: str, where: Sequence[object], values: Mapping[str, object]) -> bool:
    """Return True if a field is wrong whatever is in a row."""
    return kind in {"missing", "extra_forbidden"} or (bool(where) and where[0] in values)


def _check_folder(folder: Path) -> None:
    """Check that files can be saved, before they are bought.

    Raises:
        ConfigurationError: They cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigurationError(f"download_to: {folder}: {error.strerror}") from None


def _type_of(hint: Any) -> type:
    """Return the type of a column whose cells may be None."""
    options = [one for one in (get_args(hint) or (hint,)) if one is not NoneType]
    if get_origin(hint) is list:
        return hint  # type: ignore[no-any-return]  # a list of something
    first = options[0]
    while get_args(first):  # Of a Literal, the type of its words.
        first = get_args(first)[0]
    return first if isinstance(first, type) else type(first)


def _plain(cell: Any) -> Any:
    """Return what a cell holds: of an array or a scalar of numpy, in Python's types."""
    if isinstance(cell, Exception):  # It could not be read.
        raise cell
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    return None if isinstance(cell, float) and math.isnan(cell) else cell
