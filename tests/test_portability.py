"""Everything can be imported and used where Python has no `fcntl`, as on Windows."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import apixo_async

PACKAGE = Path(apixo_async.__file__).parent

#: Imports every module, and has a journal and a download's leftovers at work.
SCRIPT = """
import asyncio, importlib, pkgutil, sys, tempfile, warnings
from pathlib import Path
sys.modules["fcntl"] = None
import apixo_async
names = [found.name for found in pkgutil.walk_packages(apixo_async.__path__, "apixo_async.")]
for name in names:
    if not name.endswith(("__main__", "pipelines.ray", "pipelines.daft")):
        importlib.import_module(name)
from apixo_async import AsyncClient, FluxKontext
from apixo_async.testing import Simulator, VirtualTimeLoop
inputs = [FluxKontext(mode="pro", prompt=f"castle {n}") for n in range(3)]

async def main(folder):
    simulator = Simulator(seed=1)
    for _ in range(2):
        async with AsyncClient("test-key", transport=simulator.transport()) as client:
            outcomes = client.map(inputs, journal=folder / "run.db", download_to=folder)
            async with outcomes:
                assert [outcome.ok async for outcome in outcomes] == [True] * 3
    assert simulator.created == 3

with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("default")
    dead = Path(folder, ".task.0123456789ab.part")
    dead.write_bytes(b"")
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main(Path(folder)))
    assert dead.exists() or sys.platform == "win32"  # Nobody can tell that it is nobody's.
print(len(names), *[f"{one.category.__name__}: {one.message}" for one in caught], sep="\\n")
"""


def test_all_of_it_works_without_fcntl(tmp_path: Path) -> None:
    """Every module can be imported and a journal opened; one warning says what is weaker then."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
        env={"PYTHONPATH": str(PACKAGE.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2_000:]
    count, *caught = done.stdout.splitlines()
    assert int(count) > 100
    assert len(caught) == 2  # One for each run.
    assert len(set(caught)) == 1, caught
    assert "JournalWarning" in caught[0]
    assert "neither `flock` nor modes of files" in caught[0]


def test_no_module_needs_fcntl_to_be_imported() -> None:
    """`fcntl` is imported in functions only."""
    needing = [
        path
        for path in PACKAGE.rglob("*.py")
        for node in ast.parse(path.read_text("utf-8")).body
        if "fcntl" in ast.unparse(node)
        and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]
    assert needing == []
