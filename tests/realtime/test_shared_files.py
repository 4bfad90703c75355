"""Local files to results over real sockets: two workers, aiohttp, a killed worker, strangers."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import quote

import httpx2
import pytest

import apixo_async
from apixo_async import AsyncClient, GptImage2, TaskFailedError, WebhookReceiver
from apixo_async.blocking import Client
from apixo_async.testing import Fault, Simulator, serve

from ..support.pictures import png
from ..support.web_workers import WebWorker, free_port, round_robin
from ..support.webhook_apps import (
    BOUND,
    SECRET,
    aiohttp_receiver,
    fastapi_receiver,
    listening_socket,
)

GUIDE: Final = Path(apixo_async.__file__).parent / "guides/webhooks.md"
AT_ONCE: Final = 50
#: Tasks of gpt-image-2 take 1 to 4 s.
SPEED: Final = 30.0

Serve: TypeAlias = Callable[[WebhookReceiver, Any], contextlib.AbstractAsyncContextManager[None]]
both_servers = pytest.mark.parametrize(
    "serve_receiver", [fastapi_receiver, aiohttp_receiver], ids=["FastAPI", "aiohttp"]
)


def simulator_of(**options: Any) -> Simulator:
    """Return a service that fetches what it is given."""
    return Simulator(seed=1, speed=SPEED, fetch_images=True, **options)


@contextlib.asynccontextmanager
async def visitor() -> AsyncGenerator[httpx2.AsyncClient]:
    """Ask for things as a stranger does."""
    limits = httpx2.Limits(max_connections=None, keepalive_expiry=2.0)
    async with httpx2.AsyncClient(limits=limits, timeout=2 * BOUND, trust_env=False) as http:
        yield http


async def status_of(http: httpx2.AsyncClient, url: str) -> int:
    """Return the status of a GET."""
    return (await http.get(url)).status_code


async def until(holds: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(BOUND):
        while not holds():  # noqa: ASYNC110 # no event crosses processes
            await asyncio.sleep(0.02)


def images_of(simulator: Simulator) -> list[str]:
    """Return the URLs of the images that tasks name."""
    found: list[Any] = [task.input["image_urls"] for task in simulator.tasks.values()]
    return [url for urls in found for url in urls]


def copies(folder: Path) -> list[Path]:
    """Return what is shared below a directory for temporary files."""
    return [path for path in folder.rglob("*") if path.suffix == ".png"]


def worker_of(folder: Path, base_url: str, public_url: str, port: int) -> WebWorker:
    """Return one that runs the app of the guide."""
    inner = folder / str(port)
    inner.mkdir()
    environment = {"TMPDIR": str(folder), "PUBLIC_URL": public_url, "WEBHOOK_SECRET": SECRET}
    return WebWorker(inner, GUIDE, '@app.post("/edits', base_url, "", port=port, **environment)


async def test_two_workers(tmp_path: Path) -> None:
    """Fifty at once: whichever worker is asked, it serves the files of both, and none stays."""
    simulator = simulator_of()
    ports = [free_port(), free_port()]
    async with serve(simulator) as base_url, round_robin(ports) as port, visitor() as http:
        public_url = f"http://127.0.0.1:{port}/apixo"
        workers = [worker_of(tmp_path, base_url, public_url, port) for port in ports]
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                await worker.until_ready()
            # Every second connection to the port that the service knows leads to the other one.
            visits = [
                http.post(
                    f"http://127.0.0.1:{ports[number % 2]}/edits",
                    params={"prompt": f"study {number}"},
                    content=png(32, 32, number),
                )
                for number in range(AT_ONCE)
            ]
            answers = await asyncio.gather(*visits)
            assert [answer.status_code for answer in answers] == [200] * AT_ONCE
            assert simulator.created == len({*images_of(simulator)}) == AT_ONCE
            assert {task.fail_code for task in simulator.tasks.values()} == {None}
            await until(lambda: not copies(tmp_path))
            for worker_port in ports:
                for url in images_of(simulator)[:5]:
                    gone = url.replace(f":{port}/", f":{worker_port}/")
                    assert await status_of(http, gone) == 404
        finally:
            for worker in workers:
                await worker.end(signal.SIGTERM)


async def test_a_killed_worker(tmp_path: Path) -> None:
    """What a worker shared that was killed is served by the others: its task goes on."""
    simulator = simulator_of()
    ports = [free_port(), free_port()]
    simulator.faults.submit(Fault.task_lasts(1e6))
    async with serve(simulator) as base_url, visitor() as http:
        # The service knows the second one only.
        public_url = f"http://127.0.0.1:{ports[1]}/apixo"
        workers = [worker_of(tmp_path, base_url, public_url, port) for port in ports]
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                await worker.until_ready()
            visit = asyncio.create_task(
                http.post(f"http://127.0.0.1:{ports[0]}/edits?prompt=x", content=png(8, 8, 1))
            )
            await until(lambda: simulator.created)
            await workers[0].end(signal.SIGKILL)
            with contextlib.suppress(httpx2.HTTPError):
                await visit
            [url] = images_of(simulator)
            answer = await http.get(url)
            assert (answer.status_code, answer.content) == (200, png(8, 8, 1))
            edit = f"http://127.0.0.1:{ports[1]}/edits?prompt=y"
            assert (await http.post(edit, content=png(8, 8, 1))).status_code == 200
            assert await status_of(http, url) == 200
        finally:
            for worker in workers:
                await worker.end(signal.SIGKILL)


@both_servers
async def test_one_process(tmp_path: Path, serve_receiver: Serve) -> None:
    """Fifty local files at once, in one process: fifty results, and every URL is gone then."""
    simulator = simulator_of()
    listening, url = listening_socket()
    receiver = WebhookReceiver(f"{url}/apixo", SECRET, files=tmp_path / "files")
    paths = [tmp_path / f"{number}.png" for number in range(AT_ONCE)]
    for number, path in enumerate(paths):
        path.write_bytes(png(32, 32, number))
    async with serve(simulator) as base_url, serve_receiver(receiver, listening), visitor() as http:
        async with AsyncClient("test-key", base_url=base_url, webhooks=receiver) as client:
            wanted = [GptImage2(prompt="x", image_urls=[path]) for path in paths]
            results = await asyncio.gather(*map(client.generate, wanted))
        assert all(result.urls for result in results)
        assert len({*images_of(simulator)}) == AT_ONCE
        await until(lambda: not copies(tmp_path / "files"))
        statuses = await asyncio.gather(*(status_of(http, one) for one in images_of(simulator)))
        assert {*statuses} == {404}


@both_servers
async def test_what_is_not_served_in_time(tmp_path: Path, serve_receiver: Serve) -> None:
    """The service does fetch: a file that is gone while its task runs fails that task."""
    simulator = simulator_of()
    listening, url = listening_socket()
    receiver = WebhookReceiver(f"{url}/apixo", SECRET, files=tmp_path / "files")
    async with (
        serve(simulator) as base_url,
        serve_receiver(receiver, listening),
        AsyncClient("test-key", base_url=base_url, webhooks=receiver) as client,
    ):
        task = await client.submit(GptImage2(prompt="x", image_urls=[png(8, 8, 1)]))
        for copy in copies(tmp_path / "files"):
            copy.unlink()
        with pytest.raises(TaskFailedError) as caught:
            await task
        assert caught.value.category == "image"


@both_servers
async def test_strangers(tmp_path: Path, serve_receiver: Serve) -> None:
    """Over a socket as in process: what nobody signed, or what has expired, is a 404."""
    listening, url = listening_socket()
    files = tmp_path / "files"
    receiver = WebhookReceiver(f"{url}/apixo", SECRET, files=files)
    other = WebhookReceiver(f"{url}/apixo", "another-secret-0123456789", files=files)
    shared, foreign = receiver.share(b"shared"), other.share(b"foreign")
    expired = receiver.share(b"expired", lifetime=0.001)
    name = shared.rpartition("/")[2]
    [copy] = [path.name for path in files.iterdir() if path.read_bytes() == b"shared"]
    paths = [
        copy,
        f"..%2f{copy}",
        f"..%2ffiles%2f{copy}",
        "..%2f..%2f..%2fetc%2fpasswd",
        "..\\..\\etc\\passwd",
        f"{name}%00",
        f"{name}%00.png",
        f"{name}%2f..",
        f"%2e%2e/{name[:-1]}",
        name[:-5],
        name.upper(),
        name.replace(".bin", ".png"),
        quote(name.replace("a", "\u0430", 1)),
        "a" * 6_000,
        f"apixo-file-{'0' * 64}-{'A' * 60}.png",
    ]
    async with serve_receiver(receiver, listening), visitor() as http:
        assert (await http.get(shared)).content == b"shared"
        part = await http.get(shared, headers={"Range": "bytes=-3"})
        assert (part.status_code, part.content) == (206, b"red")
        beyond = await http.get(shared, headers={"Range": "bytes=6-"})
        assert (beyond.status_code, beyond.content) == (416, b"")
        head = await http.head(shared)
        assert (head.status_code, head.headers["content-length"], head.content) == (200, "6", b"")
        assert (await http.post(shared)).status_code == 404
        await asyncio.sleep(1.0)  # A name holds to the end of its second.
        for given in (expired, foreign, *(f"{url}/apixo/{path}" for path in paths)):
            answer = await http.get(given)
            assert (answer.status_code, b"ed" in answer.content) == (404, False), given
        assert (await http.get(shared)).status_code == 200


@both_servers
async def test_visitors_who_leave(tmp_path: Path, serve_receiver: Serve) -> None:
    """Those who leave in the middle of a file harm no other: the file is served to all the same."""
    listening, url = listening_socket()
    receiver = WebhookReceiver(f"{url}/apixo", SECRET, files=tmp_path / "files")
    content = png(8, 8, 1) + bytes(9_000_000)
    shared = receiver.share(content)
    path = shared.removeprefix(url)

    async def leave() -> None:
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.read(1_000)
        writer.transport.abort()

    async with serve_receiver(receiver, listening), visitor() as http:
        await asyncio.gather(*(leave() for _ in range(50)))
        answers = await asyncio.gather(*(http.get(shared) for _ in range(5)))
        assert {answer.content == content for answer in answers} == {True}


def test_the_blocking_client(tmp_path: Path) -> None:
    """The client without an event loop shares files as well; any server may serve them."""

    async def main() -> None:
        simulator = simulator_of()
        listening, url = listening_socket()
        receiver = WebhookReceiver(f"{url}/apixo", SECRET, files=tmp_path / "files")

        def buy(base_url: str) -> None:
            with Client("test-key", base_url=base_url, webhooks=receiver) as client:
                assert client.generate(GptImage2(prompt="x", image_urls=[png(8, 8, 1)])).urls

        async with serve(simulator) as base_url, fastapi_receiver(receiver, listening):
            await asyncio.to_thread(buy, base_url)
            await until(lambda: not copies(tmp_path / "files"))
        assert len(images_of(simulator)) == 1

    asyncio.run(main())
