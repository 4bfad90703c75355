"""The saved corpus of the fuzzer, and some mutations of it, without the fuzzer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from .targets import TARGETS, check

CORPUS = Path(__file__).parent / "corpus"
MUTATIONS = 60  # of each target


def inputs(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return other bytes: some changed, cut out or repeated."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) + 1)
        piece = changed[at : at + rng.randint(0, 8)]
        changed[at : at + len(piece)] = rng.choice([b"", piece * 2, rng.randbytes(len(piece) or 1)])
    return bytes(changed)


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_stays_mended(name: str) -> None:
    """Each saved input, and what is near to it, is read as documented."""
    saved = inputs(name)
    assert 0 < len(saved) <= 30
    for data in saved:
        check(name, data)
    rng = random.Random(name)
    for _ in range(MUTATIONS):
        data = mutated(rng.choice(saved), rng)
        try:
            check(name, data)
        except BaseException as exc:
            exc.add_note(f"{name}: {data!r}")
            raise


def test_no_corpus_is_left_over() -> None:
    """Each folder of the corpus is of a target."""
    assert {path.name for path in CORPUS.iterdir()} == TARGETS.keys()
