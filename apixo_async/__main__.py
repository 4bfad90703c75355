"""Entry point of the `apixo` command, which is also `python -m apixo_async`."""

from __future__ import annotations

import sys

MISSING = (
    "apixo: the command needs typer and rich, which come with an extra: "
    "python -m pip install 'apixo-async[cli]'"
)


def main() -> int:
    """Run the command with the arguments of the process, and return its exit code."""
    try:
        from apixo_async._cli.app import run
    except ModuleNotFoundError as exc:
        if str(exc.name).partition(".")[0] not in ("typer", "rich"):
            raise
        sys.stderr.write(f"{MISSING}\n")
        return 2
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
