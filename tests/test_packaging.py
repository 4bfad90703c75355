"""What users install: the wheel's files and metadata, and that it is what the tests import."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import apixo_async

ROOT = Path(__file__).parents[1]


@pytest.fixture
def wheel() -> Iterator[zipfile.ZipFile]:
    """Open the wheel that was built for this run."""
    path = os.environ.get("APIXO_WHEEL")
    if path is None:
        pytest.skip("no wheel was built for this run; nox builds one")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.mark.usefixtures("wheel")
def test_the_tests_import_the_wheel() -> None:
    """The package under test is the installed one, and not the checkout's."""
    installed = importlib.metadata.distribution("apixo-async").locate_file("apixo_async")
    here = Path(apixo_async.__file__).parent
    assert here == Path(str(installed))
    assert not here.is_relative_to(ROOT / "apixo_async")


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Every file of the package is in the wheel, `py.typed` and the pages too; no test is."""
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "apixo_async").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == sources
    assert "apixo_async/py.typed" in packed
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


@pytest.mark.usefixtures("wheel")
def test_the_metadata() -> None:
    """Four base dependencies, nine extras, one command, Python 3.11 or later."""
    distribution = importlib.metadata.distribution("apixo-async")
    base = [line for line in distribution.requires or () if "extra ==" not in line]
    names = {match[0] for line in base if (match := re.match(r"[\w-]+", line))}
    assert names == {"httpx2", "pydantic", "anyio", "backoff"}
    metadata = distribution.metadata
    extras = set(metadata.get_all("Provides-Extra") or ())
    assert extras == {
        *("all", "cli", "simulator", "aiohttp", "postgres", "socks"),
        *("otel", "ray", "daft"),
    }
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert distribution.version == apixo_async.__version__
    assert [point.name for point in distribution.entry_points] == ["apixo"]


@pytest.mark.usefixtures("wheel")
def test_the_command_is_installed() -> None:
    """`apixo` lies beside the interpreter, and says its version."""
    command = shutil.which("apixo", path=str(Path(sys.executable).parent))
    assert command is not None
    ran = subprocess.run(
        [command, "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert apixo_async.__version__ in ran.stdout


def test_the_command_without_its_extra() -> None:
    """Without typer and rich, `apixo` says in one line what to install, and ends with 2."""
    program = "import sys; sys.modules['typer'] = None; import apixo_async.__main__ as main;"
    ran = subprocess.run(
        [sys.executable, "-c", f"{program} sys.exit(main.main())"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert "python -m pip install 'apixo-async[cli]'" in line
