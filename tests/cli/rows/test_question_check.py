"""A first reading adds up rows, prices, faults and doubts."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from apixo_async import ConfigurationError
from apixo_async._cli.rows.question import DOUBTS_SHOWN, SHOWN, PriceGroup, check
from apixo_async._cli.rows.rows import Defaults, ParsedRow, Rows, open_rows
from apixo_async._cli.rows.source import Problem

MIXED = """\
model,prompt,num_images,resolution,key
gpt-image-2,a,,1k,
gpt-image-2,a,,1k,
gpt-image-2,b,,4k,x
gpt-image-1,c,2,,y
sora-2,d,,,
gpt-image-2,e,,,
"""


def rows_in(folder: Path, text: str, name: str = "a.csv", model: str | None = None) -> Rows:
    """Open the rows of a file with this text."""
    path = folder / name
    path.write_text(text)
    return open_rows(str(path), out=folder, defaults=Defaults(model))


def test_rows_are_added_up_by_what_makes_their_price(tmp_path: Path) -> None:
    """Rows of one model and one option are a group; identical rows count each."""
    report = check(rows_in(tmp_path, MIXED))
    assert report.groups == (
        PriceGroup("gpt-image-1", "num_images 2", Decimal("0.70"), 1),
        PriceGroup("gpt-image-2", "resolution 1k", Decimal("0.02"), 3),
        PriceGroup("gpt-image-2", "resolution 4k", Decimal("0.04"), 1),
        PriceGroup("sora-2", "", None, 1),
    )
    assert (report.rows, report.bought, report.to_buy, report.bad) == (6, 0, 6, 0)
    assert report.total == Decimal("0.80")
    assert report.unpriced == {"sora-2": 1}
    assert report.name == str(tmp_path / "a.csv")


def test_a_given_price_counts_where_none_is_known(tmp_path: Path) -> None:
    """A price from the command line fills a gap, and changes nothing else."""
    report = check(rows_in(tmp_path, MIXED))
    priced = report.priced({"sora-2": Decimal("0.5"), "gpt-image-2": Decimal(9)})
    assert priced.total == Decimal("1.30")
    assert priced.unpriced == {}
    assert report.priced({}) == report


def test_what_is_bought_already_costs_nothing(tmp_path: Path) -> None:
    """The journal is asked once for each row, in their order, and no other."""
    asked: list[str | None] = []

    def is_bought(row: ParsedRow) -> bool:
        asked.append(row.key)
        return row.input.model == "gpt-image-1" or len(asked) == 1

    report = check(rows_in(tmp_path, MIXED), is_bought=is_bought)
    assert asked == [None, None, "x", "y", None, None]
    assert (report.rows, report.bought, report.to_buy) == (6, 2, 4)
    assert report.total == Decimal("0.08")


def test_a_column_that_is_no_field_is_found_once(tmp_path: Path) -> None:
    """However many rows have it, it is named once, with the first of them and its model."""
    text = ",prompt,note\n" + "".join(f"{n},fox {n},dusk\n" for n in range(50))
    report = check(rows_in(tmp_path, text, model="gpt-image-2"))
    assert report.unknown == {"Unnamed: 0": (2, "gpt-image-2"), "note": (2, "gpt-image-2")}
    assert (report.rows, report.bad) == (50, 0)


def test_what_the_journal_refuses_is_a_bad_row(tmp_path: Path) -> None:
    """A row whose key is another's in the journal is named by its line, and costs nothing."""

    def is_bought(row: ParsedRow) -> bool:
        if row.key == "x":
            raise ConfigurationError("the key of another")
        return False

    report = check(rows_in(tmp_path, MIXED), is_bought=is_bought)
    assert report.problems == (Problem(4, "the key of another"),)
    assert (report.rows, report.bad, report.total) == (5, 1, Decimal("0.76"))


def test_the_first_bad_rows_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    """A file that is wrong throughout fills neither screen nor memory."""
    report = check(rows_in(tmp_path, "{\n" * 50, "a.jsonl"))
    assert report.bad == 50
    assert [problem.line for problem in report.problems] == [*range(1, SHOWN + 1)]
    assert (report.rows, report.groups) == (0, ())


def test_a_key_names_one_row(tmp_path: Path) -> None:
    """A second row under a key is bad, and told where the first one is."""
    text = "prompt,key\na,k\nb,j\nc,k\nd,k\n"
    report = check(rows_in(tmp_path, text, model="gpt-image-2"))
    again = "key: 'k' is the key of line 2 already; a key names one row"
    assert report.problems == (Problem(4, again), Problem(5, again))
    assert report.rows == 2


def test_the_first_doubts_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    """What may be a mistake is told by line, and stops nothing."""
    text = "prompt,aspect_ratio\n" + "x,5:4\n" * 9
    report = check(rows_in(tmp_path, text, model="flux-kontext"))
    assert (report.rows, report.doubtful) == (9, 9)
    assert [doubt.line for doubt in report.doubts] == [*range(2, DOUBTS_SHOWN + 2)]
    assert report.doubts[0].why.startswith("aspect_ratio: '5:4'")


def test_an_empty_file_is_no_rows(tmp_path: Path) -> None:
    """Nothing is neither good nor bad."""
    report = check(rows_in(tmp_path, "", model="sora-2"))
    assert (report.rows, report.bad, report.total, report.unpriced) == (0, 0, Decimal(0), {})
