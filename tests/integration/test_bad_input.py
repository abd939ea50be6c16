"""Whatever is wrong, the command line says so in one sentence with what, where and what to do, and nothing half-written is seen."""

import csv
import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Place
from tests.integration.test_main_job import result_text

ROWS = 300


@pytest.fixture(scope="module")
def lines(trained: Place) -> list[str]:
    """The header and a few hundred rows of a good table."""
    with gzip.open(trained.sample_table, "rt") as table:
        return [next(table).rstrip("\n") for _ in range(ROWS + 1)]


@pytest.fixture(scope="module")
def clean(trained: Place, lines: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The result of the good table."""
    table = tmp_path_factory.mktemp("clean") / "clean.csv"
    table.write_text("\n".join([*lines, ""]))
    return result_text(trained, trained.scoring_json("score", table, "--model", "v1")).decode().splitlines()


def visible(place: Place) -> set[str]:
    """Every file that people or the bidding system look at: results, releases and aliases."""
    shown = [place.bucket / "data/predict/output", place.bucket / "model"]
    return {str(file.relative_to(place.bucket)) for folder in shown for file in folder.rglob("*")}


def error_and_step(stderr: str) -> tuple[str, str]:
    """The sentence and the next step of an error; there is one of each and nothing else but the name of the job."""
    said = [line for line in stderr.splitlines() if line.strip() and not line.startswith("Job ")]
    assert len(said) == 2, stderr
    assert said[0].startswith("Error: "), stderr
    assert said[0].endswith("."), stderr
    assert "Traceback" not in stderr
    assert "  " not in said[0], "a line break or blanks of our source in the sentence"
    return said[0].removeprefix("Error: "), said[1]


def refused(place: Place, *arguments: str | Path, code: int, sentence: str, next_step: str = ".") -> str:
    """Runs a command that must be refused; returns all that it said."""
    before = visible(place)
    done = place.scoring(*arguments, code=code)
    what, step = error_and_step(done.stderr)
    assert re.search(sentence, what), what
    assert re.search(next_step, step), step
    assert done.stdout == ""
    assert visible(place) == before
    return done.stderr


# --- tables

BROKEN_TABLES = {
    "picture.csv": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)), "is not a csv table: its first line is not text"),
    "zeros.csv": (b"\0" * 4096, "is not a csv table: its first line is not text"),
    "utf16.csv": ("entity_id,device\n1,0\n".encode("utf-16"), "is text in UTF-16, and a csv table is text in UTF-8"),
    "nul_in_header.csv": (b"entity_id,at\0t1,device\n1,0,0\n", "is not a csv table: its first line is not text"),
    "empty.csv": (b"", "is empty"),
    "blank.csv": (b"\n\n  \n", "is empty"),
    "empty.csv.gz": (gzip.compress(b""), "is empty"),
    "plain.csv.gz": (b"entity_id,device\n1,0\n", "is not a whole gzip file"),
    "nothing.csv.gz": (b"", "is empty|is not a whole gzip file"),
    "none.parquet": (b"PAR1 this is no Parquet PAR1", "is not a Parquet file"),
    "nothing.parquet": (b"", "is not a Parquet file"),
    "csv.parquet": (b"entity_id,device\n1,0\n", "is not a Parquet file"),
    "doubled.csv": (
        b"entity_id,att1,device,att1\n1,0,0,1\n",
        "lacks the column att2 and [0-9]+ more; it has entity_id, att1, device, att1",
    ),
    "nameless.csv": (b"entity_id,,device\n1,0,0\n", "lacks the column att1 and [0-9]+ more; it has entity_id, , device"),
    "other.csv": (b"a,b,c\n1,2,3\n", "lacks the column entity_id and [0-9]+ more; it has a, b, c"),
}


@pytest.mark.parametrize("name", BROKEN_TABLES)
def test_a_file_that_is_no_table_fails_the_job_with_the_reason(trained: Place, tmp_path: Path, name: str) -> None:
    content, sentence = BROKEN_TABLES[name]
    (tmp_path / name).write_bytes(content)
    said = refused(trained, "score", tmp_path / name, "--model", "v1", code=3, sentence=f"^job .* failed: .*{name} {sentence}")
    job_id = re.search(r"^Job (\S+)", said)[1]
    shown = trained.scoring_json("jobs", "show", job_id)
    assert (shown["state"], shown["outcome"]["exit_code"]) == ("failed", 3)
    assert shown["reason"] in said


def test_a_header_without_rows_is_refused(trained: Place, lines: list[str], tmp_path: Path) -> None:
    for name, end in (("header.csv", ""), ("header_line.csv", "\n"), ("header_blank.csv", "\n\n\n")):
        (tmp_path / name).write_text(lines[0] + end)
        refused(trained, "score", tmp_path / name, "--model", "v1", code=3, sentence=f"{name} has a header but no rows", next_step="row")


def test_a_gzip_file_that_was_cut_short_is_refused_wherever_it_was_cut(trained: Place, lines: list[str], tmp_path: Path) -> None:
    whole = gzip.compress("\n".join([*lines, ""]).encode())
    for share in (0.02, 0.5, 0.999):
        table = tmp_path / f"cut_{share}.csv.gz"
        table.write_bytes(whole[: int(len(whole) * share)])
        refused(trained, "score", table, "--model", "v1", code=3, sentence="is not a whole gzip file", next_step="Copy it again")


def test_a_missing_column_is_named(trained: Place, lines: list[str], tmp_path: Path) -> None:
    columns = lines[0].split(",")
    for column in ("att7", "entity_id", "device"):
        table = tmp_path / f"without_{column}.csv"
        place = columns.index(column)
        with table.open("w") as out:
            csv.writer(out).writerows([*row[:place], *row[place + 1 :]] for row in csv.reader(lines))
        refused(trained, "score", table, "--model", "v1", code=3, sentence=f"lacks the column {column}", next_step="another model")


def test_text_in_a_column_of_whole_numbers_fails_the_job_with_the_first_rows_quoted(
    trained: Place, lines: list[str], tmp_path: Path
) -> None:
    table = tmp_path / "wrong_type.csv"
    table.write_text("\n".join([lines[0], *(f"shoe{line}" for line in lines[1:]), ""]))
    first = lines[1].partition(",")[0]
    said = refused(
        trained,
        "score",
        table,
        "--model",
        "v1",
        code=3,
        sentence=rf"none of the 300 rows of .* can be scored; the first: .* line 2, column entity_id: "
        rf"'shoe{first}' is not a whole number; .* line 3, .* line 4, ",
        next_step="Correct the table",
    )
    assert "line 5" not in said
    some = tmp_path / "some_wrong.csv"
    some.write_text("\n".join([*lines[:-4], *(f"shoe{line}" for line in lines[-4:]), ""]))
    sentence = r"4 of 300 rows of .* cannot be scored \(1.3%, allowed are 1.0%\); the first: .* line 298, .* line 299, .* line 300, "
    refused(trained, "score", some, "--model", "v1", code=3, sentence=sentence, next_step="--accept-rejects")
    assert trained.scoring_json("score", some, "--model", "v1", "--max-reject-share", "0.02")["facts"]["rejected"] == "4"


def test_a_line_of_10_megabytes_is_a_reject_and_its_neighbours_are_scored(
    trained: Place, lines: list[str], clean: list[str], tmp_path: Path
) -> None:
    table = tmp_path / "long.csv"
    table.write_text("\n".join([*lines[:100], "9" * 10_000_000, *lines[100:], ""]))
    outcome = trained.scoring_json("score", table, "--model", "v1")
    assert result_text(trained, outcome).decode().splitlines() == clean
    rejects = pd.read_csv(trained.bucket / outcome["result"] / "rejects.csv.gz", keep_default_na=False)
    assert rejects["line"].tolist() == [101]
    assert "longer than" in rejects["reason"][0]
    assert len(rejects["value"][0]) < 100


@pytest.mark.parametrize("form", ["csv", "csv.gz"])
def test_nul_bytes_and_bytes_that_are_no_text_are_rejects_and_their_neighbours_are_scored(
    trained: Place, lines: list[str], clean: list[str], tmp_path: Path, form: str
) -> None:
    spoiled = [line.encode() for line in lines]
    spoiled[10] = spoiled[10].replace(b",0,", b",\0,", 1)
    spoiled[200] = b"\xff\xfe" + spoiled[200]
    text = b"\n".join([*spoiled, b""])
    table = tmp_path / f"bytes.{form}"
    table.write_bytes(gzip.compress(text) if form == "csv.gz" else text)
    outcome = trained.scoring_json("score", table, "--model", "v1")
    assert result_text(trained, outcome).decode().splitlines() == [line for number, line in enumerate(clean) if number not in (10, 200)]
    rejects = pd.read_csv(trained.bucket / outcome["result"] / "rejects.csv.gz", keep_default_na=False, encoding_errors="replace")
    assert rejects["line"].tolist() == [11, 201]


def test_a_table_that_is_not_there_is_refused_before_a_job_is_made(trained: Place, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("nothing")
    (tmp_path / "notes.txt").write_text("nothing")
    jobs = len(list((trained.bucket / "jobs").iterdir()))
    for table, sentence, next_step in (
        (tmp_path / "nowhere.csv", r"no table .*nowhere.csv, neither in the bucket .* nor on this machine", "Check the path"),
        (tmp_path / "notes", "the folder .*notes holds no table", r"\.csv"),
        (tmp_path / "notes.txt", "notes.txt is not a table", r"\.csv"),
        ("data/predict/input/1999/01/01", "no table data/predict/input/1999/01/01", "Check the path"),
        ("../../../etc/passwd", "no table .*etc/passwd|passwd is not a table", "."),
        ("model/v1", "no table model/v1", "."),
    ):
        refused(trained, "score", table, "--model", "v1", code=3, sentence=sentence, next_step=next_step)
    assert len(list((trained.bucket / "jobs").iterdir())) == jobs


# --- training tables


def test_a_training_table_without_anything_to_learn_from_is_refused(trained: Place, lines: list[str], tmp_path: Path) -> None:
    table = tmp_path / "unlabelled.csv"
    table.write_text("\n".join([*lines, ""]))
    said = refused(
        trained,
        "train",
        "v1",
        "--train",
        table,
        code=3,
        sentence="unlabelled.csv has nothing to learn from: neither Clicks and Conversions nor cr",
        next_step="Train on a table",
    )
    job_id = re.search(r"^Job (\S+)", said)[1]
    [notice] = trained.webhook.sent_about(job_id)
    assert notice["text"] == "failed: train v1"
    assert "nothing to learn from" in str(notice)


def test_an_unknown_definition_cannot_be_trained_and_the_known_ones_are_named(trained: Place) -> None:
    # other tests may have put definitions beside the shipped ones
    own = Path(trained.environment["SCORING_DEFINITIONS"]).glob("*/model.py")
    known = ", ".join(sorted({"v1", "v2", "v3", *(file.parent.name for file in own)}))
    sentence = rf"there is no definition 'v99' on \S+; there are: {known}( |$)"
    refused(trained, "train", "v99", code=4, sentence=sentence, next_step="scoring models new")
    refused(trained, "train", "../v1", code=2, sentence=r"the definition must be a name .*, not '\.\./v1'")
    refused(trained, "train", "v1", "--alias", "my champion", code=2, sentence="--alias must be a name")
    refused(trained, "train", "v1", "--eval", "x.csv", code=2, sentence="--eval names a table but --train does not", next_step="both")


def test_a_training_in_an_empty_bucket_says_how_to_get_a_table(trained: Place, tmp_path: Path) -> None:
    place = elsewhere(trained, BUCKET_URL=str(tmp_path / "empty"))
    refused(place, "train", "v1", code=3, sentence="no table data/train/YYYY/MM/DD/train.csv.gz in the bucket", next_step="scoring sample")
    assert not (tmp_path / "empty").exists()


# --- models


def test_an_unknown_release_or_alias_is_refused_and_what_there_is_is_named(trained: Place) -> None:
    table = trained.sample_table
    for model, known in (("v99", ".*v1, v2"), ("champ-ion", ".*v1, v2"), ("v1@20200101T000000Z-abcdef", "v1@"), ("v99@latest", ".*v1, v2")):
        sentence = f"no release or alias '{model}' in the bucket .*; (of v1 )?there are: {known}"
        refused(trained, "score", table, "--model", model, code=4, sentence=sentence, next_step="scoring models list")
        refused(trained, "models", "show", model, code=4, sentence=sentence)
    refused(trained, "score", table, "--model", "../aliases", code=2, sentence="--model must be the name .*, not '../aliases'")
    empty = elsewhere(trained, BUCKET_URL=str(trained.root / "no-such-bucket"))
    refused(empty, "score", table, "--model", "v1", code=4, sentence="the definition v1 has no release yet", next_step="scoring train v1")


# --- options and settings


def test_an_option_with_a_value_that_cannot_be_is_refused_before_a_job_is_made(trained: Place, tmp_path: Path) -> None:
    table = trained.sample_table
    jobs = len(list((trained.bucket / "jobs").iterdir()))
    score = ("score", table, "--model", "v1")
    refused(trained, *score, "--chunk-rows", "0", code=2, sentence="--chunk-rows must be a whole number from 1 to [0-9,]+, not 0")
    refused(trained, *score, "--max-reject-share", "5", code=2, sentence="--max-reject-share is from 0 to 1; 5 % is 0.05")
    refused(trained, *score, "--max-reject-share", "nan", code=2, sentence="--max-reject-share is from 0 to 1")
    refused(trained, "sample", "--rows", "-5", "--out", tmp_path / "x", code=2, sentence="-5")
    refused(trained, "sample", "--rows", "0", "--out", tmp_path / "x", code=2, sentence="0")
    refused(trained, "sample", "--rows", "-5", code=2, sentence="-5")
    (tmp_path / "file").write_text("")
    refused(trained, "sample", "--rows", "5", "--out", tmp_path / "file" / "x", code=2, sentence=f"{tmp_path}/file.*Not a directory")
    assert not (tmp_path / "x").exists()
    assert len(list((trained.bucket / "jobs").iterdir())) == jobs


@pytest.mark.parametrize(
    "arguments",
    [
        ("score", "x.csv", "--chunk-rows", "many"),
        ("score", "x.csv", "--date", "23.11.2026"),
        ("score",),
        ("scores", "x.csv"),
        ("score", "x.csv", "--colour", "red"),
        ("sample", "--format", "xlsx"),
    ],
)
def test_a_command_that_is_none_is_refused_with_where_to_read_on(trained: Place, arguments: tuple[str, ...]) -> None:
    done = trained.scoring(*arguments, code=2)
    assert done.stderr.count("Error: ") == 1
    assert "--help" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("BUCKET_URL", "ftp://x", "must be a folder or start with s3:// or gs://"),
        ("SCORING_REDIS_PORT", "abc", "valid integer"),
        ("SCORING_REDIS_PORT", "99999", "less than or equal to 65535"),
        ("SCORING_PROCESSES", "0", "greater than or equal to 1"),
        ("SCORING_LOG", "loud", "'text' or 'json'"),
        ("SCORING_SWEEP_SECONDS", "0", "greater than 0"),
        ("MODEL_VER", "", "at least 1 character"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_its_name(trained: Place, variable: str, value: str, sentence: str) -> None:
    place = elsewhere(trained, **{variable: value})
    wanted = f"the environment variable {variable} has the value '{value}' that cannot be used: .*{sentence}"
    refused(place, "score", trained.sample_table, "--model", "v1", code=2, sentence=wanted, next_step=f"Set {variable} to another value")


def test_a_secret_in_a_setting_that_cannot_be_is_not_shown(trained: Place) -> None:
    place = elsewhere(trained, REDIS_URL="http://user:very-secret@host")
    said = refused(
        place, "jobs", "list", code=2, sentence="REDIS_URL has a value that cannot be used: .*must start with redis:// or rediss://"
    )
    assert "very-secret" not in said


def test_a_bucket_that_cannot_be_written_is_named_with_what_to_do(trained: Place, lines: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    table = tmp_path / "table.csv"
    table.write_text("\n".join([*lines, ""]))
    # permission bits do not bind root, so these are places where nobody can write
    for bucket, reason in ((tmp_path / "file" / "bucket", "Not a directory|File exists"), (Path("/proc/bucket"), "No such file|Read-only")):
        place = elsewhere(trained, BUCKET_URL=str(bucket))
        for command in (("sample", "--rows", "10"), ("train", "v1", "--train", table)):
            refused(place, *command, code=6, sentence=f"in the bucket could not be written: .*({reason})", next_step="BUCKET_URL")


# --- jobs and results


def test_an_unknown_job_is_refused_and_no_job_id_leads_out_of_its_folder(trained: Place) -> None:
    before, jobs = set(trained.bucket.rglob("*")), list((trained.bucket / "jobs").iterdir())
    for command in (("jobs", "show"), ("jobs", "show", "--follow"), ("jobs", "cancel"), ("jobs", "resume")):
        refused(trained, *command, "20200101t000000z-score-abcdef", code=2, sentence="there is no job", next_step="scoring jobs list")
    for command, job_id in (("show", "../../model"), ("cancel", "/etc/passwd"), ("resume", "_open"), ("show", "x" * 300)):
        refused(trained, "jobs", command, job_id, code=2, sentence="is not the id of a job", next_step="scoring jobs list")
    # jobs of other tests may still write into their folders
    appeared = set(trained.bucket.rglob("*")) - before
    assert [file for file in appeared if not any(file.is_relative_to(job) for job in jobs)] == []


def test_an_unknown_result_is_refused_and_no_name_leads_out_of_the_results(trained: Place) -> None:
    for command, wanted in (("head", "v1/1999/01/01"), ("show", "no-such-job"), ("show", "NO-ID"), ("head", "v1/../../../jobs")):
        refused(trained, "results", command, wanted, code=2, sentence=".", next_step="scoring (results|jobs) list|inside the bucket")


def elsewhere(place: Place, **changed: str) -> Place:
    """The same place seen with other settings."""
    return Place(root=place.root, environment=place.environment | changed, webhook=place.webhook)


@pytest.fixture(autouse=True)
def stack_still_works(trained: Place) -> Iterator[None]:
    """Nothing of all this makes a worker write more than its one line."""
    read = trained.log.stat().st_size
    yield
    with trained.log.open() as log:
        log.seek(read)
        assert "Traceback" not in log.read()
