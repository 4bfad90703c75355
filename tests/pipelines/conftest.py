"""With the engines that `nox -s pipelines` installs; elsewhere, only the rows are tested here."""

from __future__ import annotations

from importlib.util import find_spec

NEEDED = ("ray", "daft", "dbos", "celery", "pandas", "polars")

ENGINES = ["test_rows_*.py", "test_ray.py", "test_daft.py"]

collect_ignore_glob = [] if all(map(find_spec, NEEDED)) else ENGINES
