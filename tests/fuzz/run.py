"""Fuzz one target with atheris: python tests/fuzz/run.py TARGET SECONDS SEED FINDINGS.

It goes on from the saved corpus, and ends with an error at the first finding, whose input is then
a file in the folder FINDINGS.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["apixo_async", "email"]):
    from targets import TARGETS, WORDS, check


def main() -> None:
    """Fuzz until the time is over."""
    name, seconds, seed, findings = sys.argv[1:]
    assert name in TARGETS, f"one of {', '.join(TARGETS)}"
    Path(findings).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as found:
        words = Path(found, "words")
        lines = ["".join(f"\\x{byte:02x}" for byte in word.encode("latin-1")) for word in WORDS]
        words.write_text("".join(f'"{line}"\n' for line in lines), "ascii")
        new = Path(found, "new")
        new.mkdir()
        options = [
            f"-max_total_time={seconds}",
            f"-seed={seed}",
            f"-dict={words}",
            f"-artifact_prefix={findings}/{name}-",
            "-timeout=20",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
        ]
        corpus = Path(__file__).parent / "corpus" / name
        arguments = [sys.argv[0], *options, str(new), str(corpus)]
        atheris.Setup(arguments, lambda data: check(name, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
