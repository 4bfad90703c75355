"""Submits with images that are served from here: shared before the POST, forgotten at the end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apixo_async import (
    APIStatusError,
    ApixoError,
    AsyncClient,
    ConfigurationError,
    Event,
    GptImage2,
    InsufficientBalanceError,
    Limits,
    OtherModel,
    PresumedNotBoughtError,
    StoreError,
    SubmitUncertainError,
    TaskAbandonedError,
    TaskFailedError,
    TaskSettled,
    WebhookReceiver,
    from_dict,
)
from apixo_async.testing import Fault, MemoryStore, Simulator, VirtualTimeLoop
from apixo_async.webhooks import _shared_files

from ..support.pictures import png

ClientOf = Callable[..., AsyncClient]
PNG, OTHER = png(8, 8, 1), png(8, 8, 2)
URL = "https://app.example.com/apixo"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Write a picture."""
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Be where copies are."""
    return tmp_path / "files"


@pytest.fixture
def receiver(folder: Path) -> WebhookReceiver:
    """Serve callbacks and files."""
    return WebhookReceiver(URL, "a secret of sixteen bytes or more", files=folder)


def copies(folder: Path) -> list[bytes]:
    """Return what is shared."""
    return [copy.read_bytes() for copy in sorted(folder.iterdir())] if folder.exists() else []


async def settled_copies(folder: Path) -> list[bytes]:
    """Return what is shared, once threads have removed what they are to remove."""
    await asyncio.sleep(1.0)
    return copies(folder)


def sent_urls(simulator: Simulator) -> list[list[str]]:
    """Return the images of each task that was made."""
    return [task.input["image_urls"] for task in simulator.tasks.values()]  # type: ignore[misc]  # of tests


def edit(*images: Any, prompt: str = "x") -> GptImage2:
    """Return an input with images."""
    return GptImage2(prompt=prompt, image_urls=images)


async def test_a_path_becomes_a_url(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, folder: Path, path: Path
) -> None:
    """The service is sent a URL for each local image, served until the task is over."""
    client = client_of(simulator, webhooks=receiver)
    public = "https://example.com/dog.png"
    task = await client.submit(edit(path, public, OTHER))
    [[first, second, third]] = sent_urls(simulator)
    assert second == public
    assert first.startswith(f"{URL}/apixo-file-")
    assert {PNG, OTHER} == {*await settled_copies(folder)}
    for url, content in ((first, PNG), (third, OTHER)):
        served = receiver.shared_files.path_of(url.rpartition("/")[2])
        assert served is not None
        assert served.read_bytes() == content
    await task
    assert await settled_copies(folder) == []


async def test_the_same_image_in_many_tasks(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, folder: Path, path: Path
) -> None:
    """One copy serves all tasks of the same content, until the last one is over."""
    client = client_of(simulator, webhooks=receiver)
    wanted = [edit(path if n % 2 else PNG, PNG, prompt=f"{n}") for n in range(50)]
    tasks = await asyncio.gather(*map(client.submit, wanted))
    assert len({url for urls in sent_urls(simulator) for url in urls}) == 1
    done, _ = await asyncio.wait([task.as_future() for task in tasks[:49]])
    assert len(done) == 49
    left = [PNG] if not tasks[49].done() else []
    assert await settled_copies(folder) == left
    await tasks[49]
    assert await settled_copies(folder) == []


async def test_a_task_that_fails(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, folder: Path, path: Path
) -> None:
    """A failure is an end as well."""
    simulator.faults.submit(Fault.task_fails("CONTENT_VIOLATION"))
    with pytest.raises(TaskFailedError):
        await client_of(simulator, webhooks=receiver).generate(edit(path))
    assert await settled_copies(folder) == []


async def test_a_task_that_is_abandoned(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, folder: Path, path: Path
) -> None:
    """At the age limit it stays: the service may still run the task."""
    simulator.faults.submit(Fault.task_lasts(1e6))
    task = await client_of(simulator, webhooks=receiver).submit(edit(path))
    await asyncio.sleep(60.0)
    assert copies(folder) == [PNG]
    with pytest.raises(TaskAbandonedError):
        await task
    assert await settled_copies(folder) == [PNG]


async def test_without_callbacks(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, folder: Path, path: Path
) -> None:
    """A submit with a callback URL of the caller's own shares its images as well."""
    client = client_of(simulator, webhooks=receiver)
    task = await client.submit(edit(path), callback_url="https://example.com/mine")
    assert copies(folder) == [PNG]
    await task
    assert await settled_copies(folder) == []


async def test_a_refused_submit(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, folder: Path, path: Path
) -> None:
    """What bought nothing leaves nothing; a repeat of the same submit sends the same URL."""
    client = client_of(simulator, webhooks=receiver)
    simulator.faults.submit(Fault.status(402))
    with pytest.raises(InsufficientBalanceError):
        await client.submit(edit(path))
    assert await settled_copies(folder) == []
    simulator.faults.submit(Fault.status(429), Fault.status(429), Fault.none())
    task = await client.submit(edit(path))
    assert simulator.count("submit") == 4
    assert copies(folder) == [PNG]
    await task
    assert await settled_copies(folder) == []


async def test_an_uncertain_submit(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, folder: Path, path: Path
) -> None:
    """The service may need the file: it stays until a callback's task is over."""
    simulator.deliver_to(receiver.asgi())
    client = client_of(simulator, webhooks=receiver)
    simulator.faults.submit(Fault.lost_answer())
    with pytest.raises(SubmitUncertainError) as caught:
        await client.submit(edit(path))
    assert await settled_copies(folder) == [PNG]
    assert caught.value.task is not None
    await caught.value.task
    assert await settled_copies(folder) == []
    assert caught.value.input == edit(path)


async def test_an_uncertain_submit_that_bought_nothing(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, folder: Path, path: Path
) -> None:
    """It stays for as long as a callback may come, and longer where that may have been lost."""
    client = client_of(simulator, webhooks=receiver)
    simulator.faults.submit(Fault.reset_before())
    with pytest.raises(SubmitUncertainError) as caught:
        await client.submit(edit(path))
    assert caught.value.task is not None
    await asyncio.sleep(600.0)
    assert copies(folder) == [PNG]
    with pytest.raises(PresumedNotBoughtError) as presumed:
        await caught.value.task
    assert presumed.value.bought is None  # No callback of another task has come either.
    assert await settled_copies(folder) == [PNG]


async def test_an_uncertain_submit_without_callbacks(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, folder: Path, path: Path
) -> None:
    """Where it cannot be found out, the file stays until it expires; buying anew shares again."""
    client = client_of(simulator, webhooks=receiver)
    simulator.faults.submit(Fault.lost_answer())
    with pytest.raises(SubmitUncertainError) as caught:
        await client.submit(edit(path), callback_url="https://example.com/mine")
    await asyncio.sleep(10_000.0)
    assert copies(folder) == [PNG]
    task = await client.resubmit(caught.value)
    await task
    assert await settled_copies(folder) == [PNG]


async def test_a_closed_client(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, folder: Path, path: Path
) -> None:
    """Tasks that go on at the service when a client is closed keep their files."""
    client = client_of(simulator, webhooks=receiver)
    await client.submit(edit(path))
    await client.aclose()
    assert await settled_copies(folder) == [PNG]


async def test_cancelled_callers(
    client_of: ClientOf, receiver: WebhookReceiver, folder: Path, path: Path
) -> None:
    """A caller that is cancelled leaves no file, and one whose task goes on leaves its file."""
    simulator = Simulator(seed=1)
    client = client_of(simulator, latency=4.0, webhooks=receiver, limits=Limits(concurrent_tasks=2))
    submits = [asyncio.create_task(client.submit(edit(path, prompt=f"{n}"))) for n in range(4)]
    submits.append(asyncio.create_task(client.submit(edit(OTHER))))
    await asyncio.sleep(1.0)
    for submit in submits:
        submit.cancel()
    await asyncio.sleep(10.0)
    assert simulator.created == 2
    assert await settled_copies(folder) == [PNG]
    await asyncio.sleep(600.0)
    assert copies(folder) == []


async def test_cancelled_while_it_is_shared(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, folder: Path, path: Path
) -> None:
    """One that is cancelled while a thread copies its file leaves nothing, and sends nothing."""
    client = client_of(simulator, webhooks=receiver)
    for steps in range(12):
        submit = asyncio.create_task(client.submit(edit(path)))
        for _ in range(steps):
            await asyncio.sleep(0.0)
        if submit.cancel():
            await asyncio.wait([submit])
    await asyncio.sleep(600.0)
    assert await settled_copies(folder) == []
    assert client.statistics().slots_used == 0


def test_a_loop_that_is_closed_under_a_post(
    receiver: WebhookReceiver, folder: Path, path: Path
) -> None:
    """Where a loop is closed during the POST, there may be a task: its file stays."""
    orphans: list[object] = []
    simulator, loop = Simulator(seed=1), VirtualTimeLoop()

    async def main(client: AsyncClient) -> None:
        asyncio.create_task(client.submit(edit(path)))  # noqa: RUF006
        await asyncio.sleep(1.0)

    def live() -> None:
        client = AsyncClient(
            "test-key",
            transport=simulator.transport(4.0),
            on_orphan=orphans.append,
            webhooks=receiver,
        )
        loop.set_exception_handler(lambda *_: None)  # It is told of the tasks that are destroyed.
        loop.run_until_complete(main(client))
        loop.close()

    live()
    gc.collect()
    assert [type(orphan) for orphan in orphans] == [SubmitUncertainError]
    assert copies(folder) == [PNG]


async def test_without_a_receiver(simulator: Simulator, client_of: ClientOf, path: Path) -> None:
    """A client that serves nothing refuses local images, and says what to do; nothing is sent."""
    client = client_of(simulator)
    with pytest.raises(ConfigurationError, match=r"AsyncClient\(webhooks=.*; or put them"):
        await client.submit(edit(path))
    [outcome] = [one async for one in client.map([edit(PNG)], raise_at_end=False)]
    assert isinstance(outcome.error, ConfigurationError)
    assert outcome.state == "unbought"
    assert simulator.log == []


async def test_a_file_that_has_changed(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, folder: Path, path: Path
) -> None:
    """What is sent is what the input was made of: else nothing is, and the error says so."""
    client = client_of(simulator, webhooks=receiver)
    wanted = edit(OTHER, path)
    await asyncio.to_thread(path.write_bytes, OTHER)
    with pytest.raises(
        ConfigurationError, match=r"gpt-image-2: .*cat\.png': it has changed .*; nothing was bought"
    ) as caught:
        await client.submit(wanted)
    assert caught.value.bought is False
    await asyncio.to_thread(path.unlink)
    with pytest.raises(ConfigurationError, match=r"cat\.png': it cannot be read: No such file"):
        await client.submit(wanted)
    assert simulator.log == []
    assert await settled_copies(folder) == []
    assert client.statistics().slots_used == 0


async def test_a_full_disk(
    simulator: Simulator,
    client_of: ClientOf,
    receiver: WebhookReceiver,
    folder: Path,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a file cannot be shared, nothing is sent."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    client = client_of(simulator, webhooks=receiver)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(StoreError, match="No space left on device") as caught:
            await client.submit(edit(path))
    assert caught.value.bought is False
    assert simulator.log == []
    assert await settled_copies(folder) == []
    assert client.statistics().slots_used == 0
    await client.generate(edit(path))


async def test_a_directory_that_cannot_be_looked_at(
    simulator: Simulator,
    client_of: ClientOf,
    receiver: WebhookReceiver,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A copy that cannot be found counts as removed, by whatever error of a network share."""

    def is_file(path: Path) -> bool:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))

    client, url = client_of(simulator, webhooks=receiver), receiver.share(OTHER)
    first = await client.submit(edit(PNG))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_file", is_file)
        second = await client.submit(edit(PNG))
        with pytest.raises(ConfigurationError, match="share it again"):
            await client.submit(edit(url))
    assert len({image for images in sent_urls(simulator) for image in images}) == 2
    await asyncio.wait([first.as_future(), second.as_future()])
    assert len(await settled_copies(folder)) == 1  # The copy that was forgotten is swept later.


async def test_a_digest_within_a_prompt(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver
) -> None:
    """Only a text that is a digest, as a whole, stands for an image that is not there."""
    client = client_of(simulator, webhooks=receiver)
    await client.submit(edit(PNG, prompt=f'as in "apixo-file:sha256:{"0" * 64}'))
    assert simulator.created == 1


# --- URLs that the caller has shared ---------------------------------------------------------


@pytest.mark.parametrize("model", ["gpt-image-2", "sora-2"])
async def test_a_url_that_was_shared(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, folder: Path, model: str
) -> None:
    """In any field of any model it keeps its file until the task is over; then it is refused."""
    client, url = client_of(simulator, webhooks=receiver), receiver.share(PNG)
    fields = {"image_urls": [url]} if model == "gpt-image-2" else {"start": {"frame": url}}
    wanted = from_dict(model, {"prompt": "x", **fields})
    task = await client.submit(wanted)
    assert copies(folder) == [PNG]
    await task
    assert await settled_copies(folder) == []
    with pytest.raises(ConfigurationError, match=r"was forgotten .*: share it again"):
        await client.submit(wanted)
    assert simulator.count("submit") == 1


async def test_a_shared_url_of_a_refused_submit(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, folder: Path
) -> None:
    """What bought nothing may be tried again with the same URL."""
    client, url = client_of(simulator, webhooks=receiver), receiver.share(PNG)
    simulator.faults.submit(Fault.status(400))
    with pytest.raises(APIStatusError):
        await client.submit(edit(url))
    assert await settled_copies(folder) == [PNG]
    await client.generate(edit(url))
    assert await settled_copies(folder) == []


async def test_a_shared_url_of_a_task_that_failed(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, folder: Path
) -> None:
    """It is there for another task where that may succeed, and gone where it would not."""
    client = client_of(simulator, webhooks=receiver)
    simulator.faults.submit(Fault.task_fails("UPSTREAM_ERROR"))
    [outcome] = [one async for one in client.map([edit(receiver.share(PNG))], attempts=2)]
    assert (outcome.ok, outcome.purchases) == (True, 2)
    assert await settled_copies(folder) == []
    simulator.faults.submit(Fault.task_fails("CONTENT_VIOLATION"))
    with pytest.raises(TaskFailedError):
        await client.generate(edit(receiver.share(PNG)))
    assert await settled_copies(folder) == []


async def test_a_lifetime(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, folder: Path
) -> None:
    """With a lifetime, a URL serves one task after the other."""
    client, url = client_of(simulator, webhooks=receiver), receiver.share(PNG, lifetime=3_600.0)
    for _ in range(2):
        await client.generate(edit(url))
    assert await settled_copies(folder) == [PNG]


async def test_urls_of_others(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, folder: Path
) -> None:
    """A client without a receiver, or with another secret, sends such a URL as it is."""
    url = receiver.share(PNG)
    other = WebhookReceiver(URL, "another-secret-0123456789", files=folder)
    await client_of(simulator).generate(edit(url))
    await client_of(simulator, webhooks=other).generate(edit(url))
    assert sent_urls(simulator) == [[url], [url]]
    assert await settled_copies(folder) == [PNG]


async def test_a_url_that_is_about_to_expire(
    simulator: Simulator,
    client_of: ClientOf,
    receiver: WebhookReceiver,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that would expire while its task may run is refused, and nothing was bought."""
    client, url, now = client_of(simulator, webhooks=receiver), receiver.share(PNG), time.time()
    clocks = SimpleNamespace(time=lambda: now + 86_400.0 - 7_000.0, monotonic=time.monotonic)
    monkeypatch.setattr(_shared_files, "time", clocks)
    with pytest.raises(ConfigurationError, match=r"has expired.*share it again"):
        await client.submit(edit(url))
    assert simulator.log == []
    assert await settled_copies(folder) == []


# --- maps and keys ---------------------------------------------------------------------------


async def test_a_map_buys_again(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, folder: Path, path: Path
) -> None:
    """Each task of an input has a URL that is served while it runs."""
    simulator.faults.submit(*[Fault.task_fails("UPSTREAM_ERROR")] * 2)
    client = client_of(simulator, webhooks=receiver)
    [outcome] = [one async for one in client.map([edit(path)], attempts=3)]
    assert (outcome.ok, outcome.purchases) == (True, 3)
    assert len({url for urls in sent_urls(simulator) for url in urls}) == 3
    assert await settled_copies(folder) == []


async def test_a_journal(
    simulator: Simulator,
    client_of: ClientOf,
    receiver: WebhookReceiver,
    tmp_path: Path,
    path: Path,
) -> None:
    """A later run knows an image by its content, however it is given, and buys nothing again."""
    client = client_of(simulator, webhooks=receiver)
    for image in (path, PNG, receiver.share(PNG)):
        outcomes = client.map([edit(image)], journal=tmp_path / "run.db")
        [outcome] = [one async for one in outcomes]
        assert outcome.ok
    assert simulator.created == 1


async def test_a_key(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, folder: Path, path: Path
) -> None:
    """A key stands for an image's content, by path, bytes or URL; its task is found."""
    client = client_of(simulator, webhooks=receiver, store=MemoryStore())
    task = await client.submit(edit(path), key="order-1")
    for image in (PNG, receiver.share(PNG, lifetime=60.0)):
        assert (await client.submit(edit(image), key="order-1")).ref == task.ref
    await task
    assert simulator.created == 1
    assert len(await settled_copies(folder)) == 1  # With its lifetime.


async def test_an_uncertain_key(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, path: Path
) -> None:
    """What a store keeps of a local image cannot be sent: the error says how to buy anew."""
    client = client_of(simulator, webhooks=receiver, store=MemoryStore())
    simulator.faults.submit(Fault.lost_answer())
    with pytest.raises(SubmitUncertainError):
        await client.submit(edit(path), key="order-1")
    with pytest.raises(SubmitUncertainError) as caught:
        await client.find("order-1")
    assert isinstance(caught.value.input, OtherModel)
    with pytest.raises(ConfigurationError, match=r"only the digest was kept.*set `error\.input`"):
        await client.resubmit(caught.value)
    assert simulator.count("submit") == 1
    caught.value.input = edit(path)
    await (await client.resubmit(caught.value))
    assert simulator.created == 2


#: After these the service may still run a task.
UNKNOWN = ("abandoned", "presumed not bought")


@pytest.mark.parametrize("seed", range(8))
async def test_random_lives(
    client_of: ClientOf,
    receiver: WebhookReceiver,
    folder: Path,
    tmp_path: Path,
    events: list[Event],
    seed: int,
) -> None:
    """Whatever goes wrong, a task that runs has its files, and none stays when all are over."""
    rng = random.Random(seed)
    simulator = Simulator(seed=seed, failure_rate=0.2, lost_callbacks=0.2, early_callbacks=0.1)
    simulator.deliver_to(receiver.asgi())
    client = client_of(
        simulator, latency=2.0, webhooks=receiver, limits=Limits(concurrent_tasks=100)
    )
    faults = [
        Fault.lost_answer(),
        Fault.reset_before(),
        Fault.status(429),
        Fault.status(503),
        Fault.status(400),
        Fault.hang(),
        Fault.delay(3.0),
    ]
    simulator.faults.submit(
        *(rng.choice(faults) if rng.random() < 0.4 else None for _ in range(60))
    )
    paths = [tmp_path / f"{number}.png" for number in range(100)]
    for number, path in enumerate(paths):
        path.write_bytes(png(8, 8, number))

    def image() -> Any:
        number = rng.randrange(rng.choice([2, len(paths)]))
        content = png(8, 8, number)
        given = [lambda: paths[number], lambda: content, lambda: receiver.share(content)]
        return rng.choices(given, [3, 3, 1])[0]()

    async def live(number: int) -> None:
        await asyncio.sleep(rng.uniform(0.0, 120.0))
        images = [image() for _ in range(rng.randint(1, 3))]
        with contextlib.suppress(ApixoError, TimeoutError):
            async with asyncio.timeout(rng.choice([None, None, rng.uniform(0.0, 4.0)])):
                task = await client.submit(edit(*images, prompt=f"{number}"))
            await task

    async def watch() -> None:
        while True:
            now = asyncio.get_running_loop().time()
            running = [task for task in simulator.tasks.values() if task.ends > now]
            for url in [url for task in running for url in task.input["image_urls"]]:  # type: ignore[attr-defined]  # of tests
                path = receiver.shared_files.path_of(url.rpartition("/")[2])
                assert path is not None
                assert path.is_file(), (now, url)
            await asyncio.sleep(1.0)

    watching = asyncio.create_task(watch())
    lives = [asyncio.create_task(live(number)) for number in range(60)]
    await asyncio.wait(lives)
    await asyncio.sleep(20_000.0)
    assert not watching.done()
    watching.cancel()
    assert simulator.created > 20
    # What was shared for a submit that never came is kept for its day.
    expected = receiver.shared_files._copies
    # So are those of submits of which nothing is known in the end: each names up to three.
    unknown = [one for one in events if isinstance(one, TaskSettled) and one.outcome in UNKNOWN]
    assert sum(one.uses for one in expected.values()) <= 3 * len(unknown)
    assert len(copies(folder)) == len(expected)
