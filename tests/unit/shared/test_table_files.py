"""A folder is a table only where it is clear which of its files hold the rows."""

import gzip

import pytest

from shared.bucket.local import LocalBucket
from shared.errors import NoTableError, TableError
from shared.table_files import find_files


def folder_of(bucket: LocalBucket, *names: str) -> list[str]:
    """The names of the files that are read of a folder with these files."""
    for name in names:
        bucket.write(f"data/{name}", b"entity_id\n1\n")
    return [info.path.removeprefix("data/") for info, _ in find_files(bucket, "data")]


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    return LocalBucket(tmp_path)


def test_the_files_of_a_folder_are_read_by_name(bucket):
    assert folder_of(bucket, "b.csv", "a.csv.gz", "c.parquet", "part-10.csv", "_old.csv") == [
        "_old.csv",
        "a.csv.gz",
        "b.csv",
        "c.parquet",
        "part-10.csv",
    ]


def test_what_macos_spark_and_people_leave_beside_a_table_is_no_part_of_it(bucket):
    aside = ["._a.csv", ".DS_Store", "_SUCCESS", "_committed_1", ".part-0.csv.crc", "README.md", "notes.txt", "a.csv.md5", "manifest.json"]
    assert folder_of(bucket, "a.csv", *aside, "__MACOSX/._a.csv", "_temporary/0/part.csv", ".ipynb_checkpoints/a.csv") == ["a.csv"]


@pytest.mark.parametrize("name", ["b.csv.xz", "b.xlsx", "b.csv.zip", "b.csv.bz2", "b", "b.json", "b.orc", "b.csv.tmp"])
def test_a_file_that_is_not_read_and_may_hold_rows_is_refused_by_name(bucket, name):
    with pytest.raises(TableError, match=f"the folder data holds the file {name}, which is not read as a table. Move it elsewhere"):
        folder_of(bucket, "a.csv", name)


ROWS = b"entity_id,att1,device\n1,0,Computer\n"


@pytest.mark.parametrize(
    "name",
    [
        "manifest-rows.xlsx",
        "readme.csv.zip",
        "README-2.xlsx",
        "license_keys.json",
        "b.sql",
        "b.html",
        "checksums.xlsx",
        "notes.xlsx",
        "manifest.psv",
    ],
)
def test_a_name_that_only_begins_like_that_of_a_known_companion_is_refused(bucket, name):
    with pytest.raises(TableError, match=f"holds the file {name}, which is not read"):
        folder_of(bucket, "a.csv", name)


@pytest.mark.parametrize(
    "head",
    [
        ROWS,
        b"\xef\xbb\xbf" + ROWS,
        b"\n" + ROWS,
        ROWS.replace(b",", b";"),
        ROWS.replace(b",", b"\t"),
        ROWS.replace(b",", b"|").replace(b"\n", b"\r\n"),
        b"Search keyword,Match type\nred shoes,Exact\n",
        b"1,0,Computer\n",
        b"entity_id\n1\n",
        ROWS.decode().encode("utf-16"),
        gzip.compress(ROWS, mtime=0),
        ROWS.replace(b"att1", b",".join(b"att%d" % number for number in range(20_000))),
    ],
)
@pytest.mark.parametrize("name", ["b.txt", "b.log", "more/b.txt"])
def test_a_text_that_looks_like_a_table_is_refused(bucket, name, head):
    bucket.write(f"data/{name}", head)
    with pytest.raises(TableError, match=f"the folder data holds the file {name}, which is not read as a table. Move it elsewhere"):
        folder_of(bucket, "a.csv")


@pytest.mark.parametrize("text", [b"", b"made by hand\n", b"Dear all, look\nat the second week, too, please.\n", b"done\nin 3 s\n"])
def test_a_text_that_does_not_look_like_a_table_is_left_aside(bucket, text):
    for name in ("b.txt", "run.log", "deeper/b.txt"):
        bucket.write(f"data/{name}", text)
    assert folder_of(bucket, "a.csv") == ["a.csv"]


@pytest.mark.parametrize("below", ["more/b.xlsx", "x/y/b.csv.zip", "more/b"])
def test_a_file_in_a_folder_below_that_may_hold_rows_is_refused(bucket, below):
    with pytest.raises(TableError, match=f"the folder data holds the file {below}, which is not read as a table"):
        folder_of(bucket, "a.csv", below)


@pytest.mark.parametrize(
    "below", [["x/y/z/w/v/b.csv"], [f"{number:03d}/README" for number in range(120)] + ["z/b.csv"]], ids=["too deep", "too many"]
)
def test_a_folder_with_more_below_it_than_is_looked_at_is_refused(bucket, below):
    with pytest.raises(TableError, match=r"has more folders below it than are looked at \(100 folders, 4 deep\), and they may hold rows"):
        folder_of(bucket, "a.csv", *below)
    bucket.delete("data/a.csv")
    with pytest.raises(NoTableError, match=r"holds no table, nor do the \d+ folders below it that were looked at"):
        find_files(bucket, "data")


@pytest.mark.parametrize("other", ["a.csv.gz", "a.csv.zst", "a.tsv", "a.tsv.gz", "A.CSV", "a.parquet", "a.pq"])
def test_one_table_in_two_forms_is_refused(bucket, other):
    with pytest.raises(TableError, match=r"the folder data holds one table twice: \S+ and \S+. Remove one of them"):
        folder_of(bucket, "a.csv", other)


@pytest.mark.parametrize("below", ["more/b.csv", "more/x/y/b.parquet", "x/real/b.csv.gz"])
def test_a_table_in_a_folder_below_is_never_left_out_in_silence(bucket, below):
    where = below.rpartition("/")[0].replace(".", r"\.")
    with pytest.raises(TableError, match=f"the folder data holds a table, and so does its folder {where}. Move .* name that one: data/"):
        folder_of(bucket, "a.csv", below)


def test_folders_of_tables_alone_are_named(bucket):
    with pytest.raises(TableError, match=r"there is no table data, but there is one in its folder 23. .* name that one: data/23"):
        folder_of(bucket, "23/a.csv", "24/a.csv")


def test_a_folder_that_is_split_by_a_column_is_refused_as_such(bucket):
    with pytest.raises(TableError, match="split into folders that are named by a column, like device=Computer"):
        folder_of(bucket, "device=Computer/part-0.parquet", "device=Tablet/part-0.parquet")


def test_a_folder_below_without_tables_is_no_matter(bucket):
    assert folder_of(bucket, "a.csv", "notes/a.txt", "notes/deep/b.md") == ["a.csv"]
