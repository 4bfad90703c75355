"""Writing a report: three files in one pass over the records, of which none is kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from apixo_async._cli.report.page import Page
from apixo_async._cli.report.records import ItemRecord, RunFacts
from apixo_async._cli.report.replacing import replacing
from apixo_async._cli.report.rows import line, result
from apixo_async._cli.report.tally import ReportTally

RESULTS: Final = "results.jsonl"
REPORT: Final = "report.json"
PAGE: Final = "index.html"


def write_report(
    folder: Path, records: Iterable[ItemRecord], run: RunFacts
) -> Mapping[str, object]:
    """Write the three files into a folder, and return what `report.json` says.

    Each takes the place of an older one when it is whole, `report.json` last.

    Raises:
        ReportError: A file could not be written; its `filename` says which. What an earlier
            run left in its place is untouched.
    """
    tally = ReportTally()
    with ExitStack() as files:
        report = files.enter_context(replacing(folder / REPORT))
        results = files.enter_context(replacing(folder / RESULTS))
        page = Page(files.enter_context(replacing(folder / PAGE)), run.title)
        for record in records:
            tally.add(record)
            results.write(line(result(record)) + b"\n")
            page.add(record)
        document = tally.document(run)
        page.end(document, run.note)
        report.write(_for_people_too(document))
    return document


def _for_people_too(document: Mapping[str, object]) -> bytes:
    # Indented, but for the samples: hundreds of rows, which stand in one line at the end.
    plain = json.loads(line(document))
    samples = line(plain.pop("samples"))
    head = json.dumps(plain, ensure_ascii=False, indent=2).removesuffix("\n}")
    return head.encode("utf-8", "backslashreplace") + b',\n  "samples": ' + samples + b"\n}\n"
