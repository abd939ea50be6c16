"""A correction in a reject_ column alone corrects nothing, and the command warns of it at once."""

import contextlib
import gzip

import pyarrow as pa
import pytest
from click.testing import CliRunner

from producers.cli import root
from producers.results import rejects
from producers.results.uncorrected import warning_of_uncorrected
from shared.bucket.local import LocalBucket
from shared.jobs.folder import JobFolder
from shared.table_files import TEXT_FORMS, kind_of
from tests.handmade import TABLE, make_job, publish_handmade, row, run_job, write_table


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    return bucket


@pytest.fixture
def job(bucket) -> JobFolder:
    write_table(bucket, [row(0), "no-id" + row(1)[4:], *(row(number) for number in range(2, 5))])
    job = make_job(bucket, max_reject_share=0.5)
    run_job(job)
    return job


def test_only_a_row_that_holds_its_rejected_value_gives_a_warning(bucket, job, tmp_path):
    out = tmp_path / "fixed.csv"
    rejects.write_rows(bucket, rejects.find_rejects(bucket, job.job_id)[1], out)
    text = out.read_text()
    out.write_text(text.replace("no-id", "1001", 1))
    warning = f"1 row still holds the value that was rejected, the first on line 3 of {TABLE}: entity_id 'no-id'. "
    assert warning_of_uncorrected(bucket, job.job_id, str(out)).startswith(warning)
    said = CliRunner().invoke(
        root.scoring,
        ["score", str(out), "--fix", job.job_id, "--no-wait"],
        env={"BUCKET_URL": bucket.url, "REDIS_URL": "redis://localhost:1"},
    )
    assert warning in said.stderr
    before, right, after = text.rpartition("no-id")
    out.write_text(f"{before}1001{after}")
    assert right
    assert not warning_of_uncorrected(bucket, job.job_id, str(out))
    packed = tmp_path / "fixed.csv.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert warning_of_uncorrected(bucket, job.job_id, str(packed)).startswith(warning)
    bucket.write("fixed.csv", text.encode())
    assert warning_of_uncorrected(bucket, job.job_id, "fixed.csv").startswith(warning)


@pytest.mark.parametrize("ending", [".tsv", ".tsv.gz", ".csv.zst"])
def test_corrected_rows_of_every_text_format_are_looked_at(bucket, job, tmp_path, ending):
    form = TEXT_FORMS[kind_of(ending)]
    written = tmp_path / f"rows.{'tsv' if form.separator != ',' else 'csv'}"
    rejects.write_rows(bucket, rejects.find_rejects(bucket, job.job_id)[1], written)
    rows = tmp_path / f"packed{ending}"
    with pa.OSFile(str(rows), "wb") as raw, contextlib.ExitStack() as held:
        out = held.enter_context(pa.CompressedOutputStream(raw, form.compression)) if form.compression else raw
        out.write(written.read_bytes())
    assert warning_of_uncorrected(bucket, job.job_id, str(rows)).startswith(
        "1 row still holds the value that was rejected, the first on line 3"
    )


@pytest.mark.parametrize("text", ["", "reject_line\nx\n", "\x00", "a,b\n1\n"])
def test_a_file_that_cannot_be_read_gives_no_warning(bucket, job, tmp_path, text):
    (tmp_path / "fixed.csv").write_text(text)
    assert not warning_of_uncorrected(bucket, job.job_id, str(tmp_path / "fixed.csv"))
    assert not warning_of_uncorrected(bucket, job.job_id, "no-such.csv")
