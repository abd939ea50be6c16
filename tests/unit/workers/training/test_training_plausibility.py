"""No junk becomes a release by accident: what cannot be learned from is refused, and what is left out or cut is said with its clicks."""

import io
import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from producers.display import releases
from producers.releases import finding
from shared.bucket.local import LocalBucket
from shared.catalog.manifests import REPORT
from shared.errors import TableError
from shared.jobs.folder import Outcome
from tests.trainings import TRAIN, library_of, make_training, manifest_of, train
from workers.notices import delivery
from workers.tables.training.table import read_training_table
from workers.training.plausibility import warn_of_rates
from workers.training.search import steps

HEADER = "entity_id,device,att1,att2,Clicks,Conversions"
Row = tuple[object, object]


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    return LocalBucket(tmp_path / "bucket")


def rows(count: int, counts: Callable[[int], Row] = lambda number: (10, number % 3), first: int = 1) -> list[str]:
    return [f"{number},Computer,{number % 2},{number // 2 % 2},{clicks},{conversions}"
            for number in range(first, first + count) for clicks, conversions in [counts(number)]]  # fmt: skip


def write(bucket: LocalBucket, lines: list[str], path: str = TRAIN, header: str = HEADER) -> str:
    bucket.write(path, "\n".join([header, *lines, ""]).encode())
    return path


MINUTES = itertools.count()


def run(bucket: LocalBucket, **more: object) -> Outcome:
    return train(make_training(bucket, minute=next(MINUTES), **({"eval": None} | more)))


def refused(bucket: LocalBucket, **more: object) -> TableError:
    with pytest.raises(TableError) as caught:
        run(bucket, **more)
    assert caught.value.next_step
    assert "\n" not in str(caught.value)
    assert not bucket.folders("model")
    return caught.value


# --- numbers that are written for people


@pytest.mark.parametrize("column", ["Clicks", "Conversions"])
@pytest.mark.parametrize(
    "value", ["1,801", "1 801", "1'801", "1\u00a0801", "1.801.000", "1.801,5", "6.14%", "$5", "5 €", "(5)", "1_801", "1.8k"]
)
def test_a_number_that_is_written_for_people_is_refused_with_file_line_and_value(bucket, column, value):
    counts = (f'"{value}"', 90) if column == "Clicks" else (2000, f'"{value}"')
    write(bucket, [*rows(199), *rows(1, lambda _: counts, first=200)])
    error = refused(bucket)
    assert error.message == f"{TRAIN} line 201, column {column}: {value!r} is a number written for people, with a separator or a sign in it"
    assert "digits with at most one decimal point" in error.next_step


def test_it_is_refused_without_quotes_too_where_its_comma_makes_one_value_more(bucket):
    write(bucket, [*rows(299), "300,Computer,1,1,1,801,90"])
    assert refused(bucket).message.startswith(f"{TRAIN} line 301, '1,801' without quotes is a number written for people")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_in_a_folder_the_file_is_named(bucket, ending):
    write(bucket, rows(150), "data/parts/a.csv")
    frame = pd.read_csv(io.StringIO("\n".join([HEADER, *rows(150, first=200)])), dtype=str)
    frame.loc[49, "Clicks"] = "1,801"
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame), out)
    bucket.write(f"data/parts/b.{ending}", frame.to_csv(index=False).encode() if ending == "csv" else out.getvalue())
    line = 51 if ending == "csv" else 50
    assert refused(bucket, train="data/parts").message.startswith(f"data/parts/b.{ending} line {line}, column Clicks: '1,801' is a number")


def test_a_price_or_an_id_with_separators_is_refused_as_well(bucket):
    lines = [f"{number},Computer,{number * 7},10,{number % 3}" for number in range(1, 200)]
    for bad, column in (('200,Computer,"1,234.50",10,3', "price"), ('"12,345",Computer,8,10,3', "entity_id")):
        write(bucket, [*lines, bad], header="entity_id,device,price,Clicks,Conversions")
        assert refused(bucket).message.startswith(f"{TRAIN} line 201, column {column}: ")


def test_thousands_with_a_dot_are_refused_where_most_rows_have_whole_clicks(bucket):
    write(bucket, [*rows(198), *rows(2, lambda number: ("1.801", 1) if number == 200 else ("1.5", 1), first=199)])
    error = refused(bucket)
    assert error.message == f"{TRAIN} line 200: 1.5 clicks, where most rows have whole clicks: the dot seems to separate thousands"


def test_a_table_that_weights_its_rows_may_have_fractions_everywhere(bucket):
    write(bucket, rows(300, lambda number: (number % 7 + 1.125, number % 2)))
    assert "warning" not in run(bucket).facts


def test_a_few_other_fractions_are_warned_of(bucket):
    write(bucket, rows(300, lambda number: (10.5 if number == 9 else 10, number % 3)))
    assert run(bucket).facts["warning"] == f"{TRAIN} line 10: 10.5 clicks, where most rows have whole clicks"


@pytest.mark.parametrize("value", ["1e1", "1E+01", "10.0", " 10 ", "+10"])
def test_a_plain_number_in_another_form_is_read(bucket, value):
    write(bucket, rows(200, lambda number: (value if number == 7 else 10, number % 3)))
    table = read_training_table(bucket, TRAIN, None)
    assert (table.audit.clicks, table.fingerprint.rejected) == (2000.0, 0)


# --- what is left out is weighed


@pytest.mark.parametrize("value", ["--", " --", "-", "", "n/a", "< 10", "> 90%", "inf", "nan", "1e999"])
def test_a_row_whose_clicks_cannot_be_read_counts_as_the_mean_of_the_others(bucket, value):
    write(bucket, rows(200, lambda number: (value if number == 7 else 10, number % 3)))
    outcome = run(bucket)
    audit = manifest_of(bucket, outcome).audits["train"]
    assert (audit.clicks, audit.left_out_clicks) == (1990.0, 10.0)
    assert outcome.facts["rows left out of train"].startswith("1 of 200 with 0.5% of the clicks: line 8, column Clicks: ")


@pytest.mark.parametrize("bad", ["200,Computer,x,1,1801,90", "200,Phone,1,1,1801,90", "x,Computer,1,1,1801,90", "200,Computer,1,1,1801,--",
                                 "200,Computer,1,1,-1801,90", "200,Computer,1,1,1801,-1"])  # fmt: skip
def test_one_row_with_many_clicks_is_not_left_out_whatever_is_wrong_with_it(bucket, bad):
    write(bucket, [*rows(199), bad])
    error = refused(bucket)
    assert error.message.startswith(
        f"1 of 200 rows of {TRAIN} cannot be used to train, and they hold 47.5% of its clicks (allowed are 1%): line 201"
    )


def test_it_is_not_in_parquet_either(bucket):
    frame = pd.read_csv(io.StringIO("\n".join([HEADER, *rows(199), "200,Phone,1,1,1801,90"])))
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame), out)
    bucket.write("data/train.parquet", out.getvalue())
    assert "47.5% of its clicks" in refused(bucket, train="data/train.parquet").message


def test_in_a_folder_each_row_left_out_names_its_file(bucket):
    write(bucket, rows(150), "data/parts/a.csv")
    write(bucket, [*rows(150, first=200), "999,Phone,1,1,4,0"], "data/parts/b.csv")
    write(bucket, [*rows(10, first=400), "998,Computer,1,1,-2,0"], "data/parts/c.csv")
    facts = run(bucket, train="data/parts").facts
    assert facts["rows left out of train"].startswith(
        "2 of 312 with 0.2% of the clicks: b.csv line 152, column device: 'Phone' is not one of"
    )
    assert "c.csv line 12: it has a negative count" in facts["rows left out of train"]


def test_a_row_of_totals_that_is_no_keyword_is_left_out_and_reported(bucket):
    write(bucket, [*rows(199), "Total,,,,1990,198"])
    outcome = run(bucket)
    assert "1 of 200 with 0.0% of the clicks; 1 of them a row of totals" in outcome.facts["rows left out of train"]


# --- what cannot be as it stands


def test_a_row_of_totals_among_the_keywords_is_refused(bucket):
    lines = rows(199, lambda number: (number % 13 + 1, number % 3 if number % 13 > 2 else 0))
    clicks, conversions = (sum(int(line.split(",")[place]) for line in lines) for place in (4, 5))
    for totals in ([(clicks, conversions)], [(clicks, conversions), (clicks + 77, conversions + 9), (clicks, conversions)]):
        write(bucket, [*lines, *(f"{500 + place},Tablet,0,0,{one},{other}" for place, (one, other) in enumerate(totals))])
        error = refused(bucket)
        assert f"{clicks} clicks and its conversions are the sum of other rows, as in a row of totals" in error.message
        assert "Take the rows of totals out" in error.next_step


def test_clicks_and_conversions_that_are_exchanged_are_refused(bucket):
    write(bucket, rows(300, lambda number: (number % 3, 10)))
    error = refused(bucket)
    assert error.message.startswith(f"300 rows of {TRAIN} with 100.0% of its clicks have more conversions than clicks (allowed are 1%)")
    assert "line 2: 10 conversions of 1 click" in error.message
    assert "exchanged" in error.next_step
    assert "view-through" in error.next_step


def test_a_few_conversions_above_the_clicks_are_cut_and_reported(bucket):
    write(bucket, [*rows(600), "701,Computer,0,0,2,7", "702,Computer,0,0,0,4"])
    facts = run(bucket).facts
    assert facts["conversions cut in train"] == (
        "9 of 611 (1.47%), 4 of them in rows without clicks, in 2 rows with more conversions than clicks (0.03% of the clicks); "
        "the first: line 602: 7 conversions of 2 clicks"
    )


def test_conversions_on_rows_without_clicks_are_reported_with_the_first_of_them(bucket):
    write(bucket, [*rows(600), "701,Computer,0,0,0,4"])
    assert run(bucket).facts["conversions cut in train"] == (
        "4 of 604 (0.66%), 4 of them in rows without clicks, in 1 row with more conversions than clicks (0.00% of the clicks); "
        "the first: line 602: 4 conversions of 0 clicks"
    )


@pytest.mark.parametrize("kind", ["train", "eval"])
def test_a_table_with_many_conversions_on_rows_without_clicks_is_refused_unless_it_is_forced(bucket, kind):
    lines = [*rows(199), *rows(60, lambda _: (0, 5), 500)]
    path = write(bucket, lines, TRAIN if kind == "train" else "data/eval.csv")
    if kind == "eval":
        write(bucket, rows(300))
    more = {} if kind == "train" else {"eval": path}
    error = refused(bucket, **more)
    assert error.message == (
        f"60 rows of {path} with 60.1% of its conversions have no clicks (allowed are 1%); the first: line 201: 5 conversions of 0 clicks"
    )
    assert "view-through" in error.next_step
    assert "have no clicks" in run(bucket, force=True, **more).facts["forced"]


def test_keys_that_occur_twice_are_counted_and_reported(bucket):
    write(bucket, [*rows(300), *rows(2)])
    assert run(bucket).facts["keys twice in train"] == "2 rows have the keys, and the week, of a row before them"


# --- junk


JUNK = {
    "has no conversion in 3,000 clicks": rows(300, lambda _: (10, 0)),
    "has 99 clicks, fewer than the 100": rows(33, lambda number: (3, number % 2)),
    "is a conversion: the release would say 1": rows(300, lambda _: (2, 2)),
    "has the same rate, 0.5": rows(300, lambda number: (2 * (number % 4) + 2, number % 4 + 1)),
    "rows of": rows(300, lambda _: (1, 5)),
}


@pytest.mark.parametrize("says", JUNK)
def test_junk_is_refused_unless_it_is_forced_and_then_the_release_says_so(bucket, says):
    write(bucket, JUNK[says])
    error = refused(bucket)
    assert says in error.message
    assert error.next_step.endswith("To train all the same, add --force.")
    folder = make_training(bucket, eval=None, force=True, minute=next(MINUTES))
    outcome = train(folder)
    manifest = manifest_of(bucket, outcome)
    assert says in manifest.forced[0]
    assert outcome.facts["forced"].startswith("trained with --force, although ")
    assert says in delivery.compose(folder, outcome).facts["forced"]
    assert "trained with --force" in (bucket.read(f"{outcome.result}/{REPORT}") or b"").decode().lower()
    console = Console(file=io.StringIO(), width=200)
    releases.print_release(console, finding.find_release(bucket, outcome.release))
    assert says in console.file.getvalue()


def test_junk_of_a_prepared_table_counts_rows(bucket):
    header = "cr,entity_id,computer,smartphone,price"

    def prepared(count: int, rate: Callable[[int], float]) -> list[str]:
        return [f"{rate(number)},{number},1,0,{number % 5}" for number in range(count)]

    for lines, says in (
        (prepared(99, lambda number: number % 2 / 4), "has 99 rows, fewer than the 100"),
        (prepared(300, lambda _: 0), "has no conversion in 300 rows"),
        (prepared(300, lambda _: 1), "every one of the 300 rows"),
        (prepared(300, lambda _: 0.25), "has the same rate, 0.25"),
    ):
        write(bucket, lines, header=header)
        assert says in refused(bucket).message
    write(bucket, prepared(300, lambda number: number % 2 / 4), header=header)
    assert run(bucket).facts["warning"] == "trained on 300 rows alone: below 1,000 the rates are mostly chance"


def test_a_search_begins_on_no_junk(bucket):
    write(bucket, rows(300, lambda _: (10, 0)))
    folder = make_training(bucket, "v2", eval=None, config="params.yaml")
    bucket.write("params.yaml", b"search: grid\nfolds: 2\nparameters:\n  num_leaves: [15, 31]\n")
    with pytest.raises(TableError, match="has no conversion in 3,000 clicks"):
        steps.next_messages(folder, library_of(folder.bucket))


def test_few_clicks_are_warned_of_and_many_are_not(bucket):
    write(bucket, rows(90))
    assert run(bucket).facts["warning"].startswith("trained on 900 clicks alone: below 1,000")
    write(bucket, rows(900))
    assert "warning" not in run(bucket).facts


@pytest.mark.parametrize(
    ("counts", "says"),
    [(lambda _: (10, 0), "has no conversion in 3,000 clicks: no honest judgement"), (lambda n: (2, n % 2), "judged on 600 clicks alone")],
)
def test_a_table_to_judge_on_without_conversions_or_with_few_clicks_is_warned_of(bucket, counts, says):
    write(bucket, rows(900))
    judged = write(bucket, rows(300, counts), "data/eval.csv")
    outcome = run(bucket, eval=judged, promote="auto")
    assert says in outcome.facts["warning"]
    assert says in manifest_of(bucket, outcome).warnings[0]
    assert outcome.promotion is None


def test_a_table_to_judge_on_with_exchanged_columns_is_refused(bucket):
    write(bucket, rows(900))
    judged = write(bucket, rows(300, lambda number: (number % 3, 10)), "data/eval.csv")
    assert "have more conversions than clicks" in refused(bucket, eval=judged).message


def test_rates_outside_a_plausible_band_around_what_happened_are_warned_of(bucket):
    write(bucket, rows(900))
    judged = write(bucket, rows(900, lambda number: (30, number % 2)), "data/eval.csv")
    assert "more than 2 times apart" in run(bucket, eval=judged).facts["warning"]


def test_rates_of_exactly_0_or_1_for_many_clicks_are_warned_of(bucket):
    write(bucket, rows(900, lambda number: (10, number % 2 * 3)))
    table = read_training_table(bucket, TRAIN, None)
    rates = np.where(np.arange(900) < 270, 0.0, 0.2)
    assert list(warn_of_rates(table, rates)) == [f"its rate is exactly 0 for 30% of the clicks of {TRAIN}"]
    assert list(warn_of_rates(table, np.where(np.arange(900) < 90, 0.0, 0.2))) == []
