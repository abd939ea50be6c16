"""Fixed rows take the place of rejects, and the result is the text that the right table would have given."""

import csv
import gzip
import io
import json
import os

import pandas as pd
import pytest

from model_store.library import ModelLibrary
from shared.bucket.local import LocalBucket
from shared.errors import PermanentError, RequestError, TableError
from shared.jobs.folder import JobFolder
from shared.prediction_index import open_index
from tests.handmade import (
    HEADER,
    TABLE,
    make_job,
    plan,
    publish_handmade,
    replace_in_place,
    row,
    run_job,
    score_chunks,
    text_at,
    write_table,
)
from workers.scoring import planning, publishing
from workers.scoring.chunks import chunk
from workers.scoring.fixes import fixed_rows
from workers.scoring.parts import read_part
from workers.scoring.plan import read_plan
from workers.tables import rows as table_rows
from workers.tables.parquet import cuts

ROWS = 40
BAD = {4: "1003,1,x,0,1.5,Computer", 5: "1004,0,0,1,1.0,Watch", 17: "1015,1,1,1,nan,Smartphone", 40: "no id,0,0,0,0.5,Tablet"}
"""Line of the table -> what stands there instead of the right row."""

FIXED = "fixed.csv"


def right_lines() -> list[str]:
    return [row(number) for number in range(ROWS)]


def bad_lines() -> list[str]:
    return [BAD.get(line, text) for line, text in enumerate(right_lines(), 2)]


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    return bucket


def put_table(bucket: LocalBucket, kind: str, lines: list[str], name: str) -> str:
    """A table with these lines as a file or folder of this kind."""
    path = f"data/{name}"
    if kind == "csv":
        return write_table(bucket, lines, f"{path}.csv")
    if kind == "csv.gz":
        bucket.write(f"{path}.csv.gz", gzip.compress("\n".join([HEADER, *lines, ""]).encode()))
        return f"{path}.csv.gz"
    if kind == "folder":
        for part, start in enumerate((0, 10, 25)):
            end = (10, 25, ROWS)[part]
            write_table(bucket, lines[start:end], f"{path}/{part}.csv")
        return path
    frame = pd.DataFrame([line.split(",") for line in lines], columns=HEADER.split(","))
    out = io.BytesIO()
    frame.to_parquet(out, row_group_size=15)
    bucket.write(f"{path}.parquet", out.getvalue())
    return f"{path}.parquet"


def rejected(bucket: LocalBucket, folder: JobFolder) -> list[tuple[str, int]]:
    """File and line of every reject of a job."""
    found = []
    for index in sorted(folder.parts_with_rejects()):
        text = gzip.decompress(bucket.read(folder.part_file(index, "rejects.csv.gz"))).decode()
        found += [(file, int(line)) for file, line, *_ in csv.reader(io.StringIO(text))]
    return found


def fix(bucket: LocalBucket, earlier: JobFolder, rows: dict[tuple[str, int], str], *, minute: int = 30, header: str = HEADER) -> JobFolder:
    """The folder of a new job that fixes another one with these rows, by file and line."""
    path = f"{minute}-{FIXED}"
    lines = [
        f"reject_file,reject_line,reject_reason,{header}",
        *(f"{file},{line},whatever,{text}" for (file, line), text in rows.items()),
        "",
    ]
    bucket.write(path, "\n".join(lines).encode())
    job = earlier.score_job()
    return make_job(bucket, minute=minute, table=job.table, fixes=earlier.job_id, fixed_rows=path, max_reject_share=0.5)


def right_row(file: str, line: int) -> str:
    """The right text of a row that is line ``line`` of ``file``; a Parquet file counts rows and no header."""
    before = {"0.csv": 0, "1.csv": 10, "2.csv": 25}.get(file.rpartition("/")[2], 0)
    return right_lines()[before + line - (1 if file.endswith(".parquet") else 2)]


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "folder", "parquet", "parquet, read in ranges"])
def test_a_fixed_table_gives_the_text_of_the_right_one(bucket, kind, monkeypatch):
    if "ranges" in kind:
        monkeypatch.setattr(cuts, "MAX_VALUES_BYTES", 2 * 6 * cuts.TEXT_BYTES)
    expected = text_at(bucket, run_job(make_job(bucket, table=put_table(bucket, kind, right_lines(), "right"))).result)
    spoiled = put_table(bucket, kind, bad_lines(), "spoiled")
    earlier = make_job(bucket, minute=1, table=spoiled, chunk_rows=6, max_reject_share=0.5)
    run_job(earlier)
    found = rejected(bucket, earlier)
    assert len(found) == len(BAD)
    folder = fix(bucket, earlier, {place: right_row(*place) for place in found})
    outcome = run_job(folder)
    assert text_at(bucket, outcome.result) == expected
    assert outcome.facts["fixes"] == earlier.job_id
    assert (outcome.facts["scored"], outcome.facts["rejected"]) == ("40", "0")
    manifest = json.loads(bucket.read(f"{outcome.result}/manifest.json"))
    assert (manifest["job_id"], manifest["fixes"], manifest["rejects"]) == (folder.job_id, earlier.job_id, None)
    assert manifest["fixed_rows"]["size"] == len(bucket.read(f"30-{FIXED}"))
    assert not bucket.exists(f"{outcome.result}/rejects.csv.gz")


def test_a_fixed_row_keeps_its_clicks_also_in_a_fix_of_the_fix(bucket):
    header = f"{HEADER},Clicks"
    lines = [f"{text},{line}" for line, text in enumerate(bad_lines(), 2)]
    bucket.write("data/clicks.csv", "\n".join([header, *lines, ""]).encode())
    first = make_job(bucket, minute=1, table="data/clicks.csv", chunk_rows=6, max_reject_share=0.5)
    run_job(first)
    found = rejected(bucket, first)
    fixed = {place: f"{right_row(*place)},{place[1]}" for place in found}
    some = fix(bucket, first, dict(list(fixed.items())[1:]), header=header)
    clicks = clicks_of(bucket, some, run_job(some))
    assert clicks == {line: line for line in range(2, ROWS + 2) if line != found[0][1]}
    (file, line), *_ = found
    last = fix(bucket, some, {(file, line): f"{right_row(file, line)},no number"}, minute=31, header=header)
    assert clicks_of(bucket, last, run_job(last)) == clicks | {line: 0}
    # without the column
    without = fix(bucket, first, {place: right_row(*place) for place in found}, minute=32)
    others = clicks_of(bucket, without, run_job(without))
    assert others == {line: line for line in range(2, ROWS + 2)} | {line: 0 for _, line in found}


def clicks_of(bucket: LocalBucket, folder: JobFolder, outcome) -> dict[int, float]:
    """Line of the table -> clicks in the index of a result."""
    index = open_index(bucket, f"{outcome.result}/revisions/{folder.job_id}/prediction_index.arrow")
    rows = index.at(0, index.rows)
    return dict(zip(rows.line.tolist(), rows.clicks.tolist(), strict=True))


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "folder", "parquet"])
def test_a_job_whose_parts_were_removed_is_fixed_all_the_same_and_so_is_its_fix(bucket, kind):
    expected = text_at(bucket, run_job(make_job(bucket, table=put_table(bucket, kind, right_lines(), "right"))).result)
    earlier = make_job(bucket, minute=1, table=put_table(bucket, kind, bad_lines(), "spoiled"), chunk_rows=6, max_reject_share=0.5)
    run_job(earlier)
    found = rejected(bucket, earlier)
    bucket.delete_folder(earlier.file("parts"))
    first = fix(bucket, earlier, {place: right_row(*place) for place in found[:2]})
    assert run_job(first).facts["rejected"] == "2"
    bucket.delete_folder(first.file("parts"))
    second = fix(bucket, first, {place: right_row(*place) for place in found[2:]}, minute=31)
    outcome = run_job(second)
    assert text_at(bucket, outcome.result) == expected
    assert bucket.folders(second.path) == ["fixes", "parts"]


def test_rows_that_are_no_rejects_are_refused_also_when_the_parts_were_removed(bucket):
    earlier = make_job(bucket, table=put_table(bucket, "csv", bad_lines(), "spoiled"), chunk_rows=6, max_reject_share=0.5)
    run_job(earlier)
    bucket.delete_folder(earlier.file("parts"))
    folder = fix(bucket, earlier, {("data/spoiled.csv", 6): right_row("", 6)})
    with pytest.raises(TableError, match=r"fixes line 6 of data/spoiled\.csv, which is not a reject"):
        plan(folder)


def test_chunks_without_a_fixed_row_are_taken_over_and_not_scored_again(bucket):
    earlier = make_job(bucket, table=put_table(bucket, "csv", bad_lines(), "spoiled"), chunk_rows=6, max_reject_share=0.5)
    run_job(earlier)
    folder = fix(bucket, earlier, {("data/spoiled.csv", 17): right_row("", 17)})
    plan(folder)
    assert folder.parts_done() == {0, 1, 3, 4, 5, 6}
    run_job(folder)
    assert [index for index in range(7) if read_part(folder, index) != read_part(earlier, index)] == [2]


def test_rejects_that_are_not_fixed_and_rows_that_are_still_wrong_stay_rejects(bucket):
    earlier = make_job(bucket, table=put_table(bucket, "csv", bad_lines(), "spoiled"), chunk_rows=6, max_reject_share=0.5)
    run_job(earlier)
    folder = fix(bucket, earlier, {("data/spoiled.csv", 4): right_row("", 4), ("data/spoiled.csv", 17): "1015,1,2,1,0.25,Smartphone"})
    outcome = run_job(folder)
    text = gzip.decompress(bucket.read(f"{outcome.result}/rejects.csv.gz")).decode().splitlines()[1:]
    assert text == [
        'data/spoiled.csv,5,device,Watch,"not one of Computer, Smartphone, Tablet, 0, 1, 2"',
        "data/spoiled.csv,17,att2,2,not 0 or 1",
        "data/spoiled.csv,40,entity_id,no id,not a whole number",
    ]
    assert (outcome.facts["scored"], outcome.facts["rejected"]) == ("37", "3")


def test_a_fix_can_be_fixed_again(bucket):
    expected = text_at(bucket, run_job(make_job(bucket, table=put_table(bucket, "csv.gz", right_lines(), "right"))).result)
    table = put_table(bucket, "csv.gz", bad_lines(), "spoiled")
    earlier = make_job(bucket, minute=1, table=table, chunk_rows=6, max_reject_share=0.5)
    run_job(earlier)
    first = fix(bucket, earlier, {(table, 4): right_row("", 4), (table, 17): "1015,1,2,1,0.25,Smartphone"}, minute=30)
    run_job(first)
    second = fix(bucket, first, {(table, 5): right_row("", 5), (table, 17): right_row("", 17)}, minute=40)
    run_job(second)
    third = fix(bucket, second, {(table, 40): right_row("", 40)}, minute=50)
    assert text_at(bucket, run_job(third).result) == expected


def test_a_job_that_failed_for_its_rejects_can_be_fixed(bucket):
    table = put_table(bucket, "csv.gz", bad_lines(), "spoiled")
    earlier = make_job(bucket, table=table, chunk_rows=6)
    made = plan(earlier)
    for index in (0, 2):  # it failed early: the other chunks were never scored
        chunk.score_chunk(earlier, made.chunk(index), ModelLibrary(earlier.bucket, bucket.root))
    earlier.fail(TableError("too many rejects"))
    folder = fix(bucket, earlier, {(table, line): right_row("", line) for line in (4, 5, 17)})
    outcome = run_job(folder)
    assert (outcome.facts["scored"], outcome.facts["rejected"]) == ("39", "1")


def test_a_row_whose_prediction_was_refused_is_not_scored_again_and_a_fixed_one_is(bucket, monkeypatch):
    earlier = make_job(bucket, table=put_table(bucket, "csv", right_lines(), "right"), chunk_rows=6, max_reject_share=0.5)
    real = chunk.predict

    def spoiled(release, rows, **how):
        scored = real(release, rows, **how)
        wrong = scored.keys[0] == 1007
        if not wrong.any():
            return scored
        return real(release, table_rows.reject_rows(rows, wrong, scored.cr, "the prediction is not a finite number"), **how)

    monkeypatch.setattr(chunk, "predict", spoiled)
    run_job(earlier)
    assert rejected(bucket, earlier) == [("data/right.csv", 9)]
    seen = []
    monkeypatch.setattr(
        chunk, "predict", lambda release, rows, **how: seen.extend(rows.frame["entity_id"].tolist()) or real(release, rows, **how)
    )
    outcome = run_job(fix(bucket, earlier, {("data/right.csv", 9): "2007,1,1,1,0.5,Tablet"}))
    assert 1007 not in seen
    assert ["2007,2" in line for line in text_at(bucket, outcome.result).splitlines()].index(True) == 8


@pytest.mark.parametrize("isolated", [False, True])
def test_a_chunk_with_fixed_rows_is_the_same_when_it_is_tried_in_pieces(bucket, isolated):
    earlier = make_job(bucket, table=put_table(bucket, "csv", bad_lines(), "spoiled"), max_reject_share=0.5)
    run_job(earlier)
    folder = fix(bucket, earlier, {("data/spoiled.csv", line): right_row("", line) for line in (4, 17)})
    made = plan(folder)
    part = chunk.score_chunk(folder, made.chunk(0), ModelLibrary(folder.bucket, bucket.root), isolated=isolated)
    ids = [line.partition(",")[0] for line in gzip.decompress(bucket.read(folder.part_file(0, "csv.gz"))).decode().splitlines()]
    assert ids == [str(1000 + number) for number in range(ROWS) if number + 2 not in (5, 40)]
    assert (part.rows_in, part.rows_scored) == (ROWS, ROWS - 2)


def test_a_plan_of_a_fix_made_twice_is_the_first_plan(bucket):
    earlier = make_job(bucket, table=put_table(bucket, "csv", bad_lines(), "spoiled"), chunk_rows=6, max_reject_share=0.5)
    run_job(earlier)
    folder = fix(bucket, earlier, {("data/spoiled.csv", 4): right_row("", 4)})
    first = plan(folder)
    assert plan(folder) == first
    assert first.chunks == read_plan(earlier).chunks
    assert first.release == read_plan(earlier).release


def test_a_broken_part_that_was_taken_over_is_made_again(bucket):
    table = put_table(bucket, "csv.gz", bad_lines(), "spoiled")
    earlier = make_job(bucket, table=table, chunk_rows=6, max_reject_share=0.5)
    run_job(earlier)
    first = fix(bucket, earlier, {(table, 4): right_row("", 4)}, minute=30)
    run_job(first)
    second = fix(bucket, first, {(table, 17): right_row("", 17)}, minute=40)
    plan(second)
    bucket.write(second.part_file(0, "csv.gz"), b"broken")
    score_chunks(second, bucket.root)
    assert publishing.finish_job(second) is None
    score_chunks(second, bucket.root)
    assert publishing.finish_job(second).facts["scored"] == "38"


# --- what cannot be


SPOILED = "data/spoiled.csv"
WRONG = {
    "a line that was not rejected": ([f"{SPOILED},6,{row(4)}"], r"fixes line 6 of .*, which is not a reject of job"),
    "a line before the table": (
        [f"{SPOILED},1,{row(4)}"],
        r"record 2 of .* names no row of .*: reject_file 'data/spoiled.csv', reject_line '1'",
    ),
    "no line": ([f"{SPOILED},,{row(4)}"], r"record 2 of .* names no row"),
    "a line that is no number": ([f"{SPOILED},²,{row(4)}"], r"record 2 of .* names no row"),
    "a line beyond all tables": ([f"{SPOILED},{'9' * 5000},{row(4)}"], r"record 2 of .* names no row"),
    "a line after the table": ([f"{SPOILED},4000,{row(4)}"], r"fixes line 4000 of .*, which is not a reject"),
    "another file": ([f"data/other.csv,4,{row(4)}"], r"record 2 of .* names no row of .*: reject_file 'data/other.csv'"),
    "a line twice": ([f"{SPOILED},4,{row(4)}", "", f"{SPOILED},4,{row(4)}"], r"fixes line 4 of data/spoiled.csv twice"),
    "too few values": ([f"{SPOILED},4,1"], r"record 2 of .* has 3 values, the header 8"),
    "no rows": ([], r"has a header but no rows"),
    "a quote that is never closed": ([f'{SPOILED},4,"{row(4)}'], r"is not a csv table"),
}


@pytest.mark.parametrize("name", WRONG)
def test_fixed_rows_that_fix_nothing_are_refused_with_a_sentence(bucket, name):
    lines, sentence = WRONG[name]
    earlier = make_job(bucket, table=put_table(bucket, "csv", bad_lines(), "spoiled"), max_reject_share=0.5)
    run_job(earlier)
    bucket.write(FIXED, "\n".join([f"reject_file,reject_line,{HEADER}", *lines, ""]).encode())
    folder = make_job(bucket, minute=1, table=SPOILED, fixes=earlier.job_id, fixed_rows=FIXED)
    with pytest.raises(TableError, match=sentence) as refused:
        planning.plan_job(folder)
    assert refused.value.next_step
    assert not folder.has("plan.json")


@pytest.mark.parametrize("lacking", ["reject_line", "att2", "entity_id", "device"])
def test_a_column_that_is_lacking_is_named(bucket, lacking):
    earlier = make_job(bucket, table=put_table(bucket, "csv", bad_lines(), "spoiled"), max_reject_share=0.5)
    run_job(earlier)
    bucket.write(FIXED, f"reject_file,reject_line,{HEADER}\n".replace(lacking, "other").encode())
    folder = make_job(bucket, minute=1, table=SPOILED, fixes=earlier.job_id, fixed_rows=FIXED)
    with pytest.raises(TableError, match=f"lacks the column {lacking}"):
        planning.plan_job(folder)


def test_a_folder_of_tables_needs_the_file_of_each_row(bucket):
    earlier = make_job(bucket, table=put_table(bucket, "folder", bad_lines(), "spoiled"), max_reject_share=0.5)
    run_job(earlier)
    bucket.write(FIXED, f"reject_line,{HEADER}\n4,{row(2)}\n".encode())
    folder = make_job(bucket, minute=1, table="data/spoiled", fixes=earlier.job_id, fixed_rows=FIXED)
    with pytest.raises(TableError, match="lacks the column reject_file"):
        planning.plan_job(folder)


def test_more_fixed_rows_than_fit_are_refused_packed_or_not(bucket, monkeypatch):
    earlier = make_job(bucket, table=put_table(bucket, "csv", bad_lines(), "spoiled"), max_reject_share=0.5)
    run_job(earlier)
    monkeypatch.setattr(fixed_rows, "MAX_FIXED_BYTES", 1 << 20)
    text = f"reject_file,reject_line,{HEADER}\n".encode() + b"\n" * (1 << 20)
    for minute, (path, data) in enumerate({FIXED: text, f"{FIXED}.gz": gzip.compress(text)}.items(), 1):
        bucket.write(path, data)
        folder = make_job(bucket, minute=minute, table=SPOILED, fixes=earlier.job_id, fixed_rows=path)
        with pytest.raises(TableError, match="holds more than 1 MB of fixed rows"):
            planning.plan_job(folder)


def test_a_file_that_is_no_gzip_is_refused(bucket):
    earlier = make_job(bucket, table=put_table(bucket, "csv", bad_lines(), "spoiled"), max_reject_share=0.5)
    run_job(earlier)
    bucket.write(f"{FIXED}.gz", b"reject_file,reject_line\n")
    folder = make_job(bucket, minute=1, table=SPOILED, fixes=earlier.job_id, fixed_rows=f"{FIXED}.gz")
    with pytest.raises(TableError, match="is not a whole gzip file"):
        planning.plan_job(folder)


def test_a_table_that_changed_since_is_not_fixed(bucket):
    earlier = make_job(bucket, table=put_table(bucket, "csv", bad_lines(), "spoiled"), max_reject_share=0.5)
    run_job(earlier)
    folder = fix(bucket, earlier, {(SPOILED, 4): right_row("", 4)})
    put_table(bucket, "csv", right_lines(), "spoiled")
    with pytest.raises(TableError, match=r"data/spoiled.csv was changed or removed"):
        planning.plan_job(folder)


def test_a_table_that_only_got_another_owner_or_link_since_is_fixed(bucket):
    earlier = make_job(bucket, table=put_table(bucket, "csv", bad_lines(), "spoiled"), max_reject_share=0.5)
    run_job(earlier)
    folder = fix(bucket, earlier, {(SPOILED, 4): right_row("", 4)})
    bucket.place(SPOILED).chmod(0o600)
    assert planning.plan_job(folder) is not None


def test_a_table_of_the_same_size_and_time_with_another_content_is_not_fixed(bucket):
    earlier = make_job(bucket, table=put_table(bucket, "csv", bad_lines(), "spoiled"), max_reject_share=0.5)
    run_job(earlier)
    folder = fix(bucket, earlier, {(SPOILED, 4): right_row("", 4)})
    place = bucket.place(SPOILED)
    before = place.stat()
    place.write_bytes(place.read_bytes()[::-1])
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(TableError, match=r"data/spoiled.csv was changed or removed"):
        planning.plan_job(folder)


def test_a_job_that_cut_no_table_is_not_fixed(bucket):
    earlier = make_job(bucket, table=write_table(bucket, right_lines()))
    earlier.cancel()
    folder = fix(bucket, earlier, {(TABLE, 4): row(2)})
    with pytest.raises(RequestError, match=r"nothing of job .* was scored"):
        planning.plan_job(folder)


def test_damaged_rejects_are_named(bucket):
    earlier = make_job(bucket, table=put_table(bucket, "csv", bad_lines(), "spoiled"), max_reject_share=0.5)
    run_job(earlier)
    bucket.write(earlier.part_file(0, "rejects.csv.gz"), b"broken")
    folder = fix(bucket, earlier, {(SPOILED, 4): right_row("", 4)})
    with pytest.raises(PermanentError, match=r"the rejects of chunk 0 of job .* are damaged"):
        planning.plan_job(folder)


def test_fixed_rows_that_are_replaced_while_they_are_read_are_refused(bucket, monkeypatch):
    earlier = make_job(bucket, table=put_table(bucket, "csv", bad_lines(), "spoiled"), max_reject_share=0.5)
    run_job(earlier)
    folder = fix(bucket, earlier, {(SPOILED, 4): right_row("", 4)})
    path, opened = folder.job().fixed_rows, LocalBucket.open

    def replacing(self, name):
        if name == path:
            replace_in_place(bucket, path, b"1", b"2", way="cp")
        return opened(self, name)

    monkeypatch.setattr(LocalBucket, "open", replacing)
    with pytest.raises(TableError, match=f"{path} was changed or removed while it was read. Send them again"):
        planning.plan_job(folder)
