"""The whole public API as a program uses it, for mypy and pyright in strict mode, and to be run."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, assert_never, assert_type

import httpx2

from apixo_async import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ApixoError,
    AsyncClient,
    AuthenticationError,
    BadRequestError,
    Budget,
    BudgetExceededError,
    CallbackError,
    CallbackReceived,
    CallbacksLost,
    CallbacksRestored,
    Category,
    ClientClosed,
    ClientClosedError,
    ClientOpened,
    ConfigurationError,
    DownloadError,
    EffectiveLimitLowered,
    EffectiveLimitRaised,
    Estimate,
    Event,
    FailureCategory,
    File,
    FileStream,
    FluxKontext,
    GptImage1,
    GptImage2,
    Input,
    InputWarning,
    InsufficientBalanceError,
    InternalServerError,
    JournalError,
    JournalWarning,
    KeyConflictError,
    Limiter,
    LimitReached,
    Limits,
    LocalImage,
    MediaKind,
    NotFoundError,
    OtherModel,
    Outcome,
    Outcomes,
    OutcomeState,
    PermissionDeniedError,
    PollerDied,
    PollerDiedError,
    PollFailed,
    Polling,
    PresumedNotBoughtError,
    Progress,
    Provider,
    RateLimitError,
    Reconciliation,
    Result,
    ResultDownloaded,
    ResultExpiredError,
    ResultFile,
    ServiceDown,
    ServiceRecovered,
    Snapshot,
    Statistics,
    StoreError,
    SubmitRefused,
    SubmitUncertain,
    SubmitUncertainError,
    Task,
    TaskAbandonedError,
    TaskAdopted,
    TaskAttached,
    TaskDetached,
    TaskError,
    TaskFailedError,
    TaskNotFoundError,
    TaskOrphaned,
    TaskPolled,
    TaskRef,
    TaskSettled,
    TaskSubmitted,
    Timeouts,
    UncertainSubmitResolved,
    WaitTimeoutError,
    WebhookReceiver,
    __version__,
    blocking,
    from_dict,
    from_json,
    to_json,
)
from apixo_async.journal import (
    EntryState,
    JournalEntry,
    JournalReader,
    JournalTotals,
    item_key,
    open_journal,
)
from apixo_async.otel import Instrument
from apixo_async.pipelines import RowBuyer

VERSION: str = __version__
WARNINGS: tuple[type[UserWarning], ...] = (InputWarning, JournalWarning)


def inputs(row: dict[str, Any]) -> list[Input]:
    """Write every input, with as little and with as much as it takes."""
    url = "https://example.com/cat.png"
    first = GptImage1(prompt="a cafe", aspect_ratio="3:2", num_images=2)
    second = GptImage2(prompt="a cafe")
    edit = GptImage2(
        prompt="a cafe",
        image_urls=[url],
        resolution="4k",
        aspect_ratio="16:9",
        mode="image-to-image",
    )
    flux = FluxKontext(mode="pro", prompt="a cafe", output_format="png", safety_tolerance=2)
    assert_type([*edit.image_urls], list[str | Path | bytes | LocalImage])
    other = OtherModel("sora-2", mode="text-to-video", prompt="a cafe", seconds=8)
    assert_type(first.price, Decimal)
    assert_type(second.price, Decimal)
    assert_type(other.price, None)
    assert_type(second.model, Literal["gpt-image-2"])
    assert_type(flux.payload(), dict[str, object])
    assert_type(from_dict("gpt-image-2", row), Input)
    return [first, second, edit, flux, other, from_dict("gpt-image-2", row)]


def clients(transport: httpx2.AsyncBaseTransport, seen: list[Event]) -> list[AsyncClient]:
    """Make clients with no argument but the key, and with every one."""
    limiter = Limiter(Limits(requests_per_minute=60))

    def rescue(orphan: Task | SubmitUncertainError) -> None:
        assert_type(orphan.model, str | None)

    return [
        AsyncClient("key"),
        AsyncClient("key", limiter=limiter, timeout=30, verify=False, proxy=""),
        AsyncClient("key", verify=ssl.create_default_context(), polling=Polling.documented()),
        AsyncClient(
            "key",
            base_url="https://api.apixo.ai",
            limits=Limits(concurrent_tasks=10, requests_per_minute=600),
            polling=Polling.fixed(5, 2.5),
            limiter=None,
            transport=transport,
            timeout=Timeouts(connect=5, exchange=20),
            on_event=seen.append,
            on_orphan=rescue,
            budget=Budget("12.50", per="month", name="customer-42"),
            seed=1,
        ),
    ]


async def main_job(
    client: AsyncClient, wanted: Input, folder: Path, provider: Provider = "auto"
) -> Result:
    """Submit, await, download, in each of the ways there are."""
    async with client as entered:
        assert_type(entered, AsyncClient)
        task = await client.submit(wanted, provider=provider, timeout=60)
        assert_type(task, Task)
        async for snapshot in task.updates(every=10):
            assert_type(snapshot, Snapshot)
        result = await task
        assert_type(result, Result)
        assert_type(await asyncio.gather(task, task), tuple[Result, Result])
        assert_type(await asyncio.gather(*[task, task]), list[Result])
        assert_type(await asyncio.wait_for(task, 1), Result)
        assert_type(task.as_future(), asyncio.Future[Result])
        assert_type([await done for done in asyncio.as_completed([task])], list[Result])
        assert_type(await client.download(result, folder, max_bytes=10_000_000), list[Path])
        assert_type(await client.download(result, str(folder / "cafe")), list[Path])
        assert_type(await client.download(result, folder, name="{model}"), list[Path])
        assert_type(await client.read(result, max_bytes=10_000_000), list[File])
        async with client.stream(result, 0, max_bytes=10_000_000) as file:
            await pass_on(file)
        await handle(task)
        await handle(client.attach(task.ref))
        await handle(client.attach(task.model, task.id))
        await account(client, wanted)
        assert_type(await client.generate(wanted, timeout=600), Result)
        await client.aclose(drain=1.0)
        assert_type(client.unfinished, tuple[TaskRef, ...])
        return result


async def pass_on(file: FileStream) -> File:
    """Read a file that is streamed, in each of the ways there are."""
    assert_type((file.name, file.media_type, file.url), tuple[str, str, str])
    assert_type(file.size, int)
    first = assert_type(await file.read(8), bytes)
    chunks = [chunk async for chunk in file]
    return File(file.name, file.media_type, first + b"".join(chunks), file.url)


async def many(client: AsyncClient, wanted: Input) -> list[Result]:
    """Map inputs, pairs, mappings and async iterables, with and without options."""

    async def rows() -> AsyncIterator[tuple[str, Input]]:
        yield "first", wanted

    results: list[Result] = []
    async with client.map([wanted, wanted], ordered=True, attempts=2, provider="auto") as outcomes:
        assert_type(outcomes, Outcomes)
        async for outcome in outcomes:
            assert_type(outcome, Outcome)
            results.append(assert_type(outcome.unwrap(), Result))
            read(outcome)
        outcomes.stop()
        count(outcomes.progress)
    assert_type(await anext(client.map({"a": wanted}.items())), Outcome)
    assert_type(await anext(client.map(rows())), Outcome)
    kept = client.map(
        [("a", wanted), (None, wanted)],
        journal=Path("run.db"),
        retry=["timeout", "upstream"],
        resubmit_uncertain=False,
        max_cost="12.50",
        prices={"sora-2": Decimal("0.5"), "suno": 1},
        download_to="out",
        raise_at_end=False,
        progress=False,
    )
    assert_type(kept.ended_by, ApixoError | None)
    async for outcome in kept:
        assert_type((outcome.paths, outcome.resumed), tuple[tuple[Path, ...], bool])
    found = await kept.reconcile()
    assert_type(found, Reconciliation)
    assert_type((found.bought, found.fell), tuple[int | None, Decimal | None])
    await client.map([wanted]).reconcile(await client.balance())
    money = kept.progress
    assert_type((money.spent, money.unpriced, money.resumed), tuple[Decimal, int, int])
    return results


def read(outcome: Outcome) -> None:
    """Read what an outcome holds."""
    assert_type((outcome.key, outcome.input, outcome.ok), tuple[str, Input | None, bool])
    assert_type((outcome.result, outcome.error), tuple[Result | None, ApixoError | None])
    if outcome.error is not None:
        category: Category = outcome.error.category
        assert_type(category == "timeout", bool)
    again: list[FailureCategory] = ["timeout", "content"]
    assert_type(again[0], FailureCategory)
    assert_type((outcome.task, outcome.purchases), tuple[Task | None, int])
    assert_type(outcome.ref, TaskRef | None)
    assert_type(outcome.state, OutcomeState)
    row: Mapping[str, object] = outcome.to_dict()
    assert row["key"] == outcome.key


def local_images(receiver: WebhookReceiver, path: Path) -> list[Input]:
    """Give files and bytes beside URLs, or share them."""
    url = assert_type(receiver.share(path, lifetime=60), str)
    image = LocalImage.of(path.read_bytes())
    assert_type((image.source, image.sha256), tuple[Path | bytes, str])
    paths: list[Path] = [path]
    return [
        GptImage1(prompt="a cafe", image_urls=paths),
        GptImage2(prompt="a cafe", image_urls=(path, b"...", receiver.share(b"..."), image)),
        FluxKontext(prompt="a cafe", image_urls=[str(url)]),
    ]


def money(budget: Budget, error: BudgetExceededError) -> None:
    """Read what may still be spent."""
    assert_type((budget.left, budget.spent), tuple[Decimal | None, Decimal])
    assert_type((budget.renews_at, error.renews_at), tuple[datetime | None, datetime | None])
    assert_type(error.left, Decimal)


def files(result: Result) -> list[ResultFile]:
    """Read what a result holds."""
    [file, *_] = result.files
    kind: MediaKind | None = file.kind
    assert_type((file.path, kind is None), tuple[str, bool])
    assert_type(result.with_files(), Result)
    return [*result.files]


def kept(result: Result, outcome: Outcome) -> list[str]:
    """Write values, and read them."""
    again = from_json(to_json(result))
    assert_type(again, Result | TaskRef | Snapshot | Outcome)
    return [to_json(again), to_json(outcome), to_json(result.ref)]


def count(progress: Progress) -> None:
    """Read the counts of a map."""
    assert_type((progress.read, progress.in_progress, progress.succeeded), tuple[int, int, int])


async def ask_once(client: AsyncClient, ref: TaskRef) -> None:
    """Ask the service once."""
    assert_type(await client.poll(ref), Snapshot)
    assert_type((await client.poll("flux-kontext", "task_1")).result, Result | None)


def without_a_loop(client: blocking.Client, wanted: Input, folder: Path) -> Result:
    """Do the main job, and many, with the blocking client."""
    with client as entered:
        assert_type(entered, blocking.Client)
        task = client.submit(wanted, key=None, provider="auto", timeout=60)
        assert_type(task, blocking.Task)
        assert_type((task.id, task.model, task.state), tuple[str, str, str])
        assert_type((task.ref, task.done()), tuple[TaskRef, bool])
        result = assert_type(task.result(timeout=600), Result)
        assert_type((task.wait(), task.wait(timeout=1.5)), tuple[bool, bool])
        assert_type(task.refresh(), Snapshot)
        assert_type(client.attach(task.ref), blocking.Task)
        assert_type(client.attach(task.model, task.id), blocking.Task)
        assert_type(client.generate(wanted, timeout=600), Result)
        assert_type(client.poll(task.ref), Snapshot)
        assert_type(client.poll(task.model, task.id), Snapshot)
        assert_type(client.read(result), list[File])
        assert_type(client.download(result, folder, max_bytes=10_000_000), list[Path])
        assert_type(client.balance(), Decimal)
        assert_type(client.estimate([wanted]), Estimate)
        assert_type(client.statistics(), Statistics)
        with client.map([("a", wanted), wanted], ordered=True, attempts=2) as outcomes:
            assert_type(outcomes, blocking.Outcomes)
            for outcome in outcomes:
                assert_type(outcome, Outcome)
            outcomes.stop()
            assert_type(outcomes.progress, Progress)
        client.close(drain=1.0)
        assert_type(client.unfinished, tuple[TaskRef, ...])
        return result


def instrumented() -> AsyncClient:
    """Make a client that OpenTelemetry sees."""
    instrument = Instrument(trace_polls=True, capture_prompts=True)
    client = AsyncClient(on_event=[instrument, print])
    instrument.observe(client)
    return client


async def rows_of_a_table(rows: list[dict[str, object]]) -> list[dict[str, Any]]:
    """Buy rows as an engine does."""
    with RowBuyer("monday", model="gpt-image-2", fields={"prompt": "caption"}, store="x") as buyer:
        buyer.check(["caption"])
        assert_type((buyer.reads, buyer.adds), tuple[list[str], dict[str, type]])
        assert_type(await buyer.buy(rows[0]), dict[str, Any])
        return await buyer.buy_all(rows)


def passed_on(outcome: Outcome, wanted: Input) -> Outcome | tuple[str, Input]:
    """Make an input of an outcome, or pass it on."""
    return (outcome.key, wanted) if outcome.ok else outcome


def bought_anew(client: blocking.Client, error: SubmitUncertainError) -> blocking.Task:
    """Buy again with a client with every kind of setting."""
    other = blocking.Client("key", limits=Limits(10, 600), timeout=Timeouts(connect=5), seed=1)
    assert_type(other.unfinished, tuple[TaskRef, ...])
    return assert_type(client.resubmit(error), blocking.Task)


async def handle(task: Task) -> None:
    """Ask a handle for everything it tells."""
    assert_type(await task.wait(), bool)
    assert_type(await task.wait(timeout=1.5), bool)
    assert_type(await task.refresh(), Snapshot)
    assert_type(task.detach(), TaskRef)
    assert_type((task.tag, task.cost), tuple[str | None, Decimal | None])
    assert_type(task.age, float | None)
    assert_type(task.expected, float)
    assert_type((task.id, task.model, task.state), tuple[str, str, str])
    assert_type(task.done(), bool)
    assert_type(task.ref, TaskRef)
    assert_type(task.result(), Result)
    assert_type(task.exception(), ApixoError | None)


async def account(client: AsyncClient, wanted: Input) -> None:
    """Ask a client for everything it counts."""
    assert_type(await client.balance(), Decimal)
    estimate = client.estimate([wanted, wanted])
    assert_type(estimate, Estimate)
    assert_type(estimate.total, Decimal)
    assert_type((estimate.priced, estimate.unpriced), tuple[int, int])
    assert_type(client.statistics(), Statistics)
    assert_type(client.statistics().slots_used, int)
    client.limits = Limits(concurrent_tasks=client.limits.concurrent_tasks + 1)
    assert_type(client.limits, Limits)


async def read_journal(path: Path) -> list[JournalEntry]:
    """Read what a map has left in its journal."""
    entries: list[JournalEntry] = []
    async with open_journal(path, timeout=10) as journal:
        assert_type(journal, JournalReader)
        assert_type((journal.path, journal.in_use), tuple[str, bool])
        assert_type(await journal.counts(), dict[EntryState, int])
        totals = assert_type(await journal.totals(), JournalTotals)
        assert_type((totals.items, totals.purchases, totals.unpriced), tuple[int, int, int])
        assert_type(totals.cost, Decimal)
        async for entry in journal.entries():
            assert_type((entry.number, entry.key, entry.provider), tuple[int, str, str | None])
            assert_type(entry.state, EntryState | Literal["damaged"])
            assert_type((entry.input, entry.payload), tuple[Input | None, Mapping[str, object]])
            assert_type((entry.task, entry.result), tuple[TaskRef | None, Result | None])
            assert_type((entry.error, entry.files), tuple[ApixoError | None, tuple[Path, ...]])
            assert_type(entry.cost, Decimal)
            assert_type((entry.purchases, entry.unpriced), tuple[int, int])
            assert_type(entry.began_at, datetime | None)
            assert_type(
                (entry.submitted_at, entry.ended_at), tuple[datetime | None, datetime | None]
            )
            if entry.input is not None:
                assert item_key(entry.input, provider=entry.provider, occurrence=1)
            entries.append(entry)
    return entries


def receive(token: str, body: bytes) -> TaskRef | None:
    """Receive callbacks, in a client or for a record only."""
    receiver = WebhookReceiver("https://app.example.com/apixo", secret="0123456789abcdef")
    client = AsyncClient("test-key", webhooks=receiver)
    assert_type(client.unfinished, tuple[TaskRef, ...])
    assert_type(receiver.public_url, str)
    try:
        return assert_type(receiver.parse(token, body), TaskRef)
    except CallbackError as exc:
        assert_type(exc.status, int)
        return None


def values(result: Result, snapshot: Snapshot, ref: TaskRef) -> None:
    """Read what clients and tasks hand out."""
    assert_type((result.task_id, result.model), tuple[str, str])
    assert_type(result.urls, tuple[str, ...])
    assert_type(result.raw, Mapping[str, object])
    assert_type((result.created_at, result.completed_at), tuple[datetime | None, datetime | None])
    assert_type(result.expires_at, datetime | None)
    assert_type(result.cost_time, float | None)
    assert_type((snapshot.task_id, snapshot.state), tuple[str, str])
    assert_type(snapshot.raw, Mapping[str, object])
    assert_type((ref.model, ref.task_id), tuple[str, str])


async def recover(client: AsyncClient, wanted: Input) -> Result | None:
    """Catch every error of a task by its name, and read what it carries."""
    try:
        return await client.generate(wanted)
    except SubmitUncertainError as exc:
        assert_type(exc.sent_at, datetime)
        assert_type(exc.body_head, bytes | None)
        if exc.task is not None:
            try:
                return assert_type(await exc.task, Result)
            except PresumedNotBoughtError as none:
                assert_type(none.bought, bool | None)
        return await (await client.resubmit(exc))
    except TaskFailedError as exc:
        assert_type((exc.fail_code, exc.fail_msg), tuple[str | None, str | None])
        assert_type((exc.family, exc.retryable), tuple[str, bool])
    except WaitTimeoutError as exc:
        return await client.attach(exc.ref)
    except (TaskNotFoundError, TaskAbandonedError) as exc:
        assert_type((exc.model, exc.task_id), tuple[str, str])
    except RateLimitError as exc:
        assert_type(exc.retry_after, float | None)
    return None


def describe(error: ApixoError) -> str:
    """Tell the errors apart, the particular ones before the general ones."""
    match error:
        case (
            BadRequestError()
            | AuthenticationError()
            | InsufficientBalanceError()
            | PermissionDeniedError()
            | NotFoundError()
            | InternalServerError()
        ):
            return f"{error.status} {error.code} {error.message}, bought: {error.bought}"
        case APIStatusError():
            return f"{assert_type(error.status, int)} {assert_type(error.code, int | None)}"
        case APITimeoutError() | APIConnectionError():
            return "no answer"
        case ResultExpiredError() | DownloadError():
            return f"{len(assert_type(error.saved, tuple[Path, ...]))} files are saved"
        case TaskError():
            return str(assert_type(error.ref, TaskRef))
        case BudgetExceededError():
            money = assert_type((error.spent, error.max_cost), tuple[Decimal, Decimal])
            return f"{money[0]} of {money[1]}, the next costs {assert_type(error.price, Decimal)}"
        case (
            ConfigurationError()
            | ClientClosedError()
            | PollerDiedError()
            | JournalError()
            | StoreError()
            | KeyConflictError()
        ):
            return str(error)
        case _:
            return f"bought: {assert_type(error.bought, bool | None)}"


def headline(event: Event) -> str:
    """Match every event there is; a new one without a case here is an error of type."""
    match event:
        case ClientOpened() | ClientClosed() | ServiceDown() | ServiceRecovered() | PollerDied():
            return str(event)
        case UncertainSubmitResolved() | CallbacksLost() | CallbacksRestored():
            return str(event)
        case SubmitRefused() | SubmitUncertain():
            return f"{event.model}: {event.reason} after {event.waited}"
        case TaskAttached() | TaskAdopted():
            return f"{event.task_id} of {event.traceparent}"
        case TaskSubmitted() | TaskOrphaned() | TaskDetached():
            return f"{event.model}/{event.task_id}"
        case TaskPolled() | PollFailed() | TaskSettled():
            return f"{event.task_id}: a poll took {event.took}"
        case LimitReached() | EffectiveLimitLowered() | EffectiveLimitRaised():
            return event.scope
        case CallbackReceived():
            return event.outcome
        case ResultDownloaded():
            return f"{event.files} files"
    assert_never(event)
