"""The output is a contract with the bidding system: this table and this release give exactly these bytes, however they are cut."""

import gzip
import hashlib
import io
import struct

import pandas as pd
import pytest

from shared.bucket.local import LocalBucket
from tests.handmade import HEADER, PLACE, make_job, publish_handmade, row, run_job, text_at, write_table

OUTPUT = f"data/predict/output/v1/{PLACE}"
ROWS = 1000

TEXT_SHA256 = "4f243126278b2723c4f5c8462d220aa99a2d129487d180d7566a3ccf2813a2aa"
LINES = {
    0: "entity_id,device,cr",
    1: "1000,0,0.0625009536743164",
    2: "1001,1,0.26570928700764973",
    3: "1002,2,0",
    6: "1005,2,0.2816676203409831",
    297: "1296,2,9.5367431640625e-7",
    500: "1499,1,0.1421259536743164",
    1000: "1999,0,0.2187509536743164",
}
"""Line number -> line. The rate of line 1 is 1/16 (computer) + 2**-20; that of line 3 would be below 0."""


@pytest.fixture(scope="module")
def bucket(tmp_path_factory) -> LocalBucket:
    bucket = LocalBucket(tmp_path_factory.mktemp("golden"))
    publish_handmade(bucket)
    write_table(bucket, [row(number) for number in range(ROWS)])
    return bucket


@pytest.fixture(scope="module")
def minutes():
    """Each job of this module is asked for at another time."""
    return iter(range(1000))


def result(bucket, minutes, **more) -> tuple[bytes, str]:
    """The compressed bytes and the text of a result."""
    outcome = run_job(make_job(bucket, minute=next(minutes), **more))
    return bucket.read(f"{outcome.result}/prediction_output.csv.gz"), text_at(bucket, outcome.result)


@pytest.mark.parametrize("chunk_rows", [1, 7, 99, 512, 1000, None])
def test_the_text_is_the_pinned_one_for_every_chunk_size(bucket, minutes, chunk_rows):
    _, text = result(bucket, minutes, chunk_rows=chunk_rows)
    assert hashlib.sha256(text.encode()).hexdigest() == TEXT_SHA256


FORMS = ("csv.gz", "Parquet", "Parquet of small row groups", "folder")


@pytest.fixture(scope="module")
def forms(bucket) -> dict[str, str]:
    """The same table in every form that a table can have."""
    lines = [row(number) for number in range(ROWS)]
    text = "\n".join([HEADER, *lines, ""]).encode()
    paths = {form: f"data/predict/input/{PLACE}/form-{number}" for number, form in enumerate(FORMS)}
    bucket.write(f"{paths['csv.gz']}.csv.gz", gzip.compress(text))
    table = pd.read_csv(io.BytesIO(text))
    for form, group in (("Parquet", None), ("Parquet of small row groups", 77)):
        out = io.BytesIO()
        table.to_parquet(out, row_group_size=group)
        bucket.write(f"{paths[form]}.parquet", out.getvalue())
    write_table(bucket, lines[:300], f"{paths['folder']}/a.csv")
    out = io.BytesIO()
    table.iloc[300:650].to_parquet(out, row_group_size=50)
    bucket.write(f"{paths['folder']}/b.parquet", out.getvalue())
    bucket.write(f"{paths['folder']}/c.csv.gz", gzip.compress("\n".join([HEADER, *lines[650:], ""]).encode()))
    endings = {"csv.gz": ".csv.gz", "folder": ""}
    return {form: paths[form] + endings.get(form, ".parquet") for form in FORMS}


# chunks of one row each, of which there are 1,000, are cut from the plain table above
@pytest.mark.parametrize("chunk_rows", [pytest.param(1, marks=pytest.mark.long), 7, 99, None])
@pytest.mark.parametrize("form", FORMS)
def test_the_text_is_the_pinned_one_for_every_form_of_the_table(bucket, forms, minutes, form, chunk_rows):
    _, text = result(bucket, minutes, table=forms[form], chunk_rows=chunk_rows)
    assert hashlib.sha256(text.encode()).hexdigest() == TEXT_SHA256


def test_these_lines_are_the_contract(bucket, minutes):
    _, text = result(bucket, minutes)
    lines = text.splitlines()
    assert text.endswith("\n")
    assert "\r" not in text
    assert len(lines) == ROWS + 1
    assert {number: lines[number] for number in LINES} == LINES


def test_every_row_is_there_once_in_the_order_of_the_input(bucket, minutes):
    _, text = result(bucket, minutes, chunk_rows=13)
    keys = [line.rpartition(",")[0] for line in text.splitlines()[1:]]
    assert keys == [f"{1000 + number},{number % 3}" for number in range(ROWS)]


def digits(number: str) -> str:
    """The significant digits of a number, however it is written."""
    return number.partition("e")[0].replace(".", "").strip("0")


def test_every_rate_is_the_shortest_text_that_reads_back_to_the_same_double(bucket, minutes):
    _, text = result(bucket, minutes)
    for line in text.splitlines()[1:]:
        shown = line.rpartition(",")[2]
        rate = float(shown)
        assert 0 <= rate <= 1
        assert digits(shown) == digits(repr(rate))


@pytest.mark.parametrize("chunk_rows", [100, None])
def test_the_same_plan_gives_the_same_compressed_bytes(bucket, minutes, chunk_rows):
    first, second = (result(bucket, minutes, chunk_rows=chunk_rows)[0] for _ in range(2))
    assert first == second


def test_no_gzip_header_holds_a_time_or_a_name(bucket, minutes):
    data, text = result(bucket, minutes, chunk_rows=300)
    assert gzip.decompress(data).decode() == text
    members = [at for at in range(len(data)) if data.startswith(b"\x1f\x8b\x08", at)]
    assert len(members) == 1 + 4, "the header and one member for each chunk"
    for at in members:
        flags, seconds = struct.unpack_from("<xxxBI", data, at)
        assert (flags, seconds) == (0, 0)


def test_the_place_of_the_result_is_named_by_definition_and_day(bucket, minutes):
    result(bucket, minutes)
    assert {info.path for info in bucket.files(OUTPUT)} == {f"{OUTPUT}/manifest.json", f"{OUTPUT}/prediction_output.csv.gz"}
