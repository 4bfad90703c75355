"""Every code block of the README is run as it stands, by people's means, against a simulator.

A comment before a block says how: `<!-- run: script -->`, `<!-- run: pytest -->`,
`<!-- run: fastapi METHOD /path [BODY] -->`, `<!-- run: aiohttp METHOD /path [BODY] -->`,
`<!-- run: shell -->` or `<!-- run: not, because ... -->`; where `nox -s frameworks` runs it,
`<!-- run: pytest-asyncio -->`, `<!-- run: django /path -->` or `<!-- run: flask METHOD /path -->`.
A block for pytest may be of several files, each under a line with its name: `# conftest.py`.
A body may be a file, as in `@sofa.png`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent
from typing import Any

import httpx2
import pytest

import apixo_async
from apixo_async.testing import serve_process

from .support.inside import guides, haste
from .support.pictures import png

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
GUIDES = sorted((ROOT / "apixo_async/guides").glob("*.md"))
STAND_INS = ROOT / "tests/support/stand_ins"
COMMANDS = "python -m pip install '.[all]' && apixo demo\npython -m pip install nox && nox\n"
BOUND = 60  # seconds after which a block that hangs fails its test
SPEED = 100  # of the simulator, and of the documents' plan of polls

#: Runs at the start of each Python: polls come as much sooner as tasks end.
HASTE = haste(SPEED)


@dataclass(frozen=True)
class Block:
    """One fenced block: the line of its fence, its language, its text, and how to run it."""

    line: int
    language: str
    text: str
    how: str | None


def blocks(markdown: str) -> list[Block]:
    """Return every fenced block, each with the marker on the line before it."""
    found: list[Block] = []
    how: str | None = None
    lines = enumerate(markdown.splitlines(keepends=True), start=1)
    for number, line in lines:
        if fence := re.match(r"\s*(`{3,}|~{3,})\s*(\w*)", line):
            text: list[str] = []
            for _, inner in lines:
                if inner.strip() == fence[1]:
                    break
                text.append(inner)
            else:
                raise ValueError(f"line {number}: the block has no end")
            found.append(Block(number, fence[2], dedent("".join(text)), how))
            how = None
        elif marker := re.fullmatch(r"\s*<!--\s*run:\s*(.*?)\s*-->\s*", line):
            how = marker[1]
        elif how is not None and line.strip():
            raise ValueError(f"line {number}: a marker stands before no block")
    return found


class Sandbox:
    """A folder of its own, and an environment in which the service is a simulator."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        (folder / "sofa.png").write_bytes(png(8, 8, 1))
        site, tools = folder / "site", folder / "bin"
        site.mkdir()
        tools.mkdir()
        (site / "sitecustomize.py").write_text(HASTE, "utf-8")
        apixo = tools / "apixo"
        apixo.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m apixo_async "$@"\n')
        apixo.chmod(0o755)
        package = Path(apixo_async.__file__).parents[1]
        kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        self.environment = kept | {
            "APIXO_API_KEY": "readme-key",
            "APIXO_BASE_URL": url,
            "PYTHONPATH": os.pathsep.join((str(site), str(package))),
            "PATH": os.pathsep.join((str(tools), str(Path(sys.executable).parent), os.defpath)),
        }

    def callbacks_delivered(self) -> int:
        """Return how many callbacks the service has delivered."""
        url = self.environment["APIXO_BASE_URL"] + "/_simulator/callbacks"
        answer = httpx2.get(url, trust_env=False, timeout=BOUND)
        return sum(attempt["status"] == 200 for attempt in answer.json())

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command here, its two outputs in one."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )

    def run(self, *command: str) -> str:
        """Run a command to its good end, and return what it printed."""
        with self.start(*command) as process:
            try:
                printed, _ = process.communicate(timeout=BOUND)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert process.returncode == 0, printed
        return printed


def run_script(sandbox: Sandbox, block: Block, argument: str) -> None:
    """Run Python as a script; "with ray daft" if these are installed."""
    for module in argument.removeprefix("with ").split():
        require(module)
    (sandbox.folder / "example.py").write_text(block.text, "utf-8")
    sandbox.run(sys.executable, "-W", "error::ResourceWarning", "example.py")


def run_with_stand_in(sandbox: Sandbox, block: Block, argument: str) -> None:
    """Run Python as a script that imports a stand-in for an engine."""
    [found] = STAND_INS.glob(f"{argument}*")
    if found.is_dir():
        shutil.copytree(found, sandbox.folder / "site" / found.name)
    else:
        shutil.copy(found, sandbox.folder / "site")
    run_script(sandbox, block, "")


def run_pytest(sandbox: Sandbox, block: Block, argument: str, *options: str) -> None:
    """Run Python as a test module, or as the files that it names."""
    assert not argument
    named = re.split(r"^# (\w+\.py)\n", block.text, flags=re.MULTILINE)
    for name, text in zip(named[1::2], named[2::2], strict=True):
        (sandbox.folder / name).write_text(text, "utf-8")
    if named[0].strip():
        (sandbox.folder / "test_example.py").write_text(named[0], "utf-8")
    # The haste imported a plugin of pytest before pytest could; no other warning may pass.
    warnings = ("-W", "error", "-W", "ignore:Module already imported")
    printed = sandbox.run(sys.executable, "-m", "pytest", "-q", *warnings, *options)
    assert re.search(r"^\d+ passed in", printed, re.MULTILINE), printed


def run_pytest_asyncio(sandbox: Sandbox, block: Block, argument: str) -> None:
    """Run Python as the files that it names, with pytest-asyncio in both modes."""
    require("pytest_asyncio")
    for mode in ("strict", "auto"):
        scope = "asyncio_default_fixture_loop_scope=function"
        run_pytest(sandbox, block, argument, "-o", scope, "-o", f"asyncio_mode={mode}")


#: Visits the view `image` of a module twice at once, as each kind of server would.
DJANGO = """
import asyncio, sys
from concurrent.futures import ThreadPoolExecutor
import django
from django.conf import settings
settings.configure(ALLOWED_HOSTS=["testserver"], ROOT_URLCONF="visit", SECRET_KEY="a secret")
django.setup()
from django.test import AsyncClient, Client
from django.urls import path
import example
urlpatterns = [path("images", example.image)]

def check(answers):
    assert len({answer.content for answer in answers}) == 2, answers

async def asgi():
    check(await asyncio.gather(*(AsyncClient().get(sys.argv[1]) for _ in range(2))))

if __name__ == "__main__":
    sys.modules["visit"] = sys.modules["__main__"]
    if not asyncio.iscoroutinefunction(example.image):
        with ThreadPoolExecutor() as pool:
            check(list(pool.map(Client().get, [sys.argv[1]] * 2)))
    asyncio.run(asgi())
"""


def run_django(sandbox: Sandbox, block: Block, argument: str) -> None:
    """Visit the view `image` under ASGI, and one that is no coroutine under WSGI, too."""
    require("django")
    for name, text in (("example", block.text), ("visit", DJANGO)):
        (sandbox.folder / f"site/{name}.py").write_text(text, "utf-8")
    sandbox.run(sys.executable, "-m", "visit", argument)


def run_flask(sandbox: Sandbox, block: Block, argument: str) -> None:
    """Visit an app of Flask."""
    require("flask")
    method, path = argument.split()
    visit = f"assert app.test_client().open({path!r}, method={method!r}).get_json()['urls']"
    (sandbox.folder / "example.py").write_text(f"{block.text}\n{visit}\n", "utf-8")
    sandbox.run(sys.executable, "example.py")


def require(module: str) -> None:
    """Leave a block to another session of nox where what it needs is not installed."""
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed: frameworks or pipelines of nox run this block")


def run_fastapi(sandbox: Sandbox, block: Block, argument: str) -> None:
    """Serve Python as an app under uvicorn, and send the request twice at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, descriptor = listener.getsockname()[1], listener.fileno()
        server = ("-m", "uvicorn", "example:app", "--fd", str(descriptor), "--app-dir", ".")
        printed = serve(sandbox, block, argument, server, port, pass_fds=(descriptor,))
    assert "Application shutdown complete" in printed
    assert "ERROR" not in printed


def run_aiohttp(sandbox: Sandbox, block: Block, argument: str) -> None:
    """Run Python that serves an app of aiohttp at $PORT, and send the request twice at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    printed = serve(sandbox, block, argument, ("-u", "example.py"), port)
    assert "Error" not in printed


def serve(
    sandbox: Sandbox,
    block: Block,
    argument: str,
    server: tuple[str, ...],
    port: int,
    **options: Any,
) -> str:
    """Serve Python on a port of its own, send the request twice at once, and end it."""
    method, path, *body = argument.split(maxsplit=2)
    here = f"http://127.0.0.1:{port}"
    (sandbox.folder / "example.py").write_text(block.text, "utf-8")
    sandbox.environment |= {"PORT": str(port), "PUBLIC_URL": f"{here}/apixo"}
    sandbox.environment["WEBHOOK_SECRET"] = "a secret of the readme"
    before = sandbox.callbacks_delivered()
    wanted = 1 if "key=" in block.text else 2  # A key stands for one task.
    awaited = wanted if "WebhookReceiver" in block.text else 0
    with (
        sandbox.start(sys.executable, *server, **options) as process,
        ThreadPoolExecutor(2) as pool,
    ):
        watchdog = threading.Timer(BOUND, process.kill)
        watchdog.start()
        try:
            _until_running(process)
            sent = [_content(sandbox, text) for text in body]
            asked = method, here + path, *sent
            answers = list(pool.map(lambda _: _answer(*asked), range(2)))
            # On a busy machine polls may find the ends first, and callbacks come later.
            until = time.monotonic() + BOUND
            while sandbox.callbacks_delivered() - before < awaited and time.monotonic() < until:
                time.sleep(0.1)
        finally:
            process.send_signal(signal.SIGINT)
            printed, _ = process.communicate()
            watchdog.cancel()
    assert len(set(answers)) == wanted, f"two requests at once made {answers}"
    assert sandbox.callbacks_delivered() - before == awaited
    return printed


def _until_running(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    printed: list[str] = []
    for line in process.stdout:
        printed.append(line)
        if re.search(r"running on", line, re.IGNORECASE):
            return
    raise AssertionError("".join(printed))


def _content(sandbox: Sandbox, body: str) -> bytes:
    return (sandbox.folder / body[1:]).read_bytes() if body.startswith("@") else body.encode()


def _answer(method: str, url: str, body: bytes = b"") -> bytes:
    headers = {"Idempotency-Key": "readme", "Content-Type": "application/json"}
    answer = httpx2.request(
        method, url, content=body, headers=headers, trust_env=False, timeout=BOUND
    )
    assert answer.is_success, answer.text
    return answer.content


def run_shell(sandbox: Sandbox, block: Block, argument: str) -> None:
    """Run commands in a shell; a line that installs is only checked."""
    assert not argument
    lines = [line.removeprefix("$ ") for line in block.text.splitlines()]
    for line in lines:
        if "pip install" in line:
            assert_installable(line)
    commands = [line for line in lines if "pip install" not in line]
    sandbox.run("bash", "-euo", "pipefail", "-c", "\n".join(commands))


def run_not(sandbox: Sandbox, block: Block, argument: str) -> None:  # noqa: ARG001  # as the others
    """Leave a block alone that gives its reason, and that is no Python."""
    assert re.match(r"because \w+", argument), f"line {block.line}: no reason is given"
    assert block.language != "python", f"line {block.line}: Python is run"


HOW = {
    "script": run_script,
    "stand-in": run_with_stand_in,
    "pytest": run_pytest,
    "pytest-asyncio": run_pytest_asyncio,
    "django": run_django,
    "flask": run_flask,
    "fastapi": run_fastapi,
    "aiohttp": run_aiohttp,
    "shell": run_shell,
    "not,": run_not,
}


def assert_installable(line: str) -> None:
    """Check that a line installs this project by its name or place, with extras that it has."""
    requirement = re.fullmatch(r"python -m pip install '?(apixo-async|\.)(\[([a-z,]+)\])?'?", line)
    assert requirement is not None, line
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = set((requirement[3] or "all").split(","))
    assert extras <= project["optional-dependencies"].keys(), line


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Have the service on a port of a second process."""
    with serve_process(key="readme-key", speed=SPEED, fetch_images=True) as url:
        yield url


@pytest.fixture
def sandbox(url: str, tmp_path: Path) -> Sandbox:
    """Have a folder for one block."""
    return Sandbox(tmp_path, url)


def test_the_two_commands() -> None:
    """The README begins with the two commands, and CI runs the second, letter for letter."""
    assert blocks(README.read_text("utf-8"))[0].text == COMMANDS
    assert COMMANDS.splitlines()[1] in (ROOT / ".ci/run").read_text("utf-8").splitlines()


#: The blocks of the README but its first, which is the two commands, and those of the guides.
DOCUMENTED = [
    (f"{path.stem}-{block.line}", block)
    for path in (README, *GUIDES)
    for block in blocks(path.read_text("utf-8"))[path == README :]
]


def test_the_readme_lists_the_guides() -> None:
    """Its table is the list that `apixo docs` prints: each guide, in order, with its title."""
    table = README.read_text("utf-8").partition("\n## Guides\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| \[([\w-]+)\]\(([\w./-]+)\) \| (.+) \|$", table, re.MULTILINE)
    titles = [(name, text.partition("\n")[0].removeprefix("# ")) for name, text in guides().items()]
    assert [(name, title) for name, _, title in rows] == titles
    assert sorted(ROOT / path for _, path, _ in rows) == GUIDES


def test_links_to_guides_name_them() -> None:
    """Each guide that the README speaks of is where it says, by the name `apixo docs` knows."""
    text = README.read_text("utf-8").partition("\n## Changelog")[0]
    linked = re.findall(r"\[`apixo docs ([\w-]+)`\]\(apixo_async/guides/([\w-]+)\.md\)", text)
    assert linked
    assert [name for name, _ in linked] == [stem for _, stem in linked]
    assert text.count("`apixo docs ") == len(linked)


def test_guides_speak_of_guides() -> None:
    """What a guide sends its reader to is another guide."""
    for name, text in guides().items():
        others = {*re.findall(r"`apixo docs ([\w-]+)`", text)}
        assert others <= guides().keys() - {name}, name


def test_the_table_of_contents() -> None:
    """The README's contents lead to each of its sections, in order."""
    text = README.read_text("utf-8")
    contents = text.partition("\nContents: ")[2].partition("\n\n")[0]
    heads = re.findall(r"^## (.+)$", text, re.MULTILINE)
    slugs = [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads]
    assert re.findall(r"\(#([\w-]+)\)", contents) == slugs


@pytest.mark.heavy
@pytest.mark.realtime
@pytest.mark.parametrize("block", [pytest.param(block, id=name) for name, block in DOCUMENTED])
def test_block(sandbox: Sandbox, block: Block) -> None:
    """A block does what it says, as it stands, in a folder with nothing but a picture."""
    execute(sandbox, block)


def execute(sandbox: Sandbox, block: Block) -> None:
    """Run a block in the way that its marker names."""
    assert block.how is not None, f"line {block.line}: no marker says how to run this block"
    way, _, argument = block.how.partition(" ")
    assert way in HOW, f"line {block.line}: {way} is none of {', '.join(HOW)}"
    HOW[way](sandbox, block, argument)


# The checks themselves are worth something only as long as they can fail.


def test_every_fence_is_found() -> None:
    """Blocks are found with language, marker and line; a marker counts for one block only."""
    markdown = "# A\n\n<!-- run: script -->\n\n```python\na\n\nb\n```\n- x\n\n  ```\n  c\n  ```\n"
    assert blocks(markdown) == [
        Block(5, "python", "a\n\nb\n", "script"),
        Block(12, "", "c\n", None),
    ]


@pytest.mark.parametrize(
    "markdown", ["```python\na\n", "<!-- run: script -->\ntext\n```\na\n```\n"]
)
def test_broken_markdown_is_an_error(markdown: str) -> None:
    """A block without an end, or a marker without a block, hides nothing."""
    with pytest.raises(ValueError, match=r"line \d"):
        blocks(markdown)


@pytest.mark.heavy
@pytest.mark.realtime
@pytest.mark.parametrize(
    ("how", "text"),
    [
        (None, ""),
        ("guess", ""),
        ("not,", ""),
        ("not, because it is Python", ""),
        ("script", "raise SystemExit(1)"),
        pytest.param("pytest", "def test() -> None:\n    assert False", marks=pytest.mark.long),
        ("pytest", "def no_test() -> None: ..."),
        pytest.param("shell", "apixo status gpt-image-1 nothing\ntrue", marks=pytest.mark.long),
        ("shell", "python -m pip install 'apixo-async[everything]'"),
        ("fastapi GET /", "raise RuntimeError"),
        ("aiohttp GET /", "raise RuntimeError"),
    ],
)
def test_a_block_that_fails_is_seen(sandbox: Sandbox, how: str | None, text: str) -> None:
    """A block that does not do what its marker says fails its test."""
    with pytest.raises(AssertionError):
        execute(sandbox, Block(1, "python", text, how))
