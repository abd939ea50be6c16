"""The rejects of a job are listed and counted, and the rows that they are can be taken out, corrected and sent back."""

import csv
import gzip
import io
import json

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from model_store.library import ModelLibrary
from producers.cli import root
from producers.results import finding, rejects
from shared.bucket.local import LocalBucket
from shared.errors import RequestError, TableError
from shared.jobs.folder import JobFolder
from shared.jobs.messages import TrainJob
from tests.handmade import HEADER, NOON, PLACE, TABLE, make_job, plan, publish_handmade, row, run_job, text_at, write_table
from workers.scoring.chunks import chunk

SPOILED = {3: "1001,1,x,0,1.5,Computer", 8: "1006,0,1", 9: "1007,1,1,1,0.5,Watch"}
"""Line -> what stands there."""


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    return bucket


def lines() -> list[str]:
    return [SPOILED.get(line, row(line - 2)) for line in range(2, 42)]


def job_on(bucket: LocalBucket, path: str, *, minute: int = 0) -> JobFolder:
    folder = make_job(bucket, minute=minute, table=path, chunk_rows=6, max_reject_share=0.5)
    run_job(folder)
    return folder


def scoring(bucket: LocalBucket, *arguments: str) -> Result:
    return CliRunner().invoke(root.scoring, list(arguments), env={"BUCKET_URL": bucket.url})


def taken_out(bucket: LocalBucket, folder: JobFolder, tmp_path) -> list[list[str]]:
    out = tmp_path / "corrected.csv"
    _, found = rejects.find_rejects(bucket, folder.job_id)
    count = rejects.write_rows(bucket, found, out)
    rows = list(csv.reader(io.StringIO(out.read_text(), newline="")))
    assert len(rows) == count + 1
    return rows


def test_rejects_are_found_by_the_job_and_by_the_result(bucket):
    write_table(bucket, lines())
    folder = job_on(bucket, TABLE)
    by_job, of_job = rejects.find_rejects(bucket, folder.job_id)
    by_result, of_result = rejects.find_rejects(bucket, f"v1/{PLACE}")
    found = list(of_job)
    assert by_job == by_result == folder.job_id
    assert found == list(of_result)
    assert [(reject.file, reject.line, reject.column, reject.value) for reject in found] == [
        (TABLE, 3, "att2", "x"),
        (TABLE, 8, "", "1006,0,1"),
        (TABLE, 9, "device", "Watch"),
    ]


def test_a_result_without_rejects_has_none(bucket):
    write_table(bucket, [row(number) for number in range(5)])
    folder = job_on(bucket, TABLE)
    assert [list(rejects.find_rejects(bucket, wanted)[1]) for wanted in (folder.job_id, f"v1/{PLACE}")] == [[], []]
    assert f"Job {folder.job_id} has no rejects.\n" in scoring(bucket, "results", "rejects", folder.job_id).output


def test_the_next_step_of_a_done_job_names_its_rejects_if_it_has_any(bucket):
    write_table(bucket, lines())
    some = job_on(bucket, TABLE)
    assert some.outcome().next_step.endswith(f"; at its rejects with: scoring results rejects {some.job_id}")
    write_table(bucket, [row(number) for number in range(5)])
    none = job_on(bucket, TABLE, minute=1)
    assert none.outcome().next_step == f"Look at it with: scoring results head {none.job_id}"


def test_a_job_that_failed_or_still_runs_shows_what_it_has(bucket):
    write_table(bucket, lines())
    folder = make_job(bucket, chunk_rows=6)
    chunk.score_chunk(folder, plan(folder).chunk(1), ModelLibrary(folder.bucket, bucket.root))
    bucket.write(folder.part_file(5, "rejects.csv.gz"), b"half a part")
    assert [reject.line for reject in rejects.find_rejects(bucket, folder.job_id)[1]] == [8, 9]


def test_a_job_that_has_not_looked_at_all_its_chunks_says_so(bucket, tmp_path):
    write_table(bucket, lines())
    folder = make_job(bucket, chunk_rows=6)
    command, out = ("results", "rejects", folder.job_id), tmp_path / "corrected.csv"
    assert "has no rejects so far (0 of an unknown number of chunks have been examined)." in scoring(bucket, *command).output
    made = plan(folder)
    chunk.score_chunk(folder, made.chunk(3), ModelLibrary(folder.bucket, bucket.root))
    for _ in ("running", "cancelled"):
        assert "has no rejects so far (1 of 7 chunks have been examined)." in scoring(bucket, *command, "--rows", str(out)).output
        assert not out.exists()
        folder.cancel()
    folder.reopen()
    chunk.score_chunk(folder, made.chunk(1), ModelLibrary(folder.bucket, bucket.root))
    folder.fail(TableError("too many rejects"))
    for more in ((), ("--rows", str(out))):
        assert "Only 2 of 7 chunks have been examined: there may be more." in scoring(bucket, *command, *more).output
    assert len(out.read_text().splitlines()) == 3


def test_what_is_no_score_job_or_result_is_refused(bucket):
    train = TrainJob(job_id="20261123t120000z-train-abc", created=NOON, definition="v1", train="data/train.csv")
    JobFolder(bucket, train.job_id).create(train)
    for wanted, sentence in (
        (train.job_id, "is a train job"),
        ("v1/2001/01/01", "there is no result, job or channel v1/2001/01/01"),
        ("nothing-here", "there is no result, job or channel nothing-here"),
        ("nope", "there is no result, job or channel nope"),
        ("No Job", "there is no result, job or channel No Job"),
    ):
        for find in (rejects.find_rejects, finding.find_result):
            with pytest.raises(RequestError, match=sentence) as refused:
                find(bucket, wanted)
            assert "scoring results list" in refused.value.next_step


@pytest.mark.parametrize("kind", ["csv", "csv.gz"])
def test_rows_are_taken_out_as_they_stand(bucket, tmp_path, kind):
    path = f"{TABLE}.gz" if kind == "csv.gz" else TABLE
    text = "\ufeff" + "\n".join([HEADER, *lines(), ""])
    bucket.write(path, gzip.compress(text.encode()) if kind == "csv.gz" else text.encode())
    rows = taken_out(bucket, job_on(bucket, path), tmp_path)
    assert rows[0] == ["reject_file", "reject_line", "reject_column", "reject_value", "reject_reason", *HEADER.split(",")]
    assert [row[2:5] for row in rows[1:]] == [
        ["att2", "x", "not 0 or 1"],
        ["", "1006,0,1", "the record has 3 values, the header 6"],
        ["device", "Watch", "not one of Computer, Smartphone, Tablet, 0, 1, 2"],
    ]
    assert [row[:2] + row[5:] for row in rows[1:]] == [
        [path, "3", *SPOILED[3].split(",")],
        [path, "8", "1006", "0", "1", "", "", ""],
        [path, "9", *SPOILED[9].split(",")],
    ]


def test_rows_of_a_parquet_file_are_taken_out(bucket, tmp_path):
    frame = pd.DataFrame([row(number).split(",") for number in range(40)], columns=HEADER.split(","))
    frame.loc[[4, 30], "device"] = ["Watch", None]
    out = io.BytesIO()
    frame.to_parquet(out, row_group_size=7)
    bucket.write("data/table.parquet", out.getvalue())
    rows = taken_out(bucket, job_on(bucket, "data/table.parquet"), tmp_path)
    assert [row[1] for row in rows[1:]] == ["5", "31"]
    assert [row[5] for row in rows[1:]] == ["1004", "1030"]
    assert [row[-1] for row in rows[1:]] == ["Watch", ""]


def test_rows_of_several_files_are_taken_out_unless_their_columns_differ(bucket, tmp_path):
    write_table(bucket, lines()[:20], "data/two/a.csv")
    write_table(bucket, ["x" + row(3)], "data/two/b.csv")
    rows = taken_out(bucket, job_on(bucket, "data/two"), tmp_path)
    assert [tuple(row[:2]) for row in rows[1:]] == [
        ("data/two/a.csv", "3"),
        ("data/two/a.csv", "8"),
        ("data/two/a.csv", "9"),
        ("data/two/b.csv", "2"),
    ]
    bucket.write("data/three/a.csv", bucket.read("data/two/a.csv"))
    bucket.write("data/three/b.csv", f"more,{HEADER}\n1,x{row(3)}\n".encode())
    _, found = rejects.find_rejects(bucket, job_on(bucket, "data/three", minute=1).job_id)
    with pytest.raises(TableError, match=r"data/three/b.csv has other columns than data/three/a.csv"):
        rejects.write_rows(bucket, found, tmp_path / "other.csv")


def test_a_value_over_several_lines_is_taken_out_whole_and_a_stray_quote_line_by_line(bucket, tmp_path):
    header = f"remark,{HEADER}"
    good = [f"fine,{row(number)}" for number in range(6)]
    bucket.write("data/long.csv", "\n".join([header, good[0], f'"over\ntwo lines",{row(1)[:-6]}Watch', *good[2:], ""]).encode())
    rows = taken_out(bucket, job_on(bucket, "data/long.csv"), tmp_path)
    assert [(row[1], row[5]) for row in rows[1:]] == [("3", "over\ntwo lines")]
    (tmp_path / "corrected.csv").unlink()
    bucket.write("data/stray.csv", "\n".join([header, *good[:2], f'"{good[2]}', f'"{good[3]}', *good[4:], ""]).encode())
    rows = taken_out(bucket, job_on(bucket, "data/stray.csv", minute=1), tmp_path)
    assert [row[1] for row in rows[1:]] == ["4", "5"]


def test_nothing_is_written_over_and_a_table_that_is_gone_is_named(bucket, tmp_path):
    write_table(bucket, lines())
    folder = job_on(bucket, TABLE)
    there = tmp_path / "there.csv"
    there.write_text("mine")
    for out, sentence in ((there, "is there already"), (tmp_path / "no folder" / "x.csv", "cannot be written")):
        with pytest.raises(RequestError, match=sentence):
            rejects.write_rows(bucket, rejects.find_rejects(bucket, folder.job_id)[1], out)
    assert there.read_text() == "mine"
    bucket.delete(TABLE)
    with pytest.raises(TableError, match=f"the table {TABLE} is gone"):
        rejects.write_rows(bucket, rejects.find_rejects(bucket, folder.job_id)[1], tmp_path / "new.csv")


@pytest.mark.parametrize("is_removed", [False, True])
def test_a_table_that_is_replaced_or_removed_while_its_rows_are_taken_out_is_refused(bucket, tmp_path, monkeypatch, is_removed):
    write_table(bucket, lines())
    folder = job_on(bucket, TABLE)
    _, found = rejects.find_rejects(bucket, folder.job_id)
    really = rejects._values

    def meanwhile(text: str, separator: str) -> list[str]:
        if is_removed:
            bucket.delete(TABLE)
        else:
            bucket.write(TABLE, (bucket.root / TABLE).read_bytes())
        return really(text, separator)

    monkeypatch.setattr(rejects, "_values", meanwhile)
    with pytest.raises(TableError, match=f"{TABLE} was changed or removed while it was read"):
        rejects.write_rows(bucket, found, tmp_path / "new.csv")
    assert not (tmp_path / "new.csv").exists()


def test_what_is_taken_out_and_corrected_fixes_the_job(bucket, tmp_path):
    write_table(bucket, [row(number) for number in range(40)], "data/right.csv")
    expected = text_at(bucket, run_job(make_job(bucket, table="data/right.csv")).result)
    write_table(bucket, lines())
    folder = job_on(bucket, TABLE, minute=1)
    rows = taken_out(bucket, folder, tmp_path)
    corrected = io.StringIO()
    csv.writer(corrected).writerows([rows[0], *([*head[:5], *row(int(head[1]) - 2).split(",")] for head in rows[1:])])
    bucket.write("fix.csv", corrected.getvalue().encode())
    fix = make_job(bucket, minute=2, table=TABLE, fixes=folder.job_id, fixed_rows="fix.csv")
    assert text_at(bucket, run_job(fix).result) == expected


def test_the_command_counts_the_reasons_shows_the_first_and_says_how_to_go_on(bucket, tmp_path):
    write_table(bucket, lines())
    folder = job_on(bucket, TABLE)
    said = scoring(bucket, "results", "rejects", folder.job_id, "-n", "2").output
    assert "1        att2    not 0 or 1" in said
    assert "Watch" not in said
    assert "and 1 more" in said
    assert f"scoring results rejects {folder.job_id} --rows FILE" in said
    data = json.loads(scoring(bucket, "results", "rejects", f"v1/{PLACE}", "--json").output)
    assert [reject["line"] for reject in data] == [3, 8, 9]
    out = tmp_path / "corrected.csv"
    assert f"scoring score {out} --fix {folder.job_id}" in scoring(bucket, "results", "rejects", folder.job_id, "--rows", str(out)).output


def test_a_parquet_row_with_booleans_can_be_fixed(bucket, tmp_path):
    frame = pd.DataFrame([row(number).split(",") for number in range(20)], columns=HEADER.split(","))
    for name in ("att1", "att2", "att3"):
        frame[name] = frame[name] == "1"
    frame["length"] = frame["length"].astype(float)
    frame["entity_id"] = frame["entity_id"].astype(int)
    out = io.BytesIO()
    frame.to_parquet(out)
    bucket.write("data/right.parquet", out.getvalue())
    expected = text_at(bucket, run_job(make_job(bucket, table="data/right.parquet")).result)
    frame.loc[7, "device"] = "Watch"
    out = io.BytesIO()
    frame.to_parquet(out)
    bucket.write("data/table.parquet", out.getvalue())
    folder = job_on(bucket, "data/table.parquet", minute=1)
    taken_out(bucket, folder, tmp_path)
    bucket.write("fix.csv", (tmp_path / "corrected.csv").read_bytes().replace(b"Watch", b"Smartphone"))
    fix = make_job(bucket, minute=2, table="data/table.parquet", fixes=folder.job_id, fixed_rows="fix.csv")
    assert text_at(bucket, run_job(fix).result) == expected


def test_a_row_with_a_field_of_any_length_is_taken_out(bucket, tmp_path):
    write_table(bucket, [row(0), "9" * 200_000, row(2)])
    rows = taken_out(bucket, job_on(bucket, TABLE), tmp_path)
    assert [len(rows[1][5]), rows[1][1]] == [200_000, "3"]


def test_damaged_rejects_are_named_and_leave_no_file(bucket, tmp_path):
    write_table(bucket, lines())
    folder = job_on(bucket, TABLE)
    bucket.write(folder.part_file(1, "rejects.csv.gz"), b"no gzip")
    out = tmp_path / "corrected.csv"
    for _ in range(2):
        with pytest.raises(TableError, match=r"0000001\.rejects\.csv\.gz is damaged"):
            rejects.write_rows(bucket, rejects.find_rejects(bucket, folder.job_id)[1], out)
    write_table(bucket, [f"x{row(3)}"], "data/two/a.csv")
    bucket.write("data/two/b.csv", f"more,{HEADER}\n1,x{row(3)}\n{row(4)}\n".encode())
    with pytest.raises(TableError):
        rejects.write_rows(bucket, [rejects.Rejected(file="data/gone.csv", line=2, column="", value="", reason="")], out)
    assert not out.exists()


@pytest.mark.parametrize("value", ["=HYPERLINK(1)", "+1+x", "-2-x", "@SUM(1)"])
def test_what_a_spreadsheet_takes_for_a_formula_is_disarmed_but_in_the_tables_own_columns(bucket, tmp_path, value):
    write_table(bucket, [*lines(), f"{value},0,0,0,1,Tablet"])
    folder = job_on(bucket, TABLE)
    header, *rows = taken_out(bucket, folder, tmp_path)
    [row] = [dict(zip(header, row, strict=True)) for row in rows if value in row]
    assert row["reject_value"] == f"'{value}"
    assert row["entity_id"] == value


def test_only_the_beginning_of_a_value_makes_a_formula():
    assert [rejects.disarmed(text) for text in ("\t=1", "\r1", "a=b", "", "1", "'=1")] == ["'\t=1", "'\r1", "a=b", "", "1", "'=1"]
