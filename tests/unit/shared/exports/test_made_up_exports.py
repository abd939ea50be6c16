"""Every made-up export of every platform, language and shape is read right."""

import csv
import functools
import io
import itertools

import numpy as np
import pytest

from producers.sample.exports.accounts import Account, make_account
from producers.sample.exports.platforms import COLUMNS, NAMES, TITLES
from producers.sample.exports.shapes import SHAPES, Shape
from producers.sample.exports.writing import export_bytes
from shared.exports.describing import describe_leaks, describe_outcomes, describe_reading
from shared.exports.known_names import Concept
from shared.exports.reading import read_export_bytes
from shared.exports.roles.inference import infer_roles
from shared.exports.roles.roles_file import ColumnRole, parse_roles, roles_text
from shared.exports.table import ExportTable

ROWS = 400
LANGUAGES = ("en", "de", "fr", "es")
EVERY = [(platform, language, shape) for platform, language in itertools.product(SHAPES, LANGUAGES) for shape in SHAPES[platform]]
every_export = pytest.mark.parametrize(
    ("platform", "language", "shape"), EVERY, ids=[f"{platform}.{language}.{shape.ending}" for platform, language, shape in EVERY]
)


@functools.cache
def account() -> Account:
    return make_account(ROWS, seed=4)


@functools.cache
def exported(platform: str, language: str, shape: Shape) -> bytes:
    return export_bytes(account(), platform, language, shape)


@functools.cache
def read(platform: str, language: str, shape: Shape) -> ExportTable:
    return read_export_bytes(exported(platform, language, shape), f"report.{shape.ending}")


def values(table: ExportTable, place: int) -> list[object]:
    return table.table.column(place).to_pylist()


@every_export
def test_a_made_up_export_is_read_with_all_its_numbers_and_names(platform, language, shape):
    table, truth = read(platform, language, shape), account()
    columns = [name for name in COLUMNS[platform] if not (shape.keyword_marks and name == "match_type")]
    place = {name: columns.index(name) + (1 if shape.keyword_marks and name != "term" else 0) for name in columns}

    assert len(table.lines) == ROWS
    assert values(table, place["term"]) == truth.term
    assert values(table, place["clicks"]) == truth.clicks.tolist()
    assert values(table, place["impressions"]) == truth.impressions.tolist()
    assert values(table, place["conversions"]) == truth.conversions.tolist()
    assert values(table, place["campaign"]) == truth.campaign
    np.testing.assert_allclose(np.array(values(table, place["cost"]), dtype=float), truth.cost_cents / 100)
    ctr = np.array(values(table, place["ctr"]), dtype=float)
    np.testing.assert_allclose(ctr, truth.clicks / truth.impressions, atol=5.1e-5)


@every_export
def test_the_missing_values_of_a_made_up_export_are_missing_and_its_bounds_are_numbers(platform, language, shape):
    table, truth = read(platform, language, shape), account()
    names = list(NAMES[platform][language])
    cpc = table.table[names[COLUMNS[platform].index("cpc")]].to_pylist()
    assert [value is None for value in cpc] == (truth.clicks == 0).tolist()
    if platform == "google-ads":
        share = np.array(table.table[names[COLUMNS[platform].index("share")]].to_pylist(), dtype=float)
        expected = np.where(truth.share < 0.1, 0.05, np.where(truth.share > 0.9, 0.95, truth.share))
        np.testing.assert_allclose(share, expected, atol=5.1e-5)


@every_export
def test_devices_of_every_language_are_the_same_categories(platform, language, shape):
    table = read(platform, language, shape)
    devices = table.named(Concept.DEVICE)
    if "device" not in COLUMNS[platform]:
        assert devices == []
        return
    expected = [("Computer", "Smartphone", "Tablet", "TV")[number] for number in account().device]
    assert table.table[devices[0]].to_pylist() == expected


@every_export
def test_the_totals_of_a_made_up_export_are_left_out_and_agree(platform, language, shape):
    table = read(platform, language, shape)
    if not shape.has_totals:
        assert table.totals.lines == []
        return
    clicks = table.named(Concept.CLICKS)[0]
    assert len(table.totals.lines) == 2
    assert table.totals.agreeing[clicks] == account().clicks.sum()
    assert len(table.totals.agreeing) >= 4


@every_export
def test_a_table_is_read_again_from_the_options_that_were_found(platform, language, shape):
    table = read(platform, language, shape)
    again = read_export_bytes(exported(platform, language, shape), f"report.{shape.ending}", table.read)
    assert again.table.equals(table.table)
    assert again.read == table.read
    first = TITLES[platform][language] if shape.has_titles else ()
    assert table.read.header_line == 1 + len(first) + shape.has_separator_line


@every_export
def test_the_roles_of_a_made_up_export_are_inferred_and_their_file_says_the_same(platform, language, shape):
    table = read(platform, language, shape)
    inferred = infer_roles(table)
    roles, names = inferred.roles, dict(zip(COLUMNS[platform], NAMES[platform][language], strict=True))
    keyword = table.names[0] if shape.keyword_marks else names["term"]

    assert roles.clicks == names["clicks"]
    assert roles.conversions == names["conversions"]
    assert roles.keyword == keyword
    assert keyword in roles.keys
    assert roles.columns[keyword] == ColumnRole.TEXT
    assert roles.columns[names["campaign"]] == roles.columns[names["ad_group"]] == ColumnRole.GROUP
    leaks = {name for name, role in roles.columns.items() if role == ColumnRole.LEAK}
    assert leaks == {names[name] for name in ("conversion_rate", "cost_per_conversion", "value", "acos") if name in names}
    assert roles.columns[names["cost"]] == roles.columns[names["ctr"]] == ColumnRole.NUMBER
    assert parse_roles(roles_text(roles, inferred.reasons).encode(), "report.roles.yaml") == roles
    assert all(inferred.reasons[name] for name in roles.columns)


def test_marks_of_keywords_become_a_match_type():
    shape = next(shape for shape in SHAPES["google-ads"] if shape.keyword_marks)
    table = read("google-ads", "en", shape)
    types = [("Exact", "Phrase", "Broad")[number] for number in account().match_type]
    assert table.names[:2] == ["Keyword", "Match type"]
    assert table.table["Match type"].to_pylist() == types


def test_ids_of_17_digits_stay_text():
    for shape in SHAPES["amazon-sp"]:
        ids = read("amazon-sp", "en", shape).table["Campaign ID"].to_pylist()
        assert ids == [str(10**16 + len(name)) for name in account().campaign]


def test_dates_of_a_workbook_are_the_days_that_it_shows():
    shape = SHAPES["amazon-sp"][-1]
    assert set(read("amazon-sp", "en", shape).table["Date"].to_pylist()) == {"2026-05-01"}


def test_the_reading_is_described_in_sentences():
    table = read("google-ads", "en", SHAPES["google-ads"][0])
    roles = infer_roles(table).roles
    clicks, conversions = account().clicks, account().conversions
    assert describe_reading(table) == (
        f"report.csv: utf-8, commas, header on line 3, {ROWS} rows, 2 rows of totals left out; "
        f"its own total says {clicks.sum():,} clicks as well."
    )
    assert describe_outcomes(table, roles) == f"{(clicks > 0).sum()} rows have clicks. All {conversions.sum():,} conversions count."
    assert describe_leaks(roles, "report.roles.yaml") == (
        "Conv. rate, Cost / conv. are left out: they are known only with the conversions. Correct this in report.roles.yaml."
    )


def test_equal_seeds_give_equal_bytes_and_the_truth_shows_in_many_rows():
    long = make_account(20_000, seed=4)
    assert long.term[:ROWS] == account().term
    assert abs(long.conversions.sum() / (long.clicks * long.cr).sum() - 1) < 0.03
    shape = SHAPES["google-ads"][-1]
    assert export_bytes(account(), "google-ads", "en", shape) == export_bytes(make_account(ROWS, seed=4), "google-ads", "en", shape)


def test_a_made_up_export_holds_the_traps_of_real_ones():
    text = exported("google-ads", "en", SHAPES["google-ads"][0]).decode()
    cells = [cell for record in csv.reader(io.StringIO(text)) for cell in record]
    for trap in (" --", "< 10%", "> 90%"):
        assert trap in cells
    assert any(cell.startswith("1,") and cell[2:].isdecimal() for cell in cells)
