"""A definition with keys of its own is trained on exports of platforms and scores them, as it does plain tables of the same rows."""

import csv
import io
from pathlib import Path

import pytest

from producers.results.rejects import find_rejects
from producers.sample.exports.workbook import write_workbook
from shared.bucket.local import LocalBucket
from shared.catalog.manifests import ReleaseManifest
from shared.errors import TableError
from shared.jobs.folder import JobFolder
from shared.jobs.messages import TrainJob
from shared.records import decode_long
from tests.definitions import OWN_KEYS, drop_in
from tests.handmade import NOON, make_job, run_job, text_at
from tests.trainings import train
from workers.scoring import planning
from workers.scoring.plan import read_plan
from workers.tables.training.table import read_training_table

ROWS = 90
HEADER = ["keyword", "match_type", "price", "Klicks", "Conversions"]


def record(number: int) -> list:
    return [f"größe {number}, rot", ("broad", "phrase", "exact")[number % 3], number % 37 / 4, 1100 * (number % 3 + 1), number % 5]


def german(number: float) -> str:
    return f"{number:,.2f}".translate(str.maketrans(",.", ".,")) if isinstance(number, float) else f"{number:,}".replace(",", ".")


def report(ending: str) -> bytes:
    """An export with a title, thousands, a decimal comma and totals."""
    rows = [record(number) for number in range(ROWS)]
    total = ["Gesamt: Konto", "--", "--", sum(row[3] for row in rows), sum(row[4] for row in rows)]
    if ending == "xlsx":
        return write_workbook([["Bericht"], HEADER, *rows, total])
    text = io.StringIO()
    lines = [[*row[:2], german(float(row[2])), german(row[3]), german(row[4])] for row in rows]
    csv.writer(text, delimiter="\t").writerows([["Bericht"], HEADER, *lines, [*total[:3], german(total[3]), german(total[4])]])
    return text.getvalue().encode("utf-16")


def plain() -> bytes:
    text = io.StringIO()
    names = ["Clicks" if name == "Klicks" else name for name in HEADER]
    csv.writer(text, lineterminator="\n").writerows([names, *(record(number) for number in range(ROWS))])
    return text.getvalue().encode()


TABLES = {"data/plain.csv": plain(), "data/report.csv": report("csv"), "data/report.xlsx": report("xlsx")}
EXPORTS = ["data/report.csv", "data/report.xlsx"]


@pytest.fixture(scope="module")
def definitions(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("definitions")
    drop_in(folder, "text", OWN_KEYS)
    return folder


@pytest.fixture(scope="module")
def bucket(tmp_path_factory, definitions) -> LocalBucket:
    """With the same rows in three forms, and a release that was trained on the workbook."""
    bucket = LocalBucket(tmp_path_factory.mktemp("exports") / "bucket")
    for path, data in TABLES.items():
        bucket.write(path, data)
    job = TrainJob(job_id="20261123t120000z-train-1", created=NOON, definition="text", train="data/report.xlsx")
    folder = JobFolder(bucket, job.job_id)
    folder.create(job)
    assert train(folder, definitions).state == "done"
    return bucket


def score(bucket, definitions, table: str, minute: int, **more) -> JobFolder:
    folder = make_job(bucket, minute=minute, model="text", table=table, **more)
    assert run_job(folder, definitions).state == "done"
    return folder


@pytest.mark.parametrize("minute", range(len(EXPORTS)))
def test_an_export_gets_the_rates_of_the_plain_table(bucket, definitions, minute):
    expected = text_at(bucket, score(bucket, definitions, "data/plain.csv", 10 + minute).outcome().result)
    folder = score(bucket, definitions, EXPORTS[minute], 20 + minute, chunk_rows=17)
    assert len(read_plan(folder).chunks) == 6
    assert text_at(bucket, folder.outcome().result) == expected
    assert len(expected.splitlines()) == ROWS + 1


@pytest.mark.parametrize("path", EXPORTS)
def test_the_training_table_of_an_export_is_that_of_the_plain_table(bucket, path):
    read = {
        one: read_training_table(bucket, one, ["keyword", "price"], keys=("keyword", "match_type"), text=("keyword",))
        for one in ("data/plain.csv", path)
    }
    assert read[path].frame.equals(read["data/plain.csv"].frame)
    assert read[path].observations.clicks.tolist() == read["data/plain.csv"].observations.clicks.tolist()
    assert read[path].columns == read["data/plain.csv"].columns


def test_the_release_names_the_file_and_the_digest_of_the_export(bucket):
    [release] = bucket.folders("model/text")
    manifest = decode_long(ReleaseManifest, bucket.read(f"model/text/{release}/manifest.json"))
    assert list(manifest.tables["train"].files) == ["data/report.xlsx"]
    assert manifest.tables["train"].files["data/report.xlsx"].size == len(TABLES["data/report.xlsx"])


def test_a_reject_has_the_line_of_the_export(bucket, definitions):
    bucket.write("data/gap.csv", report("csv").decode("utf-16").replace("größe 7, rot\tphrase", "größe 7, rot\t--").encode("utf-16"))
    folder = score(bucket, definitions, "data/gap.csv", 30, max_reject_share=0.5)
    [found] = find_rejects(bucket, folder.job_id)[1]
    assert (found.line, found.column) == (10, "match_type")


def test_an_export_that_is_not_whole_is_refused_with_both_numbers(bucket):
    lines = report("csv").decode("utf-16").split("\r\n")
    bucket.write("data/cut.csv", "\r\n".join([*lines[:9], *lines[10:]]).encode("utf-16"))
    folder = make_job(bucket, minute=40, model="text", table="data/cut.csv")
    with pytest.raises(TableError, match=r"the rows of data/cut.csv have .* in Klicks, but its total on line 92 says"):
        planning.plan_job(folder)


def test_a_plain_table_that_lacks_a_column_is_refused_as_before(bucket):
    bucket.write("data/other.csv", b"keyword,price\na,1\n")
    folder = make_job(bucket, minute=41, model="text", table="data/other.csv")
    with pytest.raises(TableError, match=r"data/other.csv lacks the column match_type; it has keyword, price"):
        planning.plan_job(folder)
