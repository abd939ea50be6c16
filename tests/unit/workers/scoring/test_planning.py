"""However a table is cut, its chunks are whole records that together are the table."""

import codecs
import csv
import gzip
import hashlib
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.bucket.local import LocalBucket
from shared.errors import TableError
from shared.jobs.folder import JobFolder
from shared.table_files import find_files
from workers.scoring import planning
from workers.scoring.plan import PinnedInputs, slice_file
from workers.tables import chunk_size
from workers.tables.chunk_size import ChunkSize
from workers.tables.csv import cuts as csv_cuts
from workers.tables.csv.cuts import Cut, open_csv
from workers.tables.csv.headers import parse_header
from workers.tables.formats import CsvGz
from workers.tables.parquet import cuts as parquet_cuts
from workers.tables.streams import Hashing

HEADER = b"entity_id,device,att1\n"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0\x1f\x15\xc4\x89"

fields = st.text(st.sampled_from('01a,"\n \tü'), max_size=6)
line_ends = st.sampled_from(["\n", "\r\n"])
sizes = st.builds(ChunkSize, bytes=st.integers(1, 60), rows=st.none() | st.integers(1, 7))


@st.composite
def written_tables(draw):
    """What a program that knows csv writes: any text in its fields, quoted where needed or everywhere."""
    end = draw(line_ends)
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=end, quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])))
    for record in draw(st.lists(st.lists(fields, min_size=2, max_size=3), max_size=12)):
        writer.writerow(record)
        out.write(end * draw(st.integers(0, 2)) if draw(st.booleans()) else "")
    text = out.getvalue()
    return (text.removesuffix(end) if draw(st.booleans()) else text).encode()


typed_tables = st.text(st.sampled_from('1,"\n\r x'), max_size=40).map(str.encode)
bodies = written_tables() | typed_tables
heads = st.sampled_from([HEADER, b"\xef\xbb\xbf" + HEADER, b"entity_id,device,att1\r\n", b'"entity_id","device","att1"\n'])


class Dribbling(io.BytesIO):
    """A stream that gives less than it is asked for, as sockets do."""

    def read(self, size=-1, /):
        return super().read(min(size, 3) if size >= 0 else size)

    def readinto(self, buffer, /):
        return super().readinto(memoryview(buffer)[:3])


@dataclass
class Seen:
    """What a reader of csv that goes one character at a time sees."""

    starts: list[int]
    """Offsets of the records, blank lines among them."""
    quote_left_open: int | None
    """Offset of the quote that is still open at the end."""


def seen_one_by_one(text: bytes) -> Seen:
    starts, state, quote = [0], "start", 0
    for at, byte in enumerate(text):
        char = chr(byte)
        if state == "quoted":
            state = "closing" if char == '"' else state
        elif state == "closing" and char == '"':
            state = "quoted"
        elif char == "\n":
            state = "start"
            starts.append(at + 1)
        elif char == ",":
            state = "start"
        elif state == "start" and char == '"':
            state, quote = "quoted", at
        else:
            state = "field"
    return Seen(starts=starts, quote_left_open=quote if state == "quoted" else None)


def cut(text: bytes, size: ChunkSize, stream=io.BytesIO) -> list[Cut]:
    columns, cuts = open_csv(stream(text), "table.csv", size)
    assert columns == ["entity_id", "device", "att1"]
    return kept(cuts)


def kept(cuts: Iterator[Cut]) -> list[Cut]:
    """The cuts with copies of their bytes, which are overwritten while further ones are made."""
    return [replace(piece, data=memoryview(bytes(piece.data))) for piece in cuts]


def swallows_lines(body: bytes) -> bool:
    quote = seen_one_by_one(body).quote_left_open
    return quote is not None and b"\n" in body[quote:].rstrip(b"\r\n")


# --- csv


@given(heads, bodies, sizes, st.sampled_from([io.BytesIO, Dribbling]))
@example(HEADER, b'1,"a\n2,b\n', ChunkSize(bytes=1, rows=None), io.BytesIO)
@example(HEADER, b"1,2\n   \n3,4\n", ChunkSize(bytes=4, rows=None), io.BytesIO)
@example(HEADER, b'1,"""\n","\n', ChunkSize(bytes=3, rows=1), io.BytesIO)
@settings(max_examples=400, deadline=None)
def test_the_cuts_are_whole_records_that_together_are_the_table(head, body, size, stream):
    text = head + body
    if swallows_lines(body):
        with pytest.raises(TableError, match=r"table\.csv has a quote on line \d+ that is never closed"):
            cut(text, size, stream)
        return
    cuts = cut(text, size, stream)
    starts = {len(head) + start for start in seen_one_by_one(body).starts}
    at = len(head)
    for piece in cuts:
        assert text[piece.start : piece.start + len(piece.data)] == piece.data
        assert piece.start in starts, "a cut starts where a record starts"
        assert piece.first_line == 1 + text.count(b"\n", 0, piece.start)
        assert text[at : piece.start].strip(b"\r\n") == b"", "only blank lines lie between two cuts"
        at = piece.start + len(piece.data)
    assert text[at:].strip(b"\r\n") == b""


@given(written_tables(), sizes)
@settings(max_examples=200, deadline=None)
def test_the_pieces_read_one_by_one_are_the_table_read_whole(body, size):
    def records(data: bytes) -> list[list[str]]:
        return [record for record in csv.reader(io.StringIO(data.decode(), newline="")) if record]

    assert [record for piece in cut(HEADER + body, size) for record in records(piece.data.tobytes())] == records(body)


@given(written_tables(), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_a_chunk_has_no_more_rows_than_it_may(body, rows):
    for piece in cut(HEADER + body, ChunkSize(bytes=1 << 20, rows=rows)):
        assert len([record for record in csv.reader(io.StringIO(piece.data.tobytes().decode(), newline="")) if record]) <= rows


def test_a_cut_is_still_there_while_the_next_one_is_made():
    lines = [b"%d,1,0\n" % number for number in range(1000)]
    _, cuts = open_csv(io.BytesIO(HEADER + b"".join(lines)), "table.csv", ChunkSize(bytes=500, rows=None))
    before = next(cuts)
    text = bytes(before.data)
    for piece in cuts:
        assert before.data == text
        before, text = piece, bytes(piece.data)


@given(bodies.filter(lambda body: not swallows_lines(body)), sizes)
@settings(max_examples=100, deadline=None)
def test_the_same_table_is_always_cut_the_same_way(body, size):
    assert cut(HEADER + body, size) == cut(HEADER + body, size) == cut(HEADER + body, size)


def test_chunks_are_as_large_as_they_may_be():
    body = b"1,Tablet,0\n" * 1000
    assert [len(piece.data) for piece in cut(HEADER + body, ChunkSize(bytes=1100, rows=None))] == [1100] * 10
    assert [len(piece.data) for piece in cut(HEADER + body, ChunkSize(bytes=1 << 20, rows=300))] == [3300, 3300, 3300, 1100]
    assert len(cut(HEADER + body, ChunkSize(bytes=1 << 20, rows=None))) == 1


@pytest.mark.parametrize(
    ("table_bytes", "chunk_bytes"), [(0, 1 << 20), (16 << 20, 1 << 20), (64 << 20, (4 << 20) * chunk_size.CUT_SHORT), (1 << 40, 24 << 20)]
)
def test_a_chunk_is_a_sixteenth_of_the_table_within_bounds(table_bytes, chunk_bytes):
    assert ChunkSize.for_table(table_bytes, None).bytes == pytest.approx(chunk_bytes, rel=0.011)


def test_a_table_is_cut_into_its_sixteenths_without_a_crumb_at_the_end():
    body = b"".join(b"%d,Tablet,%s\n" % (number, b"0" * (number % 300)) for number in range(120_000))
    lengths = [len(piece.data) for piece in cut(HEADER + body, ChunkSize.for_table(len(HEADER + body), None))]
    assert len(lengths) == chunk_size.CHUNKS_WANTED
    assert min(lengths) > max(lengths) * 0.8


def test_a_line_of_10_mb_is_one_record():
    body = b"1,Tablet,0\n" + b"2,Tablet," + b"9" * (10 << 20) + b"\n3,Tablet,0\n"
    cuts = cut(HEADER + body, ChunkSize(bytes=1 << 20, rows=None))
    assert b"".join(piece.data for piece in cuts) == body
    assert [piece.first_line for piece in cuts] == [2, 3, 4][: len(cuts)]


def test_a_record_without_an_end_is_refused_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(csv_cuts, "MAX_RECORD_BYTES", 4 << 20)
    for body in (b"1" * (8 << 20), b'1,Tablet,0\n2,"' + b"x\n" * (4 << 20)):
        with pytest.raises(TableError, match=r"has a record of more than 4 MB on line [23], perhaps a quote that is never closed"):
            cut(HEADER + body, ChunkSize(bytes=1 << 20, rows=None))


def test_a_quote_that_is_never_closed_is_named_by_its_line():
    body = b'1,Tablet,0\n2,"Tablet,0\n' + b"3,Tablet,0\n" * 10
    for size in (ChunkSize(bytes=1 << 20, rows=None), ChunkSize(bytes=20, rows=None), ChunkSize(bytes=1 << 20, rows=1)):
        with pytest.raises(TableError, match="has a quote on line 3 that is never closed"):
            cut(HEADER + body, size)


def test_a_quote_left_open_on_the_very_last_line_swallows_nothing():
    assert [piece.data for piece in cut(HEADER + b'1,Tablet,0\n2,Tablet,"0\n', ChunkSize(bytes=99, rows=None))] == [
        b'1,Tablet,0\n2,Tablet,"0\n'
    ]


# --- the header


@pytest.mark.parametrize(
    ("line", "columns"),
    [
        (b"a,b,c\n", ["a", "b", "c"]),
        (b"a,b,c\r\n", ["a", "b", "c"]),
        (b"a,b,c", ["a", "b", "c"]),
        (b"a,b,c\r\r\n", ["a", "b", "c"]),
        (b'"a","b,c"\n', ["a", "b,c"]),
        (b"\xef\xbb\xbfa,b\n", ["a", "b"]),
        (b'\xef\xbb\xbf"a",b\n', ["a", "b"]),
        (b" a , b\n", ["a", "b"]),
        ("ä,ß\n".encode(), ["ä", "ß"]),
        (b"entity_id\n", ["entity_id"]),
        (b"x" * 200_000 + b",b\n", ["x" * 200_000, "b"]),
    ],
)
def test_a_header_gives_the_names_of_the_columns(line, columns):
    assert parse_header(line, "table.csv") == columns


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "table.csv is empty"),
        (b"\n\n\r\n  ", "table.csv is empty"),
        (b"\xef\xbb\xbf", "not a csv|no columns|without a name"),
        (b"\n1,Tablet\n", "its first line is blank"),
        (b"\r\nentity_id,device\n", "its first line is blank"),
        (b'""\n1\n', "its first line is blank"),
        (b"   \n1\n", "its first line is blank"),
        (b",,\n1,2,3\n", "its first line is blank"),
        (b"a\0b,c\n1,2\n", "its first line is not text"),
        (b"\0" * 100, "its first line is not text"),
        (PNG, "its first line is not text"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "is compressed with gzip, but its name does not say so"),
        (b"PK\x03\x04\x14\0\6\0", "is an Excel workbook or a zip archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "is an Excel workbook"),
        (b"PAR1\x15\0\n", "is a Parquet file, but its name does not say so"),
        ("a,b\n1,2\n".encode("utf-16"), "is text in UTF-16"),
        ("a,b\n1,2\n".encode("utf-16-be"), "is text in UTF-16"),
        ("a,b\n1,2\n".encode("utf-16-le"), "is text in UTF-16"),
        ("a,b\n1,2\n".encode("utf-32"), "is text in UTF-32"),
        ("a,b\n1,2\n".encode("utf-32-be"), "is text in UTF-32"),
        ("a,b\n1,2\n".encode("utf-32-le"), "is text in UTF-32"),
        (codecs.BOM_UTF32_BE + "a,b\n1,2\n".encode("utf-32-be"), "is text in UTF-32"),
        ("ä,b\n1,2\n".encode("latin-1"), "its first line is not text in UTF-8"),
        (b"a,b\r1,2\r3,4\r", "has lines that end in a carriage return alone"),
        (b'a,"b\n1,2\n3,4\n', "has a quote in its header that does not close"),
        (b'a,"b\n1,2\n3,c"\n', "has a quote in its header that does not close"),
        (b"sep=,\na,b\n1,2\n", "starts with the line 'sep=,', which only Excel reads"),
        (b"sep=;\na;b\n1;2\n", "starts with the line 'sep=;', which only Excel reads"),
        (b'\xef\xbb\xbf"sep=;"\r\na;b\n', "which only Excel reads"),
        (b"20458,0,1,1,0\n20459,1,0,0,1\n", "has no header: its first line is a row of values, 20458, 0, 1, 1, 0"),
        (b"20458,1,,0.5,Computer\n", "has no header"),
        (b"x" * (2 << 20), "its first line is not text"),
    ],
)
def test_a_header_that_cannot_be_one_is_refused(text, says):
    for size in (7, 1 << 20) if len(text) < 1000 else (1 << 20,):
        with pytest.raises(TableError, match=says) as caught:
            list(open_csv(io.BytesIO(text), "table.csv", ChunkSize(bytes=size, rows=None))[1])
        assert caught.value.message.startswith("table.csv ")
        assert caught.value.next_step
        assert "\n" not in str(caught.value)


@given(st.binary(max_size=80), sizes)
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_table_or_refused_in_one_sentence(text, size):
    try:
        list(open_csv(io.BytesIO(text), "table.csv", size)[1])
    except TableError as error:
        assert error.message.startswith("table.csv ")
        assert "\n" not in error.message


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n\n", b"\r\n\r\n"])
def test_a_header_alone_has_no_cuts(end):
    assert cut(HEADER.strip() + end, ChunkSize(bytes=1 << 20, rows=None)) == []


# --- gzip


def cut_gzip(data: bytes, size: ChunkSize) -> list[Cut]:
    with CsvGz().open_text(Hashing(io.BytesIO(data)), "table.csv.gz") as text:
        return kept(open_csv(text, "table.csv.gz", size)[1])


@given(bodies.filter(lambda body: not swallows_lines(body)), sizes)
@settings(max_examples=100, deadline=None)
def test_a_compressed_table_is_cut_like_the_table(body, size):
    assert cut_gzip(gzip.compress(HEADER + body), size) == cut(HEADER + body, size)


def test_members_end_to_end_are_one_table():
    size = ChunkSize(bytes=50, rows=None)
    body = b"1,Tablet,0\n" * 100
    members = gzip.compress(HEADER) + gzip.compress(body[:503]) + gzip.compress(b"") + gzip.compress(body[503:])
    assert b"".join(piece.data for piece in cut_gzip(members, size)) == body
    assert b"".join(piece.data for piece in cut_gzip(members + bytes(512), size)) == body, "zeros after the end are padding"


def test_a_gzip_file_cut_short_anywhere_is_refused():
    whole = gzip.compress(HEADER + b"".join(b"%d,Tablet,0\n" % number for number in range(200)))
    for length in range(len(whole)):
        with pytest.raises(TableError, match=r"table\.csv\.gz is (not a whole gzip file|empty)"):
            cut_gzip(whole[:length], ChunkSize(bytes=100, rows=None))


@pytest.mark.parametrize("garbage", [b"x", b"garbage after the end", b"\x1f\x8b", b"\x1f\x8b\x08", b"\0\0\0x", PNG, HEADER])
def test_garbage_after_the_end_of_a_gzip_file_is_refused(garbage):
    with pytest.raises(TableError, match=r"table\.csv\.gz is not a whole gzip file"):
        cut_gzip(gzip.compress(HEADER + b"1,Tablet,0\n") + garbage, ChunkSize(bytes=1 << 20, rows=None))


def test_a_flipped_bit_in_a_gzip_file_is_refused_or_changes_nothing():
    body = b"".join(b"%d,Tablet,0\n" % number for number in range(20))
    whole = gzip.compress(HEADER + body, mtime=0)
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x41
        try:
            assert b"".join(piece.data for piece in cut_gzip(bytes(damaged), ChunkSize(bytes=64, rows=None))) == body
        except TableError as error:
            assert error.message.startswith("table.csv.gz is not a whole gzip file")


@pytest.mark.parametrize("data", [PNG, HEADER + b"1,Tablet,0\n", b"\0" * 100])
def test_what_is_no_gzip_file_is_refused(data):
    with pytest.raises(TableError, match=r"table\.csv\.gz is not a whole gzip file"):
        cut_gzip(data, ChunkSize(bytes=1 << 20, rows=None))


# --- whole tables in a bucket


@pytest.fixture
def bucket(tmp_path):
    return LocalBucket(tmp_path / "bucket")


@pytest.fixture
def folder(bucket):
    return JobFolder(bucket, "20261123t101500z-4f1d")


def numbered(count: int, first: int = 0) -> bytes:
    return b"".join(b"%d,Tablet,0\n" % number for number in range(first, first + count))


def put_parquet(bucket, path: str, rows: int, group: int = 1 << 20, **columns) -> None:
    out = io.BytesIO()
    pq.write_table(
        pa.table({"entity_id": range(rows), "device": ["Tablet"] * rows, "att1": [0] * rows, **columns}), out, row_group_size=group
    )
    bucket.write(path, out.getvalue())


def text_of(folder, files, chunks, slices) -> bytes:
    """The rows of all csv chunks, read where the plan says they lie."""
    found = b""
    for chunk in chunks:
        file = files[chunk.file]
        if file.kind == "csv.gz":
            data = folder.bucket.read(slice_file(folder, slices, chunk))
            assert len(data) == chunk.end - chunk.start
        else:
            data = folder.bucket.read(file.path)[chunk.start : chunk.end]
        found += data
    return found


def cut_table(folder, table, chunk_rows, slices, ready=lambda _: None):
    """Finds the files of a table and cuts it."""
    files = planning.find_table(folder.bucket, table)
    begun = PinnedInputs(job_id=folder.job_id, release="v1@20261123T101500Z-9bfad3", slices=slices, files=files)
    return planning.cut_table(folder, begun, chunk_rows, ready)


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz", "table.parquet"])
def test_chunks_are_ready_while_the_table_is_still_being_cut(folder, bucket, name):
    body = numbered(300_000)
    if name.endswith("parquet"):
        put_parquet(bucket, f"data/{name}", 300_000, 50_000)
    else:
        bucket.write(f"data/{name}", gzip.compress(HEADER + body) if name.endswith("gz") else HEADER + body)
    announced = []

    def ready(chunks):
        announced.append(list(chunks))
        if name.endswith("gz"):
            assert all(bucket.exists(slice_file(folder, "abc", chunk)) for chunk in chunks), "a slice is not there yet"

    _, chunks = cut_table(folder, f"data/{name}", None, "abc", ready)
    assert announced[-1] == chunks
    assert all(before == after[: len(before)] for before, after in pairwise(announced))
    if not name.endswith("parquet"):
        assert len(announced[len(announced) // 2]) < len(chunks)


def test_a_table_that_is_changed_while_it_is_cut_is_refused(folder, bucket):
    bucket.write("data/table.csv", HEADER + numbered(300_000))
    with pytest.raises(TableError, match=r"data/table\.csv was changed or removed"):
        cut_table(folder, "data/table.csv", None, "abc", lambda *_: bucket.write("data/table.csv", HEADER + numbered(3)))


def test_a_csv_table_is_planned_where_it_lies(folder, bucket):
    body = numbered(300_000)
    bucket.write("data/table.csv", HEADER + body)
    files, chunks = cut_table(folder, "data/table.csv", None, "abc")
    assert [(file.path, file.kind, file.columns) for file in files] == [("data/table.csv", "csv", ["entity_id", "device", "att1"])]
    assert files[0].digest.sha256 == hashlib.sha256(HEADER + body).hexdigest()
    assert files[0].digest.size == len(HEADER + body)
    assert files[0].stamp == bucket.stat("data/table.csv").stamp
    assert len(chunks) > 3
    assert chunks[0].start == len(HEADER)
    assert all(before.end == after.start for before, after in pairwise(chunks))
    assert text_of(folder, files, chunks, "abc") == body
    assert bucket.folders(folder.path) == [], "nothing is copied"


def test_a_compressed_table_is_planned_into_slices(folder, bucket):
    body = numbered(300_000)
    bucket.write("data/table.csv.gz", gzip.compress(HEADER + body))
    files, chunks = cut_table(folder, "data/table.csv.gz", None, "abc")
    assert files[0].digest.sha256 == hashlib.sha256(bucket.read("data/table.csv.gz")).hexdigest()
    assert len(chunks) > 3
    assert text_of(folder, files, chunks, "abc") == body
    assert len(bucket.files(folder.file("slices/abc"))) == len(chunks)


@pytest.mark.parametrize("at_once", [1, 3])
def test_files_that_are_cut_side_by_side_give_the_chunks_of_one_after_another(folder, bucket, at_once, monkeypatch):
    monkeypatch.setattr(planning, "MOST_FILES_AT_ONCE", at_once)
    texts = [numbered(20 + 7 * number) for number in range(7)]
    for number, text in enumerate(texts):
        kind = ("csv", "csv.gz")[number % 2]
        bucket.write(f"data/all/{number}.{kind}", gzip.compress(HEADER + text) if kind == "csv.gz" else HEADER + text)
    put_parquet(bucket, "data/all/7.parquet", 40, 10)
    announced = []
    files, chunks = cut_table(folder, "data/all", 6, "abc", lambda chunks: announced.append(len(chunks)))
    assert text_of(folder, files, [chunk for chunk in chunks if chunk.file < 7], "abc") == b"".join(texts)
    bounds = [0, 6, 10, 16, 20, 26, 30, 36, 40]
    assert [(chunk.start, chunk.end) for chunk in chunks if chunk.file == 7] == list(pairwise(bounds))
    assert [chunk.file for chunk in chunks] == sorted(chunk.file for chunk in chunks)
    assert [file.rows_at_most for file in files] == [*(20 + 7 * number for number in range(7)), 40]
    assert [count for count, _ in itertools.groupby(announced)] == sorted(set(announced))
    assert announced[-1] == len(chunks)
    # those of a Parquet file are known at once, and its digest takes its time
    assert sorted(set(announced))[-2] == len([chunk for chunk in chunks if chunk.file < 7])


def test_a_broken_file_in_a_folder_is_named_and_the_others_stop(folder, bucket, monkeypatch):
    monkeypatch.setattr(planning, "MOST_FILES_AT_ONCE", 3)
    for number in range(5):
        packed = gzip.compress(HEADER + numbered(2000))
        bucket.write(f"data/all/{number}.csv.gz", packed[: len(packed) // 2] if number == 1 else packed)
    with pytest.raises(TableError, match=r"data/all/1\.csv\.gz is not a whole gzip file"):
        cut_table(folder, "data/all", 6, "abc")
    slices = [info.path.rpartition("/")[2] for info in bucket.files(folder.file("slices/abc"))]
    assert not [name for name in slices if name.startswith("000004")], "a file after it was begun"


def test_a_folder_is_planned_file_by_file_in_the_order_of_names(folder, bucket):
    bucket.write("data/all/b.csv", HEADER + numbered(5, 5))
    bucket.write("data/all/a.csv.gz", gzip.compress(b"device,att1,entity_id\r\nTablet,0,77\r\n"))
    bucket.write("data/all/c.csv", HEADER)
    put_parquet(bucket, "data/all/d.PARQUET", 3)
    bucket.write("data/all/notes.txt", b"not a table")
    bucket.write("data/all/deeper/e.txt", b"no table either")
    files, chunks = cut_table(folder, "data/all", 2, "abc")
    assert [(file.path, file.kind) for file in files] == [
        ("data/all/a.csv.gz", "csv.gz"),
        ("data/all/b.csv", "csv"),
        ("data/all/c.csv", "csv"),
        ("data/all/d.PARQUET", "parquet"),
    ]
    assert [chunk.file for chunk in chunks] == [0, 1, 1, 1, 3, 3]
    assert [chunk.first_line for chunk in chunks] == [2, 2, 4, 6, 1, 3]
    assert files[0].columns == ["device", "att1", "entity_id"]


@given(rows=st.integers(1, 60), group=st.integers(1, 30), chunk_rows=st.none() | st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_parquet_cuts_cover_all_rows_once_whole_groups_together_and_larger_ones_in_pieces(tmp_path_factory, rows, group, chunk_rows):
    bucket = LocalBucket(tmp_path_factory.mktemp("bucket"))
    put_parquet(bucket, "t.parquet", rows, group)
    files, chunks = cut_table(JobFolder(bucket, "abc"), "t.parquet", chunk_rows, "abc")
    assert [row for chunk in chunks for row in range(chunk.start, chunk.end)] == list(range(rows))
    for chunk in chunks:
        several = chunk.start // group != (chunk.end - 1) // group
        assert not several or (chunk.start % group == 0 and (chunk.end % group == 0 or chunk.end == rows))
        assert not several or chunk.end - chunk.start <= (chunk_rows or rows)
    assert all(chunk.first_line == chunk.start + 1 for chunk in chunks)
    assert files[0].digest.sha256 == hashlib.sha256(bucket.read("t.parquet")).hexdigest()


def test_small_row_groups_go_together_and_fewer_towards_the_end(bucket):
    put_parquet(bucket, "t.parquet", 1_000_000, 20_000)
    with bucket.open("t.parquet") as raw:
        cuts = parquet_cuts.parquet_cuts(pq.read_metadata(raw), None)
    rows = [end - start for start, end in cuts]
    assert rows[0] == 80_000
    assert rows[-1] == 20_000
    assert rows == sorted(rows, reverse=True)
    assert max(rows) <= parquet_cuts.MAX_CHUNK_ROWS


@given(groups=st.lists(st.integers(0, 40_000), min_size=1, max_size=60), chunk_rows=st.none() | st.integers(1, 200_000))
@settings(max_examples=100, deadline=None)
def test_cuts_of_row_groups_of_any_size_tile_the_table(groups, chunk_rows):
    found = SimpleNamespace(
        num_rows=sum(groups),
        num_row_groups=len(groups),
        row_group=lambda group: SimpleNamespace(num_rows=groups[group]),
        schema=SimpleNamespace(to_arrow_schema=lambda: pa.schema({"entity_id": pa.int64(), "device": pa.string()})),
    )
    cuts = parquet_cuts.parquet_cuts(found, chunk_rows)
    assert [start for start, _ in cuts] == [0, *(end for _, end in cuts)][: len(cuts)]
    assert sum(end - start for start, end in cuts) == sum(groups)
    assert all(start < end for start, end in cuts)
    # not more than the pieces of large groups, and chunks of two groups that are too large for one
    most = min(chunk_rows or parquet_cuts.MAX_CHUNK_ROWS, parquet_cuts.MAX_CHUNK_ROWS)
    if chunk_rows is None:
        assert len(cuts) <= 2 + 2 * sum(groups) / parquet_cuts.MIN_CHUNK_ROWS
    assert all(end - start <= max(most, -(-max(groups) // parquet_cuts.MAX_GROUP_PIECES)) for start, end in cuts)


def cuts_of(rows, group, place=parquet_cuts.ALONE, chunk_rows=None):
    groups = [min(group, rows - start) for start in range(0, rows, group)]
    found = SimpleNamespace(num_rows=rows, num_row_groups=len(groups), row_group=lambda number: SimpleNamespace(num_rows=groups[number]))
    return [end - start for start, end in parquet_cuts.parquet_cuts(found, chunk_rows, place)]


AS_PANDAS_WRITES = 1 << 20


def test_large_row_groups_are_whole_chunks_and_pieces_only_where_the_table_would_have_too_few_and_towards_the_end():
    assert cuts_of(1_000_000, AS_PANDAS_WRITES) == [250_000] * 4
    assert cuts_of(60_000, AS_PANDAS_WRITES) == [20_000] * 3
    assert cuts_of(30_000, AS_PANDAS_WRITES) == [30_000]
    many = cuts_of(100 * AS_PANDAS_WRITES, AS_PANDAS_WRITES)
    assert many[:192] == [AS_PANDAS_WRITES // 2] * 192
    assert many[-4:] == [AS_PANDAS_WRITES // 4] * 4
    assert many == sorted(many, reverse=True)
    # so large a group would be too much for one process, and each piece of it decodes what lies before
    assert cuts_of(64 * AS_PANDAS_WRITES, 64 * AS_PANDAS_WRITES) == [4 * AS_PANDAS_WRITES] * 16
    # as large a chunk as was asked for, but no larger than one may be
    assert cuts_of(2_000_000, 2_000_000, chunk_rows=10**9) == [AS_PANDAS_WRITES // 2] * 3 + [2_000_000 - 3 * AS_PANDAS_WRITES // 2]


def test_a_file_of_a_folder_is_cut_as_a_part_of_its_table():
    first, middle, last = (parquet_cuts.ShareOfTable(before=before, after=99 - before) for before in (0, 50, 99))
    assert cuts_of(1_000_000, AS_PANDAS_WRITES, first) == cuts_of(1_000_000, AS_PANDAS_WRITES, middle) == [500_000] * 2
    assert cuts_of(1_000_000, AS_PANDAS_WRITES, last) == [250_000] * 4
    assert cuts_of(200_000, 50_000, first) == [100_000] * 2
    assert cuts_of(200_000, 50_000) == [50_000] * 4


def test_where_a_file_stands_in_its_folder_is_estimated_from_the_sizes(folder, bucket):
    for name in "abcdefgh":
        put_parquet(bucket, f"data/{name}.parquet", 100_000)
    _, chunks = cut_table(folder, "data", None, "abc")
    rows = {name: [chunk.end - chunk.start for chunk in chunks if chunk.file == place] for place, name in enumerate("abcdefgh")}
    assert rows["a"] == rows["h"] == [100_000]
    _, alone = cut_table(JobFolder(bucket, "alone"), "data/a.parquet", None, "abc")
    assert len(alone) == 4


def test_of_wide_columns_fewer_rows_are_read_together(bucket):
    numbers = {f"number{place}": [0.5] * 60_000 for place in range(60)}
    put_parquet(bucket, "t.parquet", 60_000, 10_000, **numbers)
    with bucket.open("t.parquet") as raw:
        found = pq.read_metadata(raw)
    assert parquet_cuts.rows_at_once(found) < 70_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_cuts, "MAX_VALUES_BYTES", 15_000 * 62 * 8)
        assert 14_000 < parquet_cuts.rows_at_once(found) < 16_000


def test_a_row_group_is_not_decoded_for_every_row_of_it(folder, bucket):
    put_parquet(bucket, "t.parquet", 1000)
    _, chunks = cut_table(folder, "t.parquet", 1, "abc")
    assert len(chunks) <= parquet_cuts.MAX_GROUP_PIECES


@pytest.mark.parametrize("name", ["t.csv", "t.CSV", "t.csv.gz", "t.Csv.Gz", "t.parquet", "t.pq", "a.csv.parquet"])
def test_a_table_is_known_by_its_ending(bucket, name):
    bucket.write(f"data/{name}", b"anything")
    ((info, kind),) = find_files(bucket, f"data/{name}")
    assert info.path == f"data/{name}"
    assert kind in ("csv", "csv.gz", "parquet")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("data/nothing.csv", "there is no table data/nothing.csv in the bucket"),
        ("nowhere", "there is no table nowhere in the bucket"),
        ("data/image.png", "data/image.png is not a table"),
        ("data", "there is no table data, but there is one in its folder deeper/more"),
        ("data/deeper", "there is no table data/deeper, but there is one in its folder more"),
        ("empty", "the folder empty holds no table"),
        ("data/image.png/x.csv", "there is no table"),
    ],
)
def test_a_path_without_a_table_is_refused(folder, bucket, path, says):
    bucket.write("data/image.png", PNG)
    bucket.write("data/deeper/more/a.csv", HEADER)
    bucket.write("empty/image.png", PNG)
    with pytest.raises(TableError, match=says) as caught:
        cut_table(folder, path, None, "abc")
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv.gz", b"", "is empty"),
        ("t.csv.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("t.parquet", b"", "is not a Parquet file"),
        ("t.csv", HEADER, "has a header but no rows"),
        ("t.csv.gz", gzip.compress(HEADER, mtime=0), "has a header but no rows"),
        ("t.csv", HEADER + b'1,"Tablet\n2,Tablet,0\n', "has a quote on line 2 that is never closed"),
        ("t.csv", HEADER + b"\r\n\n\n", "has a header but no rows"),
        ("t.parquet", HEADER + b"1,2,3\n", "is not a Parquet file"),
        ("t.parquet", b"PAR1" + b"\0" * 100 + b"PAR1", "is not a Parquet file"),
        ("t.csv", PNG, "is not a csv table"),
        ("t.csv", b"\0\1\2\3" * 1000, "is not a csv table"),
        ("t.csv.gz", PNG, "is not a whole gzip file"),
    ],
)
def test_a_table_that_is_none_is_refused(folder, bucket, name, data, says):
    bucket.write(f"data/{name}", data)
    with pytest.raises(TableError, match=f"^data/{name}.* {says}") as caught:
        cut_table(folder, f"data/{name}", None, "abc")
    assert caught.value.next_step
    assert "\n" not in str(caught.value)


def test_one_bad_file_of_a_folder_is_named(folder, bucket):
    bucket.write("data/all/a.csv", HEADER + numbered(3))
    bucket.write("data/all/b.csv.gz", gzip.compress(HEADER + numbered(3))[:-5])
    with pytest.raises(TableError, match=r"^data/all/b\.csv\.gz is not a whole gzip file"):
        cut_table(folder, "data/all", None, "abc")


def test_a_parquet_file_cut_short_anywhere_is_refused(folder, bucket):
    put_parquet(bucket, "whole.parquet", 10)
    whole = bucket.read("whole.parquet")
    for length in range(0, len(whole), 7):
        bucket.write("t.parquet", whole[:length])
        with pytest.raises(TableError, match=r"^t\.parquet is not a Parquet file"):
            cut_table(folder, "t.parquet", None, "abc")


def test_a_parquet_file_without_rows_or_columns_is_refused(folder, bucket):
    put_parquet(bucket, "empty.parquet", 0)
    with pytest.raises(TableError, match="has a header but no rows"):
        cut_table(folder, "empty.parquet", None, "abc")
    out = io.BytesIO()
    pq.write_table(pa.table({}), out)
    bucket.write("none.parquet", out.getvalue())
    with pytest.raises(TableError, match="has no columns"):
        cut_table(folder, "none.parquet", None, "abc")
