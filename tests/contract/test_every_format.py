"""Every format of tables keeps the same promises: one suite, inherited by each format."""

import csv
import gzip
import hashlib
import io
import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_store.check_table import _read
from model_store.library import ModelLibrary
from producers.results.rejects import find_rejects, write_rows
from shared.bucket.local import LocalBucket
from shared.errors import StaleMessageError, TableError
from shared.table_files import ENDINGS, TEXT_FORMS, FileKind, find_files, kind_of
from tests.handmade import FEATURES, HEADER, make_job, plan, publish_handmade, row, run_job, score_chunks, text_at
from workers.scoring import planning, publishing
from workers.scoring.chunks import chunk
from workers.scoring.plan import read_pinned_inputs, read_plan
from workers.tables import compression
from workers.tables.chunk_size import ChunkSize
from workers.tables.compression import UnpackedLimit
from workers.tables.csv.dialects import COMMAS, TABS
from workers.tables.csv.records import record_ends
from workers.tables.formats import FORMATS, ChunkRecords, ChunkSource, format_of
from workers.tables.parquet.cuts import ALONE
from workers.tables.schema import TableSchema, table_schema_for
from workers.tables.streams import Hashing
from workers.tables.training.table import read_training_table

ROWS = 45
COLUMNS = HEADER.split(",")
RECORDS = [row(number).split(",") for number in range(ROWS)]

BAD = {
    3: (1, "att1", "x"),
    4: (5, "device", "Watch"),
    17: (4, "length", "a, b"),
    18: (4, "length", "a\tb"),
    31: (5, "device", 'a "quoted", thing'),
    ROWS - 1: (0, "entity_id", "no id"),
}
"""Number of a row -> the place and name of a column, and what stands there instead of the right value."""

LIMIT = {"max_reject_share": 0.5}


def with_bad_values(records: Sequence[Sequence[str]]) -> list[list[str]]:
    found = [list(record) for record in records]
    for number, (place, _, value) in BAD.items():
        found[number][place] = value
    return found


def csv_text(records: Sequence[Sequence[str]], separator: str = ",", columns: Sequence[str] = COLUMNS) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=separator, lineterminator="\n").writerows([columns, *records])
    return out.getvalue().encode()


def read_rejects(bucket: LocalBucket, job_id: str) -> list[tuple[int, str, str, str]]:
    return [(reject.line, reject.column, reject.value, reject.reason) for reject in find_rejects(bucket, job_id)[1]]


@pytest.fixture(scope="module")
def right_text(tmp_path_factory) -> str:
    """The result of the right table, scored from csv."""
    bucket = LocalBucket(tmp_path_factory.mktemp("right"))
    publish_handmade(bucket)
    bucket.write("right.csv", csv_text(RECORDS))
    return text_at(bucket, run_job(make_job(bucket, table="right.csv")).result)


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    return bucket


class EveryFormat:
    """The promises; a format says how a table is written in it, and what damage is."""

    ending: str
    header_lines = 1
    """Lines before the first row."""

    def packed(self, records: Sequence[Sequence[str]], columns: Sequence[str] = COLUMNS) -> bytes:
        """A file with these values."""
        raise NotImplementedError

    def damaged(self) -> Iterator[bytes]:
        """Files that are no whole table."""
        raise NotImplementedError

    @property
    def form(self):
        return format_of(kind_of(f"t{self.ending}"))

    def put(self, bucket: LocalBucket, records: Sequence[Sequence[str]], name: str = "table") -> str:
        path = f"data/{name}{self.ending}"
        bucket.write(path, self.packed(records))
        return path

    @pytest.mark.parametrize("chunk_rows", [1, 7, None])
    def test_the_result_is_the_same_text_for_every_chunk_size(self, bucket, right_text, chunk_rows):
        folder = make_job(bucket, table=self.put(bucket, RECORDS), chunk_rows=chunk_rows)
        outcome = run_job(folder)
        assert text_at(bucket, outcome.result) == right_text
        assert int(outcome.facts["scored"]) == ROWS

    def test_the_plan_has_the_digest_and_the_count_of_the_file(self, bucket):
        data = self.packed(RECORDS)
        path = self.put(bucket, RECORDS)
        (file,) = plan(make_job(bucket, table=path, chunk_rows=20)).files
        assert file.digest.sha256 == hashlib.sha256(data).hexdigest()
        assert file.digest.size == len(data)
        assert file.columns == COLUMNS
        assert file.kind == self.form.kind
        assert file.rows_at_most == ROWS

    @pytest.mark.parametrize("seed", range(6))
    def test_a_file_is_cut_anywhere_and_read_chunk_by_chunk(self, bucket, seed):
        """Values with both separators, quotes and line ends in them; chunks of any number of bytes and rows."""
        chance = random.Random(seed)
        notes = ["", "a,b", "a\tb", 'say "x"', "two\nlines", '"', ",", "ü"]
        records = [[*record, chance.choice(notes)] for record in RECORDS[:25]]
        columns = [*COLUMNS, "note"]
        data = self.packed(records, columns)
        path = f"data/cut{self.ending}"
        bucket.write(path, data)
        table_schema = table_schema_for(path, columns, FEATURES)
        whole = self._rows_of(bucket, path, data, table_schema, ChunkSize(bytes=1 << 20, rows=None))
        assert whole["entity_id"].tolist() == [int(record[0]) for record in records]
        size = ChunkSize(bytes=chance.randint(1, 400), rows=chance.choice([None, 1, 3, 10]))
        pd.testing.assert_frame_equal(self._rows_of(bucket, path, data, table_schema, size), whole)

    def _rows_of(self, bucket: LocalBucket, path: str, data: bytes, table_schema: TableSchema, size: ChunkSize) -> pd.DataFrame:
        raw = io.BytesIO(data)
        hashed = Hashing(raw)
        frames, end = [], None
        for cut in itertools.chain.from_iterable(self.form.cut(raw, hashed, path, size, ALONE, UnpackedLimit([len(data)]))):
            assert end is None or cut.start >= end
            assert self.form.may_be_chunk(cut.start, cut.end)
            assert (cut.text is not None) == self.form.is_compressed
            end, text = cut.end, bytes(cut.text or b"")
            place = ChunkSource(
                bucket=bucket,
                path=path,
                version=str(len(data)),
                start=cut.start,
                end=cut.end,
                first_line=cut.first_line,
                opened=lambda: bucket.open(path),
                unpacked=lambda text=text: text,
            )
            with self.form.open_chunk(place, table_schema) as chunk_records:
                frames.append(self._in_ranges(chunk_records))
        assert hashed.digest().sha256 == hashlib.sha256(data).hexdigest()
        return pd.concat(frames, ignore_index=True)

    @staticmethod
    def _in_ranges(chunk_records: ChunkRecords) -> pd.DataFrame:
        """The rows of a chunk, which are the same when they are read one by one."""
        frames = []
        for start, end in chunk_records.ranges():
            rows = chunk_records.rows(start, end)
            assert not rows.rejects
            frames.append(rows.frame.assign(device=rows.device))
        one_by_one = [chunk_records.rows(record, record + 1).frame for record in range(chunk_records.count())]
        together = pd.concat(frames, ignore_index=True)
        pd.testing.assert_frame_equal(pd.concat(one_by_one, ignore_index=True), together.drop(columns="device"), check_dtype=False)
        return together

    def test_a_row_that_cannot_be_scored_is_a_reject_with_line_column_value_and_reason(self, bucket):
        folder = make_job(bucket, table=self.put(bucket, with_bad_values(RECORDS)), chunk_rows=7, **LIMIT)
        assert int(run_job(folder).facts["scored"]) == ROWS - len(BAD)
        bucket.write("data/plain.csv", csv_text(with_bad_values(RECORDS)))
        plain = make_job(bucket, minute=1, table="data/plain.csv", **LIMIT)
        run_job(plain)
        found = read_rejects(bucket, folder.job_id)
        assert [(line - 1 - self.header_lines, column, value) for line, column, value, _ in found] == [
            (number, column, value) for number, (_, column, value) in BAD.items()
        ]
        assert [reason for *_, reason in found] == [reason for *_, reason in read_rejects(bucket, plain.job_id)]
        assert all(reason for *_, reason in found)

    @pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
    def test_rejects_are_written_out_corrected_and_fixed(self, bucket, right_text, tmp_path, name):
        folder = make_job(bucket, table=self.put(bucket, with_bad_values(RECORDS)), chunk_rows=7, **LIMIT)
        run_job(folder)
        out = tmp_path / name
        assert write_rows(bucket, find_rejects(bucket, folder.job_id)[1], out) == len(BAD)
        separator = "\t" if name.endswith(".tsv") else ","
        header, *rows = csv.reader(io.StringIO(out.read_text(), newline=""), delimiter=separator)
        assert header[-len(COLUMNS) :] == COLUMNS
        for written, (number, (place, _, value)) in zip(rows, BAD.items(), strict=True):
            own = written[-len(COLUMNS) :]
            assert own == [*RECORDS[number][:place], value, *RECORDS[number][place + 1 :]]
            written[len(header) - len(COLUMNS) + place] = RECORDS[number][place]
        bucket.write(name, csv_text(rows, separator, header))
        more = {"table": folder.score_job().table, "fixes": folder.job_id, "fixed_rows": name}
        assert text_at(bucket, run_job(make_job(bucket, minute=1, **more, **LIMIT)).result) == right_text

    def test_a_chunk_is_read_again_when_what_was_unpacked_is_gone(self, bucket, right_text):
        folder = make_job(bucket, table=self.put(bucket, RECORDS), chunk_rows=11)
        plan(folder)
        bucket.delete_folder(folder.file("slices"))
        score_chunks(folder, Path(bucket.url) / "no-cache")
        assert text_at(bucket, publishing.finish_job(folder).result) == right_text

    def training_records(self) -> tuple[list[list[str]], list[str]]:
        chance = random.Random(5)
        notes = ["tv, 32 inch", "tv\t32", 'a "b"', "plain"]
        return [
            [*record, notes[number % 4], str(clicks := chance.randint(1, 40)), str(chance.randint(0, clicks))]
            for number, record in enumerate(RECORDS)
        ], [*COLUMNS, "keyword", "Clicks", "Conversions"]

    def test_a_table_is_trained_on(self, bucket):
        records, columns = self.training_records()
        frames = []
        for path, data in (
            (f"data/train{self.ending}", self.packed(records, columns)),
            ("data/plain.csv", csv_text(records, columns=columns)),
        ):
            bucket.write(path, data)
            table = read_training_table(bucket, path, None, text=["keyword"])
            assert table.fingerprint.files[path].sha256 == hashlib.sha256(data).hexdigest()
            frames.append(table.frame)
        pd.testing.assert_frame_equal(frames[0], frames[1])
        assert frames[0]["keyword"].tolist() == [record[-3] for record in records]

    def test_what_is_left_out_of_a_training_is_named_and_weighed(self, bucket):
        records, columns = self.training_records()
        records[7][1] = "x"
        path = f"data/train{self.ending}"
        bucket.write(path, self.packed(records, columns))
        table = read_training_table(bucket, path, None, text=["keyword"], max_left_out=0.5)
        assert len(table.frame) == ROWS - 1
        (first,) = table.audit.first_left_out
        assert first.startswith(f"line {7 + 1 + self.header_lines}, column att1: 'x'")
        clicks = [int(record[-2]) for record in records]
        assert table.audit.left_out_share == pytest.approx(clicks[7] / sum(clicks))

    def test_a_folder_holds_this_format_among_others(self, bucket, right_text):
        bucket.write("data/many/a.csv", csv_text(RECORDS[:10]))
        bucket.write(f"data/many/b{self.ending}", self.packed(RECORDS[10:35]))
        bucket.write("data/many/c.csv", csv_text(RECORDS[35:]))
        assert text_at(bucket, run_job(make_job(bucket, table="data/many", chunk_rows=9)).result) == right_text

    def test_one_table_in_two_formats_is_refused(self, bucket):
        other = ".csv" if self.ending != ".csv" else ".parquet"
        bucket.write(f"data/two/a{self.ending}", self.packed(RECORDS))
        bucket.write(f"data/two/a{other}", b"")
        with pytest.raises(TableError, match=r"the folder data/two holds one table twice: a\S+ and a\S+\. Remove one of them"):
            find_files(bucket, "data/two")

    def test_a_damaged_file_is_refused_in_one_sentence(self, bucket):
        for number, data in enumerate(self.damaged()):
            path = f"data/damaged-{number}{self.ending}"
            bucket.write(path, data)
            for use in (lambda path=path, number=number: self._score(bucket, path, number), lambda path=path: self._train(bucket, path)):
                with pytest.raises(TableError) as refused:
                    use()
                assert refused.value.message.startswith(path), refused.value.message
                assert "\n" not in str(refused.value)
                assert refused.value.next_step

    @staticmethod
    def _score(bucket: LocalBucket, path: str, number: int) -> None:
        run_job(make_job(bucket, minute=number, table=path, **LIMIT))

    @staticmethod
    def _train(bucket: LocalBucket, path: str) -> None:
        read_training_table(bucket, path, None)

    def test_an_empty_file_and_a_header_alone_are_refused(self, bucket):
        bucket.write(f"data/empty{self.ending}", b"")
        bucket.write(f"data/header{self.ending}", self.packed([]))
        for minute, name in enumerate(["empty", "header"]):
            with pytest.raises(TableError, match=f"data/{name}{self.ending} "):
                plan(make_job(bucket, minute=minute, table=f"data/{name}{self.ending}"))

    def test_a_chunk_beyond_the_file_is_stray(self, bucket):
        if self.form.is_compressed:
            pytest.skip("its chunks are read from slices, each of which says how long it is")
        folder = make_job(bucket, table=self.put(bucket, RECORDS))
        plan(folder)
        with pytest.raises(StaleMessageError):
            chunk.score_chunk(folder, read_pinned_inputs(folder).chunk(0, (0, 0, 1 << 20, 1)), ModelLibrary(folder.bucket, bucket.root))

    def test_the_checks_of_a_definition_read_it(self, tmp_path):
        file = tmp_path / f"table{self.ending}"
        file.write_bytes(self.packed(RECORDS))
        assert _read(file).astype(str).to_numpy().tolist() == RECORDS


class EveryText(EveryFormat):
    """A format of text."""

    separator = ","

    def packed(self, records: Sequence[Sequence[str]], columns: Sequence[str] = COLUMNS) -> bytes:
        return self.compressed(csv_text(records, self.separator, columns))

    def compressed(self, text: bytes) -> bytes:
        return text

    def damaged(self) -> Iterator[bytes]:
        yield self.compressed(csv_text(RECORDS, self.separator) + self._open_quote())
        yield self.compressed(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")

    def _open_quote(self) -> bytes:
        fields = ["77", "0", "0", "0", '"1', "Tablet"]
        return f"{self.separator.join(fields)}\n{self.separator.join(RECORDS[0])}\n".encode()

    def test_a_wide_table_is_read_by_the_quick_way_as_by_the_slow_one(self, bucket):
        columns = ["entity_id", *(f"att{number}" for number in range(1, 21)), "length", "device"]
        chance = np.random.default_rng(3)
        records = [[str(number), *map(str, chance.integers(0, 2, 20)), "1.5", "Tablet"] for number in range(50)]
        data = csv_text(records, self.separator, columns).partition(b"\n")[2]
        table_schema = table_schema_for("t", columns, [feature for feature in FEATURES if feature.name != "att4"])
        quick = self._piece(data, table_schema)
        slow = self._piece(data.replace(b"Tablet", b'"Tablet"', 1), table_schema)
        pd.testing.assert_frame_equal(quick, slow)

    def _piece(self, data: bytes, table_schema: TableSchema) -> pd.DataFrame:
        place = {"bucket": None, "path": "t", "version": "", "start": 0, "end": len(data), "first_line": 2}
        chunk = ChunkSource(**place, opened=lambda: io.BytesIO(data), unpacked=lambda: data)
        with self.form.open_chunk(chunk, table_schema) as chunk_records:
            return chunk_records.rows().frame

    def test_another_separator_is_refused_with_what_to_do(self, bucket):
        other = {",": "\t", "\t": ","}[self.separator]
        path = f"data/other{self.ending}"
        bucket.write(path, self.compressed(csv_text(RECORDS, other)))
        name = {",": "commas", "\t": "tabs"}[self.separator]
        with pytest.raises(TableError, match=f"Its columns must be separated by {name}"):
            plan(make_job(bucket, table=path))


class EveryCompressed(EveryText):
    """A format of compressed text."""

    def damaged(self) -> Iterator[bytes]:
        yield from super().damaged()
        whole = self.packed(RECORDS)
        yield from (whole[:length] for length in sorted({1, 5, 11, 40, len(whole) // 2, len(whole) - 1}))
        yield whole + b"trailing"
        yield csv_text(RECORDS, self.separator)
        yield self.compressed(whole)

    def test_members_end_to_end_are_one_table(self, bucket, right_text):
        text = csv_text(RECORDS, self.separator)
        path = f"data/members{self.ending}"
        bucket.write(path, self.compressed(text[:501]) + self.compressed(b"") + self.compressed(text[501:]))
        assert text_at(bucket, run_job(make_job(bucket, table=path)).result) == right_text

    def test_a_file_that_unpacks_to_too_much_is_refused_and_leaves_no_slice(self, bucket, monkeypatch):
        monkeypatch.setattr(compression, "ALWAYS_ALLOWED_BYTES", 1 << 20)
        path = self.put(bucket, [RECORDS[0]] * 100_000)
        folder = make_job(bucket, table=path)
        with pytest.raises(TableError, match=rf"{path} unpacks to more than the \d+ MB .* SCORING_MAX_UNPACKED_RATIO"):
            planning.plan_job(folder, max_unpacked_ratio=2)
        assert not bucket.folders(folder.file("slices"))
        assert planning.plan_job(make_job(bucket, minute=1, table=path), max_unpacked_ratio=1_000_000).rows_at_most == 100_000

    def test_training_refuses_a_file_that_unpacks_to_too_much(self, bucket, monkeypatch):
        monkeypatch.setattr(compression, "ALWAYS_ALLOWED_BYTES", 1 << 20)
        monkeypatch.setattr(UnpackedLimit.__init__, "__defaults__", (1,))
        records, columns = self.training_records()
        path = f"data/train{self.ending}"
        bucket.write(path, self.packed(records * 800, columns))
        with pytest.raises(TableError, match=rf"{path} unpacks to more than the 1 MB"):
            read_training_table(bucket, path, None, text=["keyword"])

    def test_slices_are_removed_with_the_job_and_the_fix_reads_the_file_itself(self, bucket, right_text):
        path = self.put(bucket, with_bad_values(RECORDS))
        folder = make_job(bucket, table=path, chunk_rows=7, **LIMIT)
        run_job(folder)
        bucket.delete_folder(folder.file("slices"))
        rows = [[path, str(number + 2), *RECORDS[number]] for number in BAD]
        bucket.write(f"fixed{self.ending}", self.compressed(csv_text(rows, self.separator, ["reject_file", "reject_line", *COLUMNS])))
        more = {"table": path, "fixes": folder.job_id, "fixed_rows": f"fixed{self.ending}"}
        assert text_at(bucket, run_job(make_job(bucket, minute=1, **more, **LIMIT)).result) == right_text


class TestCsv(EveryText):
    ending = ".csv"


class TestCsvGz(EveryCompressed):
    ending = ".csv.gz"

    def compressed(self, text: bytes) -> bytes:
        return gzip.compress(text)


class TestCsvZst(EveryCompressed):
    ending = ".csv.zst"

    def compressed(self, text: bytes) -> bytes:
        return pa.Codec("zstd").compress(text, asbytes=True)


class TestTsv(EveryText):
    ending = ".tsv"
    separator = "\t"


class TestTsvGz(TestCsvGz):
    ending = ".tsv.gz"
    separator = "\t"


class TestParquet(EveryFormat):
    ending = ".parquet"
    header_lines = 0

    def packed(self, records: Sequence[Sequence[str]], columns: Sequence[str] = COLUMNS) -> bytes:
        frame = pd.DataFrame([list(record) for record in records], columns=list(columns), dtype="str")
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pandas(frame), out, row_group_size=16)
        return out.getvalue()

    def damaged(self) -> Iterator[bytes]:
        whole = self.packed(RECORDS)
        yield from (whole[:length] for length in (1, 5, len(whole) // 2, len(whole) - 1))
        yield whole[: len(whole) // 3] + bytes(len(whole) // 10) + whole[len(whole) // 3 + len(whole) // 10 :]
        yield csv_text(RECORDS)


@given(
    st.lists(st.lists(st.text(st.sampled_from('01x,"\n\r '), max_size=4), min_size=2, max_size=4).map(",".join), max_size=8),
    st.integers(1, 60),
)
@settings(max_examples=300, deadline=None)
def test_tab_separated_text_is_cut_and_read_as_the_same_text_with_commas(lines, size):
    """Whatever is typed: stray quotes, lines of any number of values, line ends within values."""
    head, body = "entity_id,att1,device\n1,0,Tablet\n", "\n".join(lines)
    columns = ["entity_id", "att1", "device"]
    table_schema = table_schema_for("t", columns, [column for column in FEATURES if column.name in ("computer", "smartphone", "att1")])
    found = []
    for kind, text in (("csv", head + body), ("tsv", (head + body).replace(",", "\t"))):
        raw = io.BytesIO(text.encode())
        try:
            cuts = itertools.chain.from_iterable(
                format_of(kind).cut(raw, Hashing(raw), "t", ChunkSize(bytes=size, rows=None), ALONE, UnpackedLimit([]))
            )
            places = [(cut.start, cut.end, cut.first_line) for cut in cuts]
            found.append((places, *(_plain(kind, text.encode(), table_schema, *place) for place in places)))
        except TableError as error:
            found.append(error.message)
    assert found[0] == found[1]


def _plain(kind: FileKind, text: bytes, table_schema: TableSchema, start: int, end: int, first_line: int) -> tuple[object, ...]:
    """The rows and rejects of a chunk, with commas where tabs stand."""
    place = ChunkSource(
        bucket=None,
        path="t",
        version="",
        start=start,
        end=end,
        first_line=first_line,
        opened=lambda: io.BytesIO(text),
        unpacked=lambda: b"",
    )
    with format_of(kind).open_chunk(place, table_schema) as chunk_records:
        rows = chunk_records.rows()
        rejects = [(reject.line, reject.column, reject.value.replace("\t", ","), reject.reason) for reject in rows.rejects]
        return chunk_records.count(), rows.frame.to_numpy().tolist(), rows.device.tolist(), rejects


@pytest.mark.parametrize(("dialect", "other"), [(COMMAS, "\t"), (TABS, ",")])
def test_a_quote_after_the_other_separator_is_a_letter(dialect, other):
    lines = [dialect.separator.join(["1", f'a{other}"b', "c"]), dialect.separator.join(["2", "d", "e"])]
    assert record_ends("\n".join(lines).encode(), dialect, final=True).tolist() == [len(lines[0]) + 1, len(lines[0]) + 1 + len(lines[1])]


def test_every_format_passes_the_suite():
    suites = {suite().form.kind for suite in (TestCsv, TestCsvGz, TestCsvZst, TestTsv, TestTsvGz, TestParquet)}
    assert suites == {form.kind for form in FORMATS} == set(ENDINGS.values())


def test_producers_and_workers_agree_on_the_formats_that_are_text():
    for form in FORMATS:
        text = TEXT_FORMS.get(form.kind)
        assert (text is None) == (form.kind == "parquet")
        if text is not None:
            assert text.separator == form.dialect.separator
            assert (text.compression or "none").capitalize() == type(form.compression).__name__.removesuffix("Type")


def test_read_plans_know_only_kinds_that_are_read(tmp_path):
    bucket = LocalBucket(tmp_path)
    publish_handmade(bucket)
    bucket.write("t.csv.zst", pa.Codec("zstd").compress(csv_text(RECORDS), asbytes=True))
    folder = make_job(bucket, table="t.csv.zst")
    plan(folder)
    assert [file.table_format for file in read_plan(folder).files] == [format_of("csv.zst")]
