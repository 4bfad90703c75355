"""Secrets: the key on real sockets, in errors, logs, processes and pages.

That a redirect of a POST takes it nowhere is shown in test_transports.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import logging
import os
import pickle
import re
import subprocess
import sys
import traceback
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

import apixo_async
from apixo_async import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncClient,
    AuthenticationError,
    ClientClosedError,
    Event,
    FluxKontext,
    InternalServerError,
    NotFoundError,
    PollerDiedError,
    Polling,
    Result,
    ResultExpiredError,
    SubmitUncertainError,
    TaskFailedError,
    Timeouts,
    WaitTimeoutError,
)
from apixo_async._cli import app, session
from apixo_async._http.channel import build_transport
from apixo_async.aiohttp import AiohttpTransport
from apixo_async.testing import Fault, Simulator, serve, serve_process

from ..support.inside import break_poller

BOUND: Final = 60.0
#: With what JSON, URLs and pages escape: "/" and "+" often, and '"' always.
CANARY: Final = 'canary-Q7x9/Zk2m+W4pL"8v=Tn'
PROMPT: Final = "an unspeakable castle"
CASTLE = FluxKontext(mode="pro", prompt=PROMPT)
PACKAGE: Final = Path(apixo_async.__file__).parents[1]
HASTE: Final = Polling.fixed(0.02, 0.02)
TIMEOUTS: Final = Timeouts(read=1.0, exchange=10.0, retry=0.2, throttled=0.2)

TRANSPORTS: Final[dict[str, Callable[[], httpx2.AsyncBaseTransport]]] = {
    "plain": httpx2.AsyncHTTPTransport,
    "default": lambda: build_transport("http://127.0.0.1", proxy="", verify=True),
    "aiohttp": AiohttpTransport,
}
#: What is slow over each is run over one; the long form (`nox -s soak`) takes the rest as well.
usual_kind = pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.long] * (kind != "default")) for kind in TRANSPORTS],
)


def leaks(text: str) -> bool:
    """Say whether a text holds any eight characters in a row of the key, escaped or not."""
    decoded = re.sub(r"\\+u00([0-9a-fA-F]{2})", lambda found: chr(int(found[1], 16)), text)
    bare = html.unescape(urllib.parse.unquote(decoded)).replace("\\", "")
    return any(CANARY[n : n + 8] in one for n in range(len(CANARY) - 7) for one in (text, bare))


def every_link(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and all that it was raised from or while."""
    seen: list[BaseException] = []
    links = [error]
    while links:
        link = links.pop()
        if link not in seen:
            seen.append(link)
            yield link
            links += [one for one in (link.__cause__, link.__context__) if one is not None]


def shown(error: BaseException) -> str:
    """Show an error in every way, and its whole chain with the locals of every frame."""
    ways = [f"{error!r} {error} {vars(error)} {pickle.dumps(error)!r}"]
    for link in every_link(error):
        told = traceback.TracebackException.from_exception(link, capture_locals=True)
        # The frames of this file are the caller's own.
        kept = [frame for frame in told.stack if frame.filename != __file__]
        told.stack = traceback.StackSummary.from_list(kept)
        ways += told.format(chain=False)
    return "".join(ways)


# --- errors ----------------------------------------------------------------------------------


class Stage:
    """A served simulator, and a client of it that has one task in flight."""

    def __init__(self, simulator: Simulator, url: str, kind: str, events: list[Event]) -> None:
        self.simulator = simulator
        self.url = url
        self.kind = kind
        self.events = events
        self.client = self.client_of(url)

    def client_of(self, url: str) -> AsyncClient:
        return AsyncClient(
            CANARY,
            base_url=url,
            transport=TRANSPORTS[self.kind](),
            timeout=TIMEOUTS,
            polling=HASTE,
            on_event=self.events.append,
        )


@contextlib.asynccontextmanager
async def stage(kind: str, **options: Any) -> AsyncIterator[Stage]:
    simulator = Simulator(seed=1, key=CANARY, speed=500.0, **options)
    async with asyncio.timeout(BOUND), serve(simulator) as url:
        made = Stage(simulator, url, kind, [])
        yield made
        await made.client.aclose()


async def not_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
    writer.write(b"\x00\x01 this is no HTTP\r\n\r\n")
    writer.close()


async def not_http_either(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError):
        writer.write(await reader.readuntil(b"\r\n\r\n"))
    writer.close()


async def refused(on: Stage) -> None:
    async with on.client_of("http://127.0.0.1:1") as client:
        await client.submit(CASTLE)


async def balance_refused(on: Stage) -> None:
    async with on.client_of("http://127.0.0.1:1") as client:
        await client.balance()


async def garbage(on: Stage) -> None:
    await against(not_http, on)


async def echo(on: Stage) -> None:
    await against(not_http_either, on)


async def against(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], on: Stage
) -> None:
    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        async with on.client_of(f"http://127.0.0.1:{port}") as client:
            await client.submit(CASTLE)


def submit(fault: Fault) -> Callable[[Stage], Awaitable[object]]:
    async def run(on: Stage) -> None:
        on.simulator.faults.submit(fault)
        await on.client.submit(CASTLE)

    return run


def escaped(status: int) -> Fault:
    """Say the key as JSON may spell it, and such JSON within JSON."""
    word = json.dumps(CANARY).replace("/", "\\/").replace("+", "\\u002B")
    said = f'{{"code": {status}, "message": {word}, "data": {{"error": {json.dumps(word)}}}}}'
    return Fault.raw(status, said.encode(), "application/json")


def poll(fault: Fault) -> Callable[[Stage], Awaitable[object]]:
    async def run(on: Stage) -> None:
        on.simulator.faults.submit(Fault.task_lasts(1e6))
        task = await on.client.submit(CASTLE)
        on.simulator.faults.poll(Fault.repeat(100, fault))
        await task.refresh()

    return run


def balance(fault: Fault) -> Callable[[Stage], Awaitable[object]]:
    async def run(on: Stage) -> None:
        on.simulator.faults.balance(Fault.repeat(100, fault))
        await on.client.balance()

    return run


async def balance_cancelled(on: Stage) -> None:
    on.simulator.faults.balance(Fault.hang())
    asking = asyncio.create_task(on.client.balance())
    await until(lambda: on.simulator.count("balance") > 0)
    asking.cancel()
    await asking


async def balance_out_of_time(on: Stage) -> None:
    on.simulator.faults.balance(Fault.hang())
    async with asyncio.timeout(0.1):
        await on.client.balance()


async def submit_cancelled(on: Stage) -> None:
    on.simulator.faults.submit(Fault.delay(0.1))
    buying = asyncio.create_task(on.client.submit(CASTLE))
    await until(lambda: on.simulator.count("submit") > 0)
    buying.cancel()
    await buying


async def poller_dead(on: Stage) -> None:
    task = await on.client.submit(CASTLE)
    with pytest.MonkeyPatch.context() as patch:
        break_poller(patch)
        await task


async def failed(on: Stage) -> None:
    on.simulator.faults.submit(Fault.task_fails())
    await on.client.generate(CASTLE)


async def waited_too_long(on: Stage) -> None:
    on.simulator.faults.submit(Fault.task_lasts(1e6))
    await on.client.generate(CASTLE, timeout=0.1)


async def expired(on: Stage) -> None:
    result = Result("task_1", "flux-kontext", (f"{on.url}/files/none.png",))
    await on.client.download(result, "never-made")


async def closed(on: Stage) -> None:
    await on.client.aclose()
    await on.client.submit(CASTLE)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what the other side of a socket does; the stage bounds it."""
    while not holds():  # noqa: ASYNC110 - the other side sets no event of ours
        await asyncio.sleep(0.005)


ERRORS: Final[dict[str, tuple[Callable[[Stage], Awaitable[object]], type[BaseException]]]] = {
    "submit refused": (refused, APIConnectionError),
    "balance refused": (balance_refused, APIConnectionError),
    "submit hangs": (submit(Fault.hang()), SubmitUncertainError),
    "submit reset": (submit(Fault.reset_after()), SubmitUncertainError),
    "submit lost": (submit(Fault.lost_answer()), SubmitUncertainError),
    "submit truncated": (submit(Fault.truncated(0.2)), SubmitUncertainError),
    "submit HTML": (submit(Fault.html(200)), SubmitUncertainError),
    "submit no HTTP": (garbage, SubmitUncertainError),
    "submit 500": (submit(Fault.status(500)), SubmitUncertainError),
    "submit 401": (submit(Fault.status(401)), AuthenticationError),
    "submit 401 echo": (submit(Fault.status(401, message=CANARY)), AuthenticationError),
    "submit 401 escape": (submit(escaped(401)), AuthenticationError),
    "submit 200 escape": (submit(escaped(200)), SubmitUncertainError),
    "submit no HTTP echo": (echo, SubmitUncertainError),
    "submit 429": (submit(Fault.repeat(100, Fault.status(429))), APIStatusError),
    "submit cancelled": (submit_cancelled, asyncio.CancelledError),
    "poll hangs": (poll(Fault.hang()), APITimeoutError),
    "poll reset": (poll(Fault.reset_after()), APIConnectionError),
    "poll HTML": (poll(Fault.html(200)), APIConnectionError),
    "poll 500": (poll(Fault.status(500)), InternalServerError),
    "poll 401": (poll(Fault.status(401)), AuthenticationError),
    "poll 404": (poll(Fault.status(404)), NotFoundError),
    "balance hangs": (balance(Fault.hang()), APITimeoutError),
    "balance reset": (balance(Fault.reset_after()), APIConnectionError),
    "balance 401": (balance(Fault.status(401)), AuthenticationError),
    "balance cancelled": (balance_cancelled, asyncio.CancelledError),
    "balance out of time": (balance_out_of_time, TimeoutError),
    "poller dead": (poller_dead, PollerDiedError),
    "task failed": (failed, TaskFailedError),
    "wait over": (waited_too_long, WaitTimeoutError),
    "result gone": (expired, ResultExpiredError),
    "client closed": (closed, ClientClosedError),
}


@usual_kind
@pytest.mark.parametrize("name", ERRORS)
async def test_errors_do_not_show_the_key(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No error of a real exchange shows the key, whatever its frames have for locals."""
    monkeypatch.chdir(tmp_path)
    call, expected = ERRORS[name]
    assert len(ERRORS) >= 25
    async with stage(kind) as on:
        with pytest.raises(expected) as caught:
            await call(on)
        text = shown(caught.value)
        assert not leaks(text)
        assert not leaks(f"{on.events!r} {list(map(str, on.events))} {on.client!r}")
        with contextlib.suppress(ClientClosedError):
            assert not leaks(repr(on.client.statistics()))


# --- logs ------------------------------------------------------------------------------------


class Everything(logging.Handler):
    """Keep all that any logger says, with the arguments as they are."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.said: dict[str, list[str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        shown = f"{self.format(record)} {record.msg!r} {record.args!r}"
        self.said.setdefault(record.name.partition(".")[0], []).append(shown)


@pytest.fixture
def heard() -> Iterator[Everything]:
    """Hear every logger, the loggers that are made later as well, from the lowest level up."""
    handler, root = Everything(), logging.getLogger()
    names = [n for n, one in root.manager.loggerDict.items() if isinstance(one, logging.Logger)]
    levels = {name: logging.getLogger(name).level for name in ("root", *names)}
    for name in levels:
        logging.getLogger(name).setLevel(logging.NOTSET)
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize("kind", TRANSPORTS)
async def test_logs_do_not_show_the_key(kind: str, heard: Everything, tmp_path: Path) -> None:
    """With all loggers at their lowest level and asyncio's debug mode none shows the key.

    Nor does one of the HTTP stack or of asyncio show a task id or a prompt.
    """
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    async with stage(kind) as on:
        task = await on.client.submit(CASTLE)
        await on.client.download(await task, tmp_path)
        await on.client.balance()
        for name in ("submit lost", "poll 500", "balance cancelled", "submit 401"):
            call, expected = ERRORS[name]
            with pytest.raises(expected):
                await call(on)
    loop.set_debug(False)
    assert {"asyncio", "apixo_async"} <= heard.said.keys()
    assert kind != "plain" or "httpcore2" in heard.said
    said = {name: "\n".join(lines) for name, lines in heard.said.items()}
    assert [name for name, text in said.items() if leaks(text)] == []
    del said["uvicorn"]  # The server's own, which runs here as well.
    assert task.id in said.pop("apixo_async")
    for name, text in said.items():
        # What a server answers may name the task: the tag of a file does.
        asked = "\n".join(line for line in text.splitlines() if "return_value=" not in line)
        assert not [word for word in ("taskId", task.id, PROMPT) if word in asked], name


# --- processes -------------------------------------------------------------------------------

#: Each is what a script does with a client; its outputs are what is looked at.
SCRIPT: Final = """
import asyncio, faulthandler, gc, logging, os, sys, threading, warnings
from apixo_async import AsyncClient, FluxKontext, Polling, Timeouts
from apixo_async.aiohttp import AiohttpTransport
logging.basicConfig(level=1)
transport = AiohttpTransport() if sys.argv[1] == "aiohttp" else None
timeouts = Timeouts(retry=0.2, exchange=5.0)
client = AsyncClient(transport=transport, polling=Polling.fixed(0.02, 0.02), timeout=timeouts)
castle = FluxKontext(mode="pro", prompt="a castle")

async def never_retrieved():
    await client.submit(castle)
    async def ask():
        await client.attach("flux-kontext", "task_unknown").refresh()
    asking = asyncio.create_task(ask())
    while not asking.done():
        await asyncio.sleep(0.01)
    del asking
    gc.collect()
    raise RuntimeError("the script's own")

async def never_closed():
    await client.submit(castle)
    asyncio.create_task(client.generate(castle))
    await asyncio.sleep(0)

async def dumped():
    asking = [asyncio.create_task(client.balance()) for _ in range(20)]
    faulthandler.dump_traceback_later(0.01, exit=False)
    await asyncio.sleep(0)
    faulthandler.dump_traceback(all_threads=True)
    for one in asyncio.all_tasks():
        one.print_stack()
    await asyncio.gather(*asking)
    await client.aclose()

async def killed():
    await client.balance()
    faulthandler.enable()
    os.abort()

async def warned():
    warnings.warn(f"{client!r}", ResourceWarning, source=client)
    client.balance()
    gc.collect()
    await client.aclose()

asyncio.run(globals()[sys.argv[2]]())
"""

#: What each says at least, so that it is seen to have done what it is for.
SCRIPTS: Final[dict[str, str]] = {
    "never_retrieved": "Task exception was never retrieved",
    "never_closed": "DEBUG:asyncio",
    "dumped": "most recent call first",
    "killed": "Fatal Python error",
    "warned": "was never awaited",
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Have a simulator of its own process, whose key is the canary."""
    with serve_process(key=CANARY, speed=200) as url:
        yield url


@pytest.fixture
def environment(url: str) -> dict[str, str]:
    """Have an environment with the key, and nothing else that matters."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("APIXO_") and "proxy" not in name.lower()
    }
    found = {"PYTHONPATH": str(PACKAGE), "APIXO_API_KEY": CANARY, "APIXO_BASE_URL": url}
    return kept | found


@usual_kind
@pytest.mark.parametrize("what", SCRIPTS)
def test_processes_do_not_show_the_key(
    what: str, kind: str, environment: dict[str, str], tmp_path: Path
) -> None:
    """What a process says of itself, debugging or dying, does not show the key."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, "utf-8")
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "always", str(script), kind, what],
        env=environment,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
        cwd=tmp_path,
    )
    assert SCRIPTS[what] in done.stderr, done.stderr[-2_000:]
    assert not leaks(done.stdout + done.stderr)


GENERATE: Final = ("generate", "flux-kontext", "a castle", "--set", "mode=pro")

COMMANDS: Final[dict[str, tuple[tuple[str, ...], dict[str, str], int]]] = {
    "balance": (("balance",), {}, 0),
    "balance as JSON": (("balance", "--json"), {}, 0),
    "models": (("models",), {}, 0),
    "submit": ((*GENERATE, "--no-wait"), {}, 0),
    "submit as JSON": ((*GENERATE, "--no-wait", "--json"), {}, 0),
    "unknown task": (("status", "flux-kontext", "task_0"), {}, 3),
    "unknown task as JSON": (("status", "flux-kontext", "task_0", "--json"), {}, 3),
    "wrong URL": ((*GENERATE, "--base-url", "ftp://x"), {}, 2),
    "wrong input": (("generate", "gpt-image-1", "x", "--set", "n=x"), {}, 2),
    "wrong key": (("balance",), {"APIXO_API_KEY": CANARY + "-not"}, 3),
    "malformed key": (("balance",), {"APIXO_API_KEY": CANARY + " x"}, 2),
    "key file": (("balance", "--api-key-file", "key"), {"APIXO_API_KEY": ""}, 0),
    "missing file": (("balance", "--api-key-file", "none"), {}, 2),
    "nobody there": (("status", "m", "t", "--base-url", "http://127.0.0.1:1"), {}, 5),
}


@pytest.mark.parametrize("debug", ["", "1"])
@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_does_not_show_the_key(
    name: str,
    debug: str,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """No output of the command shows the key, not with APIXO_DEBUG=1 either."""
    arguments, extra, code = COMMANDS[name]
    (tmp_path / "key").write_text(CANARY)
    monkeypatch.chdir(tmp_path)
    for variable, value in (environment | {"APIXO_DEBUG": debug} | extra).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(session, "_TIMEOUTS", Timeouts(retry=0.2))
    done = app.run(arguments)
    out, err = capfd.readouterr()
    assert done == code, out + err
    assert out + err
    assert ("Traceback" in err) == (debug == "1" and code != 0)
    assert not leaks(out + err)


@pytest.mark.skipif(
    not list(Path("/proc").glob("self/task/*/children")), reason="there is no such /proc here"
)
def test_no_argument_shows_the_key(environment: dict[str, str], tmp_path: Path) -> None:
    """Neither the command nor the simulator's process has the key among its arguments."""
    with subprocess.Popen(
        [sys.executable, "-m", "apixo_async", *GENERATE],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()
        mine = command_line(process.pid)
        children = [command_line(number) for number in children_of(os.getpid())]
        process.terminate()
        process.communicate(timeout=BOUND)
    assert "generate" in mine
    assert [text for text in children if "apixo_async.testing" in text]
    assert [text for text in (mine, *children) if leaks(text)] == []


def children_of(number: int) -> list[int]:
    """Return the processes that a process of Linux has started."""
    found = Path(f"/proc/{number}/task").glob("*/children")
    return [int(child) for path in found for child in path.read_text("ascii").split()]


def command_line(number: int) -> str:
    """Return the arguments of a process, or nothing when it is gone."""
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def test_the_pages_of_the_simulator_show_a_digest_only(url: str) -> None:
    """Neither the page of a simulator nor its log and counts show the key of its clients."""
    request = urllib.request.Request(
        f"{url}/api/v1/apikeys/current-balance", headers={"Authorization": f"Bearer {CANARY}"}
    )
    urllib.request.urlopen(request, timeout=BOUND).close()
    for path in ("/", "/_simulator/log", "/_simulator/statistics"):
        with urllib.request.urlopen(url + path, timeout=BOUND) as response:
            page = response.read().decode()
        assert page
        assert not leaks(page), path
    with urllib.request.urlopen(f"{url}/_simulator/log", timeout=BOUND) as response:
        assert any(record["account"] for record in json.load(response))


README: Final = Path(__file__).parents[2] / "README.md"


def scripts_of(markdown: str) -> list[str]:
    """Return the Python blocks that are to be run as they are."""
    return re.findall(r"<!-- run: script -->\n```python\n(.*?)```", markdown, re.DOTALL)


def test_the_examples_do_not_show_the_key(environment: dict[str, str], tmp_path: Path) -> None:
    """What the README's scripts print, with all loggers at DEBUG, does not hold the key."""
    examples = scripts_of(README.read_text("utf-8"))
    assert len(examples) >= 2
    haste = (
        "import logging, apixo_async\n"
        "logging.basicConfig(level=1)\n"
        "plan = apixo_async.Polling.fixed(0.05, 0.05)\n"
        "init = apixo_async.AsyncClient.__init__\n"
        "def hasty(self, *args, **options):\n"
        "    init(self, *args, **{'polling': plan} | options)\n"
        "apixo_async.AsyncClient.__init__ = hasty\n"
    )
    for example in examples:
        (tmp_path / "example.py").write_text(f"exec({haste!r})\n{example}", "utf-8")
        done = subprocess.run(
            [sys.executable, "example.py"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=BOUND,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr[-2_000:]
        assert "submitted after" in done.stderr
        assert not leaks(done.stdout + done.stderr)
