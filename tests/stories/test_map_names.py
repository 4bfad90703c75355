"""Maps that name the files of their results by a template."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apixo_async import AsyncClient, ConfigurationError, FluxKontext, Outcome, Result
from apixo_async.testing import Simulator

ClientOf = Callable[..., AsyncClient]


def prompts(*texts: str) -> list[FluxKontext]:
    """Return an input for each prompt."""
    return [FluxKontext(mode="pro", prompt=text) for text in texts]


async def mapped(client: AsyncClient, inputs: Any, **options: Any) -> list[Outcome]:
    """Take all outcomes of a map, in order."""
    async with client.map(inputs, ordered=True, **options) as outcomes:
        return [outcome async for outcome in outcomes]


def listed(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, by their names."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stems(outcomes: list[Outcome]) -> list[str]:
    """Return the names of the files, without their extensions."""
    return [path.stem for outcome in outcomes for path in outcome.paths]


async def test_rows_keys_and_slugs(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """Rows count from 1, keys are the caller's, slugs are of the prompts."""
    pairs = [*zip(["x/1", "x/2"], prompts("A Castle!", "../../a moat\0"), strict=True)]
    named = {"download_to": tmp_path, "name": "{row:03}-{key}-{slug}"}
    outcomes = await mapped(client_of(simulator), pairs, **named)
    assert stems(outcomes) == ["001-x_1-a-castle", "002-x_2-a-moat"]
    assert all(path.parent == tmp_path for outcome in outcomes for path in outcome.paths)


async def test_results_of_one_name_are_all_there(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """Two results of one name, and those of an earlier map, overwrite nothing."""
    client = client_of(simulator)
    for _ in range(2):
        outcomes = await mapped(
            client, prompts("a fox", "a fox"), download_to=tmp_path, name="{slug}"
        )
        assert all(outcome.ok for outcome in outcomes)
    assert len(listed(tmp_path)) == simulator.created == 4


@pytest.mark.parametrize("noted", [True, False])
async def test_a_resumed_map_gets_the_same_names(
    noted: bool, simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """Also where a kill came after a file and before its note.

    The note says where a file is; without one, the bytes of the file that is there say whose it is.
    """
    journal, out = tmp_path / "run.db", tmp_path / "out"
    inputs, named = prompts("a fox", "a hen", "a fox"), {"download_to": out, "name": "{slug}"}
    first = await mapped(client_of(simulator), inputs, journal=journal, **named)
    before = listed(out)
    assert len(before) == 3
    if not noted:
        with sqlite3.connect(journal) as connection:
            connection.execute("UPDATE item SET files = NULL")
        connection.close()
    again = await mapped(client_of(simulator), inputs, journal=journal, **named)
    assert [outcome.paths for outcome in again] == [outcome.paths for outcome in first]
    assert listed(out) == before
    assert simulator.created == 3


async def test_a_wrong_template_buys_nothing(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """It is refused when the map is made, and by `download` before anything is asked for."""
    client = client_of(simulator)
    with pytest.raises(ConfigurationError, match=r"\{prompt\} in .* is no field"):
        client.map(prompts("a fox"), download_to=tmp_path, name="{prompt}")
    result = Result("t", "m", ("https://cdn.example/a.png",))
    with pytest.raises(ConfigurationError, match=r"\{row\} in .* is no field"):
        await client.download(result, tmp_path, name="{row}")
    assert simulator.created == 0


async def test_one_result_is_read_and_streamed(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """The three ways bring the same bytes by the same names."""
    client = client_of(simulator)
    result = await client.generate(prompts("a fox")[0])
    (path,) = await client.download(result, tmp_path)
    (file,) = await client.read(result)
    async with client.stream(result) as stream:
        content = await stream.read()
        assert (stream.name, stream.size) == (path.name, len(content))
    assert content == file.content == path.read_bytes()
    assert (file.name, file.media_type) == (path.name, "image/jpeg")


async def test_a_directory_may_have_a_dot(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """What a map is given is a directory, whatever it is called: no file replaces another."""
    folder = tmp_path / "studies.2026"
    inputs = prompts("a castle", "a moat", "a tower")
    outcomes = await mapped(client_of(simulator), inputs, download_to=folder)
    assert {path.parent for outcome in outcomes for path in outcome.paths} == {folder}
    assert len(listed(folder)) == 3
