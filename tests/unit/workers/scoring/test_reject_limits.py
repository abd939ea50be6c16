"""A job may have so many rejects and no more, and fails as soon as that is certain."""

import pytest

from model_store.library import ModelLibrary
from shared.bucket.local import LocalBucket
from shared.errors import TableError
from tests.handmade import make_job, plan, publish_handmade, row, run_job, score_chunks, text_at, write_table
from workers.scoring import publishing, reject_limits
from workers.scoring.chunks import chunk
from workers.scoring.reject_limits import check_so_far

ROWS = 100


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    write_table(bucket, [row(number) if number % 10 else "spoiled" for number in range(ROWS)])
    return bucket


@pytest.mark.parametrize(
    ("allowed", "sentence"),
    [
        (
            {"max_reject_share": 0.09},
            r"10 of 100 rows of .* cannot be scored \(10.0%, allowed are 9.0%\); the first: .* line 2",
        ),
        ({"max_reject_share": 1.0, "max_rejects": 9}, r"10 of 100 rows .* allowed are 100.0% and 9 rows\); the first"),
        ({"max_reject_share": 0.0}, r"allowed are 0.0%\)"),
    ],
)
def test_over_its_limit_a_job_fails_with_the_first_rejects_and_the_ways_out(bucket, allowed, sentence):
    folder = make_job(bucket, chunk_rows=20, **allowed)
    plan(folder)
    score_chunks(folder, bucket.root)
    with pytest.raises(TableError, match=sentence) as failed:
        publishing.finish_job(folder)
    for command in (
        f"scoring results rejects {folder.job_id}",
        f"scoring score FILE --fix {folder.job_id}",
        f"resume {folder.job_id} --accept-rejects",
    ):
        assert command in failed.value.next_step


@pytest.mark.parametrize("allowed", [{"max_reject_share": 0.1}, {"max_reject_share": 1.0, "max_rejects": 10}])
def test_at_its_limit_a_job_is_done(bucket, allowed):
    assert run_job(make_job(bucket, chunk_rows=20, **allowed)).facts["rejected"] == "10"


def test_a_job_fails_once_its_parts_hold_more_rejects_than_the_whole_table_may_have(bucket):
    folder = make_job(bucket, chunk_rows=20, max_reject_share=0.05)
    made = plan(folder)
    assert made.rows_at_most == ROWS
    scored = []
    for index in (4, 1):
        scored.append(chunk.score_chunk(folder, made.chunk(index), ModelLibrary(folder.bucket, bucket.root)))
        check_so_far(folder, made, sum(part.rows_rejected for part in scored))
    scored.append(chunk.score_chunk(folder, made.chunk(0), ModelLibrary(folder.bucket, bucket.root)))
    with pytest.raises(
        TableError,
        match=r"6 rows of .* cannot be scored, and not all have been looked at \(allowed are 5.0%\); the first: .* line 2: .* line 12",
    ):
        check_so_far(folder, made, 6)
    assert folder.parts_done() == {0, 1, 4}


def test_a_hint_that_says_too_much_fails_no_job(bucket):
    folder = make_job(bucket, chunk_rows=20, max_reject_share=0.05)
    made = plan(folder)
    chunk.score_chunk(folder, made.chunk(0), ModelLibrary(folder.bucket, bucket.root))
    check_so_far(folder, made, 99)


def test_nobody_looks_into_the_folder_while_the_hint_is_below_the_limit(bucket, monkeypatch):
    folder = make_job(bucket, chunk_rows=20, max_reject_share=0.05)
    made = plan(folder)
    monkeypatch.setattr(reject_limits, "read_part", lambda *_: pytest.fail("a part was read"))
    check_so_far(folder, made, 5)


def test_a_plan_of_an_older_version_fails_at_the_end_or_by_number(bucket):
    folder = make_job(bucket, chunk_rows=20, max_reject_share=0.05, max_rejects=8)
    made = plan(folder)
    older = made.model_copy(update={"files": [file.model_copy(update={"rows_at_most": None}) for file in made.files]})
    score_chunks(folder, bucket.root)
    check_so_far(folder, older, 8)
    with pytest.raises(TableError, match="allowed are"):
        check_so_far(folder, older, 10)


def test_accepted_rejects_are_no_limit_but_no_rows_at_all_are(bucket):
    folder = make_job(bucket, chunk_rows=20, max_reject_share=0.0)
    made = plan(folder)
    score_chunks(folder, bucket.root)
    folder.fail(TableError("too many"))
    folder.reopen(accept_rejects=True)
    check_so_far(folder, made, 10)
    outcome = publishing.finish_job(folder)
    assert outcome.facts["rejected"] == "10, accepted by a person"
    assert text_at(bucket, outcome.result).count("\n") == 91

    write_table(bucket, ["spoiled"] * 5)
    nothing = make_job(bucket, minute=1)
    nothing.fail(TableError("none"))
    nothing.reopen(accept_rejects=True)
    plan(nothing)
    score_chunks(nothing, bucket.root)
    with pytest.raises(TableError, match="none of the 5 rows"):
        publishing.finish_job(nothing)


@pytest.mark.parametrize("ending", ["", "\n"])
def test_a_plan_knows_how_many_rows_there_are_at_most(bucket, ending):
    table = "data/two"
    bucket.write(f"{table}/a.csv", ("entity_id,att1,att2,att3,length,device\n" + "\n".join(map(row, range(7))) + ending).encode())
    bucket.write(f"{table}/b.csv", ("entity_id,att1,att2,att3,length,device\n" + "\n".join(map(row, range(5))) + ending).encode())
    assert plan(make_job(bucket, table=table, chunk_rows=3)).rows_at_most == 12
