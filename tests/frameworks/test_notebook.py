"""A notebook as a user writes it, run by a kernel of Jupyter: pictures, and one bar of a map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from apixo_async.testing import serve_process

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
for needed in ("ipykernel", "ipywidgets", "tqdm"):
    pytest.importorskip(needed)
pytestmark = pytest.mark.realtime

CELLS = [
    "from apixo_async import AsyncClient, FluxKontext, Limits, Result",
    "client = AsyncClient('test-key', base_url=URL, limits=Limits(concurrent_tasks=6))",
    "inputs = [FluxKontext(mode='pro', prompt=f'a lighthouse, study {n}') for n in range(12)]",
    "outcomes = [one async for one in client.map(inputs, progress=True)]",
    "outcomes[0]",
    "task = await client.submit(inputs[0])\nresult = await task\ntask",
    "result",
    "Result('task_1', 'sora-2', ('https://example.com/a.mp4', 'https://example.com/a.mp3'))",
    "await client.aclose()",
]


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the cells, and return the notebook with what they show."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_ALLOW_INSECURE_WRITES", "1")
    with serve_process(key="test-key", speed=20) as url:
        cells = [f"URL = {url!r}", *CELLS]
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
    return book


def shown(book: Any, cell: int) -> list[str]:
    """Return the HTML of a cell's outputs."""
    outputs = book.cells[cell].outputs
    return [one.data["text/html"] for one in outputs if "text/html" in one.get("data", {})]


@pytest.mark.filterwarnings("default")  # Those of Jupyter are not ours.
def test_a_notebook(notebook: Any) -> None:
    """Outcomes, tasks and results show their files; a map draws one bar, and nothing else."""
    kinds = [[one.output_type for one in cell.outputs] for cell in notebook.cells]
    assert kinds == [[], [], [], [], ["display_data"], *[["execute_result"]] * 4, []]
    for cell in (5, 6, 7):
        (html,) = shown(notebook, cell)
        assert "<img " in html
    (html,) = shown(notebook, 8)
    assert "<video " in html
    assert "<audio " in html
    widgets = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    states = [one["state"] for one in widgets.values()]
    bars = [one for one in states if one["_model_name"] == "FloatProgressModel"]
    assert [(bar["value"], bar["max"], bar["bar_style"]) for bar in bars] == [(12, 12, "success")]
    assert [one for one in states if "$0.36" in str(one.get("value"))]
