"""The client: what callers call."""

from __future__ import annotations

import asyncio
import os
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self, overload

from apixo_async._catalog import Provider
from apixo_async._downloads import DEFAULT_MAX_BYTES, READ_MAX_BYTES, READ_MAX_TOTAL
from apixo_async._reporting import Reporter, guarded
from apixo_async._types import (
    Estimate,
    File,
    Limits,
    Result,
    Snapshot,
    Statistics,
    TaskRef,
    estimate,
    price_of,
)
from apixo_async._validation import (
    check_delivery,
    check_hook,
    check_hooks,
    check_input,
    check_key,
    check_ref,
    check_resubmit,
    check_tag,
    check_timeout,
    require,
)
from apixo_async.errors import ClientClosedError, ConfigurationError, SubmitUncertainError
from apixo_async.inputs import Input

if TYPE_CHECKING:
    import httpx2

    from apixo_async._budget import Budget
    from apixo_async._config import Timeouts
    from apixo_async._downloads.spool import FileStream
    from apixo_async._limits.limiter import Limiter
    from apixo_async._map.buyer import Orphan
    from apixo_async._map.items import Inputs
    from apixo_async._map.options import Amount, StrPath
    from apixo_async._map.outcomes import Outcomes
    from apixo_async._polling.policy import Polling
    from apixo_async._runtime import Engine
    from apixo_async._submit.keyed import KeyedSubmits
    from apixo_async._task import Task
    from apixo_async.errors import FailureCategory
    from apixo_async.events import EventHooks
    from apixo_async.stores import Backend, State, StoreEntry
    from apixo_async.webhooks import WebhookReceiver

_NEEDS_STORE: Final = "{} needs a client with a store=…: nothing else remembers keys"


class AsyncClient:
    """A client of the APIXO generation API, for one event loop and any number of coroutines.

    Use it as a context manager, or call `aclose()`. Constructing one does no I/O and needs no
    loop. It binds to the loop of its first use.

    Args:
        api_key: The key; None reads the environment variable APIXO_API_KEY.
        base_url: Where the API is, with or without `/api/v1`; None reads APIXO_BASE_URL, else
            takes the service's own. Plain http is for loopback hosts only.
        limits: By default the documented ones: 1,000 tasks at once, 10,000 requests in any 60 s.
        polling: When to poll tasks; by default `Polling.adaptive()`, which learns it.
        limiter: A limiter to share with other clients of the key, in place of `limits`.
        webhooks: A receiver of callbacks, which then trigger most polls.
        store: What processes that use the account share: a `SqliteStore`, a `PostgresStore`, the
            URL or path of one. With it `limits` hold for all of them together, submits can have
            keys, and the tasks of a process that dies are polled by the others.
        account: The store's name for the account, given before a key is rotated; None: its digest.
        prices: USD of a task by model, where the documents give no price.
        budget: What all purchases together may cost, such as `Budget(50, per="day")`.
        transport: An `httpx2.AsyncBaseTransport` to use, and to close in the end.
        timeout: Seconds for each exchange, or a `Timeouts`.
        proxy: A proxy's URL; None takes the environment's, "" none.
        verify: Whether to check certificates, or the `ssl.SSLContext` that does.
        on_event: Called with every event record, or several that are; none may block.
        on_orphan: Called with the `Task` or `SubmitUncertainError` of a cancelled submit.
        seed: Seeds every jitter, for replays.

    Raises:
        ConfigurationError: A setting is wrong.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        limits: Limits | None = None,
        polling: Polling | None = None,
        limiter: Limiter | None = None,
        webhooks: WebhookReceiver | None = None,
        store: Backend | str | None = None,
        account: str | None = None,
        prices: Mapping[str, Amount] | None = None,
        budget: Budget | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
        timeout: float | Timeouts | None = None,
        proxy: str | None = None,
        verify: ssl.SSLContext | bool = True,
        on_event: EventHooks | None = None,
        on_orphan: Callable[[Orphan], None] | None = None,
        seed: int | None = None,
    ) -> None:
        # Here, since a program that only names this class needs none of what a client is made of.
        from apixo_async._runtime import Engine, Lifecycle
        from apixo_async._settings import Settings

        try:
            self._settings = Settings.checked(
                api_key,
                base_url=base_url,
                limits=limits,
                polling=polling,
                limiter=limiter,
                webhooks=webhooks,
                store=store,
                account=account,
                prices=prices,
                budget=budget,
                transport=transport,
                timeout=timeout,
                proxy=proxy,
                verify=verify,
                seed=seed,
            )
            report = Reporter(*check_hooks("on_event", on_event))
            self._on_orphan = check_hook("on_orphan", on_orphan)
            self._rng = random.Random(seed)
            self._life = Lifecycle(
                partial(Engine.wired, self._settings, report, self._rng, self._orphan),
                transport=self._settings.transport,
                report=report,
                patience=self._settings.timeouts.exchange,
            )
        except ConfigurationError as error:
            # This frame and those below hold the key as text, and crash reporters show frames
            # (invariant 7).
            api_key = None
            raise error.with_traceback(None) from None

    async def submit(
        self,
        input: Input,
        /,
        *,
        key: str | None = None,
        callback_url: str | None = None,
        provider: Provider | None = None,
        tag: str | None = None,
        timeout: float | None = None,
    ) -> Task:
        """Buy one task, and return its handle once the service has given it an id.

        A submit that the service certainly did not accept is repeated automatically; one that it
        may have accepted never is.

        With a key, at most one purchase is made, whichever process asks, however often and after
        any crash, until you say otherwise by `resubmit` or `resolve`: who asks again gets the same
        task, also one that is over. The task is in the store before this returns.

        Args:
            input: What to make; `from_dict` builds one from a mapping.
            key: What stands for this purchase in the store: 1 to 200 characters.
            callback_url: A public https URL of your own that the service posts the outcome to.
            provider: The route: "auto", "value" or "official".
            tag: A word of your own, such as a customer's id, of at most 200 characters: every
                event, error and result of the task has it. It is not sent; a store keeps it, for
                the process that takes the task over.
            timeout: Seconds to wait for a slot and a permit at most; never bounds the request.

        Raises:
            SubmitUncertainError: A task may have been bought; the client cannot find out.
            KeyConflictError: The key stands for another input; nothing was bought.
            StoreError: The store cannot be used; nothing was bought.
            BudgetExceededError: It would cost more than is left; nothing was bought.
            APIStatusError: The service refused; nothing was bought.
            APIConnectionError: Nothing was sent, within the timeout or at all; nothing was bought.
            ClientClosedError: The client was closed; nothing was bought.
        """
        check_input(input)
        check_timeout(timeout)
        delivery = check_delivery(callback_url, provider, tag)
        engine = self._buying()
        if engine.keyed is not None:
            key = None if key is None else check_key(key)
            return await engine.keyed.submit(input, delivery, timeout, key=key)
        if key is not None:
            raise ConfigurationError(_NEEDS_STORE.format("submit(key=…)"))
        return await engine.submitter.submit(input, delivery, timeout)

    async def generate(
        self,
        input: Input,
        /,
        *,
        key: str | None = None,
        tag: str | None = None,
        timeout: float | None = None,
    ) -> Result:
        """Buy one task and wait for its result.

        Args:
            input: What to make.
            key: As for `submit`.
            tag: As for `submit`.
            timeout: Seconds to wait in all; None waits until the task's age limit.

        Raises:
            WaitTimeoutError: The timeout has passed; the task goes on, and can be attached to.
            TaskFailedError: The service gave up on it.
            ApixoError: As `submit` does.
        """
        check_timeout(timeout)
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        task = await self.submit(input, key=key, tag=tag, timeout=timeout)
        try:
            return await task.until(deadline)
        except asyncio.CancelledError:
            # The caller never had the handle, and the task is paid for.
            self._orphan(task)
            raise

    def map(
        self,
        inputs: Inputs,
        /,
        *,
        ordered: bool = False,
        attempts: int = 1,
        provider: Provider | None = None,
        journal: StrPath | None = None,
        retry: bool | Collection[FailureCategory] = (),
        resubmit_uncertain: bool | Collection[str] = False,
        max_cost: Amount | None = None,
        prices: Mapping[str, Amount] | None = None,
        download_to: StrPath | None = None,
        tag: str | None = None,
        progress: bool = False,
        name: str | None = None,
        raise_at_end: bool = True,
    ) -> Outcomes:
        """Buy a task for each of many inputs, and return their outcomes as an async iterator.

        Inputs are read as they are needed; `Outcomes` documents how far ahead. The failure of one
        input is its outcome, and affects no other. A failure that would affect every later input
        ends the buying and is raised after the remaining outcomes: a wrong key, an empty account,
        a closed client, or twenty consecutive submits without a task, bad inputs aside. An
        uncertain submit is never bought again.

        Args:
            inputs: An iterable, or an async one, of inputs or (key, input) pairs with str keys.
                The key of an input without one is its position, from "0", or with a journal made of
                the input.
            ordered: Whether outcomes come in the order of the inputs; else as tasks finish.
            attempts: The most tasks bought for an input, where the first ones fail in a way that
                may not recur; the service may charge for each.
            provider: The route: "auto", "value" or "official".
            journal: A file that keeps every item, so that the same call continues where an earlier
                one ended, however that ended: finished outcomes come from the file, bought tasks
                are polled, and nothing is bought twice. Equal inputs without keys are
                distinguished by their number. Only one run at a time can use it.
            retry: Which inputs to buy again whose task failed in an earlier run of the journal:
                True for all of them, or the categories of their errors, as in `["timeout"]`. Where
                nothing was bought, or a task failed for the balance, that is done in any case.
            resubmit_uncertain: Whether to buy again what an earlier run may have bought, or which
                keys of it: you accept that it may be paid for twice.
            max_cost: USD that all purchases may cost, including those of earlier runs of the
                journal; checked before each one by the documented prices.
            prices: Beside those of the client, and before them.
            download_to: A directory to save every result in; `Outcome.paths` has the files.
            tag: As for `submit`, of every task of this call.
            progress: Whether to draw a bar, in a terminal or a notebook; rich or tqdm draws it.
            name: A template of their names, such as "{row:04}-{slug}": {row} (from 1), {key},
                {slug} (of the prompt) and the fields of `download`.
            raise_at_end: False to have the iteration end where it would raise what ended the
                buying; `Outcomes.ended_by` has that error in either case.

        Raises:
            ConfigurationError: An argument is wrong.
        """
        from apixo_async._map.buyer import MapClient  # Here, since few clients map.
        from apixo_async._map.options import Options
        from apixo_async._map.outcomes import Outcomes

        options = Options.checked(
            ordered=ordered,
            attempts=attempts,
            provider=provider,
            journal=journal,
            retry=retry,
            resubmit_uncertain=resubmit_uncertain,
            max_cost=max_cost,
            prices=prices,
            download_to=download_to,
            tag=tag,
            known=self._settings.prices,
            progress=progress,
            name=name,
            raise_at_end=raise_at_end,
        )
        map_client = MapClient(self._life, self._settings.timeouts, self._rng, self._orphan)
        return Outcomes(map_client, inputs, options)

    @overload
    def attach(self, model: TaskRef, /, *, tag: str | None = None) -> Task: ...
    @overload
    def attach(self, model: str, task_id: str, /, *, tag: str | None = None) -> Task: ...
    def attach(
        self, model: str | TaskRef, task_id: str | None = None, /, *, tag: str | None = None
    ) -> Task:
        """Return the handle of a task that exists already, and poll it at once.

        It counts against the limit of tasks at once, even above it. Needs a running loop.

        Args:
            model: The model's name, or a `TaskRef`.
            task_id: The service's id, unless a `TaskRef` was given.
            tag: As for `submit`.
        """
        return self._life.engine().attach(model, task_id, tag=check_tag(tag))

    @overload
    async def poll(self, model: TaskRef, /) -> Snapshot: ...
    @overload
    async def poll(self, model: str, task_id: str, /) -> Snapshot: ...
    async def poll(self, model: str | TaskRef, task_id: str | None = None, /) -> Snapshot:
        """Ask the service once how a task is; to wait for it, `attach` takes fewer requests.

        Args:
            model: The model's name, or a `TaskRef`.
            task_id: The service's id, unless a `TaskRef` was given.

        Raises:
            NotFoundError: The service does not know it: a wrong id, model or key.
            APIStatusError: The service refused the poll; the task is as it was.
            APIConnectionError: No usable answer came in time; the task is as it was.
        """
        engine = self._life.engine()
        ref = check_ref(model, task_id, engine.poller.registry.index.model_of)
        with engine.calls.open():
            return await engine.poller.ask(ref)

    async def resubmit(self, error: SubmitUncertainError) -> Task:
        """Buy again what an uncertain submit may have bought already; the caller decides that.

        Args:
            error: The error that `submit` raised; input and options are those of that submit.

        Raises:
            ConfigurationError: A callback has found the task meanwhile: await `error.task`.
            ApixoError: As `submit` does.
        """
        check = partial(check_resubmit, error)
        check()
        # Checked again before the POST: a callback may find the task while this submit waits.
        engine = self._buying()
        if engine.keyed is not None:
            return await engine.keyed.submit(
                error.input, error.delivery, key=error.key, instead_of=error.attempt, check=check
            )
        return await engine.submitter.submit(error.input, error.delivery, check=check)

    # --- with a store --------------------------------------------------------------------

    async def find(self, key: str, /) -> Task | None:
        """Return the task that was bought under a key, or None where nothing was; never buys.

        While a POST of the key is under way, by any process, this waits for what it comes to.

        Raises:
            SubmitUncertainError: A task may have been bought under it.
            StoreError: The store cannot be used.
        """
        return await self._keyed("find").find(check_key(key))

    @overload
    async def resolve(self, key: str, /, *, task_id: str) -> Task: ...
    @overload
    async def resolve(self, key: str, /, *, bought: Literal[False]) -> None: ...
    async def resolve(
        self, key: str, /, *, task_id: str | None = None, bought: bool = True
    ) -> Task | None:
        """Say what an uncertain submit has bought, as the account shows.

        Args:
            key: Its key.
            task_id: The service's id of the task that it made, which is polled then.
            bought: False if it made none: the key is free again.

        Raises:
            ConfigurationError: The key has no uncertain submit, or the task is that of another.
            StoreError: The store cannot be used.
        """
        if (task_id is None) is bought:
            raise ConfigurationError("resolve: give the task_id that was bought, or bought=False")
        return await self._keyed("resolve").resolve(check_key(key), task_id)

    async def recover(self, *, timeout: float | None = None) -> list[Task]:
        """Take over the tasks of all processes that are dead by now, and return them.

        Any client with the store does so by itself, as soon as a process has been silent for 10 s;
        this waits until that is certain of all, for some 12 s.

        Args:
            timeout: Seconds to wait at most; those that were taken over until then are returned.

        Raises:
            StoreError: The store cannot be used.
        """
        check_timeout(timeout)
        return await self._keyed("recover").recover(timeout)

    async def entries(self, *, state: State | str | None = None) -> AsyncIterator[StoreEntry]:
        """Iterate over the purchases in the store, oldest first.

        Args:
            state: Only those in it, such as "uncertain"; see `apixo_async.stores.State`.

        Raises:
            StoreError: The store cannot be used.
        """
        async for entry in self._keyed("entries").entries(state):
            yield entry

    async def download(
        self,
        result: Result,
        target: str | os.PathLike[str],
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        name: str | None = None,
    ) -> list[Path]:
        """Save every file of a result; see `Downloader.download` for names and rules.

        Args:
            result: The result of a task.
            target: A directory, or a file to name them after.
            max_bytes: The size in bytes above which a file is refused.
            name: A template of the files' names in the directory, without extension, with {model},
                {task_id} and {index} (of the file, from 1). No other file is replaced.

        Raises:
            ConfigurationError: `name` has another field, or is no name for a file.
            ResultExpiredError: The service no longer stores it.
            DownloadError: A file could not be saved; `saved` has the saved ones. Addresses of this
                machine and network are refused, unless the base URL is there, or a `transport` is.
        """
        result = require("download", result, Result)
        engine = self._life.engine()
        naming = engine.downloader.naming(name)
        async with engine.downloading(result):
            paths = await engine.downloader.download(
                result, target, max_bytes=max_bytes, naming=naming
            )
        engine.downloaded(result, len(paths))
        return paths

    async def read(
        self, result: Result, *, max_bytes: int = READ_MAX_BYTES, max_total: int = READ_MAX_TOTAL
    ) -> list[File]:
        """Return every file of a result with its bytes, by the rules of `download`.

        Args:
            result: The result of a task.
            max_bytes: The size in bytes above which a file is refused; by default 64 MiB.
            max_total: The same for all files of the result together; by default 256 MiB.

        Raises:
            DownloadError: A file could not be read, or is too large.
        """
        result = require("read", result, Result)
        engine = self._life.engine()
        async with engine.downloading(result):
            files = await engine.downloader.read(result, max_bytes=max_bytes, max_total=max_total)
        engine.downloaded(result, len(files))
        return files

    @asynccontextmanager
    async def stream(
        self, result: Result, index: int = 0, *, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> AsyncGenerator[FileStream]:
        """Receive one file of a result, and yield it to be passed on in chunks.

        It is received before this yields, by the rules of `download`, into memory up to 8 MiB and
        else into a temporary file: its name, type and size are known, and it is whole.

        Args:
            result: The result of a task.
            index: The place of the file in `result.urls`, from 0.
            max_bytes: The size in bytes above which it is refused.

        Raises:
            DownloadError: It could not be received whole, or is too large.
        """
        result = require("stream", result, Result)
        engine = self._life.engine()
        with engine.downloader.spool() as spool:
            async with engine.downloading(result):
                file = await engine.downloader.receive(result, index, spool, max_bytes=max_bytes)
            engine.downloaded(result, 1)
            yield file

    # --- account and counts --------------------------------------------------------------

    async def balance(self) -> Decimal:
        """Return the USD left on the key.

        Raises:
            APIStatusError: The service refused.
            APIConnectionError: There was no readable answer within `Timeouts.retry` seconds.
        """
        return await self._life.engine().balance(self._settings.timeouts, self._rng)

    def estimate(self, inputs: Iterable[Input]) -> Estimate:
        """Add up the prices of inputs, the documents' and `prices`, and count those without one."""
        return estimate([price_of(check_input(one), self._settings.prices) for one in inputs])

    def statistics(self) -> Statistics:
        """Return the counts of this instant."""
        if (engine := self._life.engine_here) is not None:
            return engine.statistics()
        limits = self.limits.concurrent_tasks, self.limits.requests_per_minute
        return Statistics(*limits, *limits)

    @property
    def limits(self) -> Limits:
        """The limits of the account, for all clients of the limiter; may be set while they run.

        Higher limits admit waiting submits at once. Lower ones end no task: nothing is admitted
        until the number in use is below them.
        """
        return self._settings.limiter.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._settings.limiter.limits = limits

    @property
    def unfinished(self) -> tuple[TaskRef, ...]:
        """The tasks that are not over: those in flight, or after `aclose` those left unfinished."""
        return self._life.unfinished

    # --- life ----------------------------------------------------------------------------

    async def aclose(self, drain: float = 0.0) -> None:
        """Close the client, in bounded time; the refs of unfinished tasks stay in `unfinished`.

        Nothing new is bought; POSTs under way end within `Timeouts.exchange`. Twice is as once.

        Args:
            drain: Seconds for which polls go on, so that tasks may still finish.
        """
        await self._life.aclose(drain)

    async def __aenter__(self) -> Self:
        self._life.engine()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        if not hasattr(self, "_life"):
            return "<AsyncClient that was refused its settings>"  # Seen in tracebacks only.
        state = "closed" if self._life.closed else f"{len(self.unfinished)} tasks in flight"
        return f"<AsyncClient {self._settings.base_url} {state}>"

    def _buying(self) -> Engine:
        try:
            return self._life.engine()
        except ClientClosedError as error:
            error.bought = False
            raise

    def _keyed(self, method: str) -> KeyedSubmits:
        keyed = self._life.engine().keyed
        if keyed is None:
            raise ConfigurationError(_NEEDS_STORE.format(method))
        return keyed

    def _orphan(self, orphan: Orphan) -> None:
        if self._on_orphan is not None:
            guarded("on_orphan", self._on_orphan, orphan)
