"""The report as a whole: four files in one pass, from records that are never all in memory."""

from __future__ import annotations

import hashlib
import json
import random
import tracemalloc
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from apixo_async._cli.report.records import STATES, Failure, ItemRecord, ItemState
from apixo_async._cli.report.replacing import ReportError
from apixo_async._cli.report.write import FAILED, PAGE, REPORT, RESULTS, write_report

from ...support.records import failed, record, run, sample

NAMES = {RESULTS, FAILED, REPORT, PAGE}
#: Of what `test_same_bytes` writes: they change where the files do.
HASHES = {
    RESULTS: "f5ded13f9e16486d",
    FAILED: "ffee9f380e7b436c",
    REPORT: "609ff9e563d02207",
    PAGE: "d3a7ddec03460098",
}


def test_four_files_in_one_pass(tmp_path: Path) -> None:
    """An iterator that can be read but once is enough for all of them."""
    run_ = run(samples=[sample(0), sample(9, 2)], estimated=Decimal("0.07"))
    document = write_report(tmp_path, iter([record(1), failed(2)]), run_)
    results = (tmp_path / RESULTS).read_text("utf-8").splitlines()
    assert [json.loads(line)["state"] for line in results] == ["downloaded", "failed"]
    (again,) = (tmp_path / FAILED).read_text("utf-8").splitlines()
    assert json.loads(again)["_failure"]["category"] == "content"
    report = json.loads((tmp_path / REPORT).read_text("utf-8"))
    assert set(report) == set(document)
    assert list(report)[-1] == "samples"
    assert report["money"]["estimated"] == 0.07
    assert len(report["samples"]["rows"]) == 2
    assert "key-1" in (tmp_path / PAGE).read_text("utf-8")
    assert {path.name for path in tmp_path.iterdir()} == NAMES


@pytest.mark.parametrize(
    ("state", "category", "is_failed"),
    [
        ("failed", "timeout", True),
        ("unbought", "refused", True),
        ("unbought", "budget", False),
        ("unbought", "balance", False),
        ("uncertain", "uncertain", False),
        ("success", "download", False),
    ],
)
def test_which_rows_failed(
    state: ItemState, category: str, is_failed: bool, tmp_path: Path
) -> None:
    """A row that the same command tries again, or whose task may exist, is not given as failed."""
    write_report(tmp_path, [failed(state=state, failure=Failure(category, "X"))], run())
    assert bool((tmp_path / FAILED).read_text("utf-8")) is is_failed


def test_same_bytes(tmp_path: Path) -> None:
    """What a run comes to decides every byte of the four files."""
    rng = random.Random(0)
    records = []
    for number in range(1, 200):
        make = failed if (state := rng.choice(STATES)) == "failed" else record
        cost = rng.choice((None, Decimal(rng.randrange(999)) / 1000))
        prompt = rng.choice(("A fox", "<b>狐</b>", "\ud800 & 'more'"))
        fields = {"state": state, "cost": cost, "prompt": prompt, "duration": rng.random() * 99}
        records.append(make(number, **fields))
    samples = [sample(second, second // 2) for second in range(90)]
    write_report(tmp_path, records, run(samples=samples, estimated=Decimal("9.99")))
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {name: hashlib.sha256(b).hexdigest()[:16] for name, b in written.items()} == HASHES


def test_people_read_report_json_too(tmp_path: Path) -> None:
    """Its figures stand in a line each, its samples in one."""
    write_report(tmp_path, [record()], run(samples=[sample(0)] * 50, versions={"狐": "\ud800"}))
    text = (tmp_path / REPORT).read_text("utf-8")
    assert '\n    "total": 1,\n' in text
    assert '"狐": "\\ud800"' in text
    assert len(text.splitlines()) < 80


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("the journal is gone")])
def test_records_that_end_early_change_nothing(
    tmp_path: Path, error: BaseException | type[BaseException]
) -> None:
    """Ctrl-C or an error of the source in the middle leaves the report of before, whole."""
    write_report(tmp_path, [record(1)], run())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def broken() -> Iterator[ItemRecord]:
        yield record(2)
        raise error

    with pytest.raises(BaseException) as caught:  # noqa: PT011  # checked in the next line
        write_report(tmp_path, broken(), run())
    assert not isinstance(caught.value, ReportError)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    """The error names the one of the three that it is about; no draft stays behind."""
    (tmp_path / name / "inside").mkdir(parents=True)
    with pytest.raises(ReportError) as caught:
        write_report(tmp_path, [record()], run())
    assert caught.value.filename == str(tmp_path / name)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.heavy
def test_memory_does_not_grow_with_the_records(tmp_path: Path) -> None:
    """Twenty times as many records take no more memory."""

    def peak(count: int) -> int:
        tracemalloc.start()
        write_report(tmp_path, (record(number) for number in range(count)), run())
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(4_000)  # What caches of the standard library keep is full then.
    assert peak(4_000) < 1.1 * peak(200) + 50_000


def test_ten_thousand_records(tmp_path: Path) -> None:
    """The report of 10,000 items has each of them."""
    write_report(tmp_path, [record(number) for number in range(10_000)], run())
    assert len((tmp_path / "results.jsonl").read_text("utf-8").splitlines()) == 10_000


def test_a_disk_that_fills_up_in_the_middle(tmp_path: Path) -> None:
    """What the system no longer takes is an error of that file; the report of before stays."""
    resource = pytest.importorskip("resource")
    write_report(tmp_path, [record()], run())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, usual[1]))
    try:
        with pytest.raises(ReportError, match="the report was not written") as caught:
            write_report(tmp_path, map(record, range(5_000)), run())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert caught.value.filename == str(tmp_path / RESULTS)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
