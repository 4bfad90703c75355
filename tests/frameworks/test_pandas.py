"""Outcomes become a data frame, from a script as a user writes it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from apixo_async.testing import serve_process

pytest.importorskip("pandas")
pytestmark = pytest.mark.realtime

SCRIPT = """
import asyncio
import pickle

import pandas as pd

from apixo_async import AsyncClient, FluxKontext, GptImage2, OtherModel


async def main():
    inputs = [
        FluxKontext(mode="pro", prompt="a lighthouse"),
        GptImage2(prompt="a paper moon", resolution="2k"),
        OtherModel("gpt-image-2", prompt=""),
        OtherModel("sora-2", prompt="a fox", seconds=8),
    ]
    async with AsyncClient() as client:
        outcomes = [outcome async for outcome in client.map(inputs, ordered=True)]
    frame = pd.DataFrame([outcome.to_dict() for outcome in outcomes])
    assert [*frame.key] == ["0", "1", "2", "3"]
    assert [*frame.state] == ["success", "success", "unbought", "success"], frame.state
    assert [*frame.model] == ["flux-kontext", "gpt-image-2", "gpt-image-2", "sora-2"]
    assert frame.resolution[1] == "2k"
    assert frame.cost.dtype == frame.seconds.dtype == float
    assert frame.cost.sum().round(2) == 0.06
    assert frame.cost.isna().tolist() == [False, False, False, True]
    assert frame.error.isna().tolist() == [True, True, False, True]
    assert frame.input_seconds[3] == 8
    assert (frame.urls.str.len() == [1, 1, 0, 1]).all()
    frame.to_csv("outcomes.csv", index=False)
    whole = pd.DataFrame(outcomes)
    assert [*whole.key] == [*frame.key]
    sent = pickle.loads(pickle.dumps(outcomes))
    assert [one.to_dict() for one in sent] == [one.to_dict() for one in outcomes]
    print("done")


asyncio.run(main())
"""


def test_a_frame_of_outcomes(tmp_path: os.PathLike[str]) -> None:
    """The rows have one type a column, of successes, failures and models that differ."""
    with serve_process(key="test-key", speed=100) as url:
        ran = subprocess.run(
            [sys.executable, "-W", "error::RuntimeWarning", "-c", SCRIPT],
            cwd=tmp_path,
            env=os.environ | {"APIXO_API_KEY": "test-key", "APIXO_BASE_URL": url},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert ran.stdout == "done\n", ran.stderr
