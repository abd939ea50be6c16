"""Every kind of bucket keeps the same promises: one suite, inherited by each kind."""

import builtins
import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from s3fs.errors import translate_boto_error

from shared.bucket.folder_handles import HAS_HANDLES
from shared.bucket.local import TEMPORARY, LocalBucket
from shared.bucket.opening import open_bucket
from shared.bucket.remote import TRIES, RemoteBucket, _s3_session
from shared.errors import BucketError, RequestError, TransientError
from shared.processes import process_token
from shared.records import FileDigest
from tests.acceptance.faults.relays import StoreRelay
from tests.conftest import REPOSITORY
from tests.google_store import (
    GOOGLE_BUCKET,
    delete_object,
    google_store,
    put_object,
    service_account,
    talking_to_google,
    token_server,
)
from tests.object_store import STORE_BUCKET, object_store, talking_to

BAD_PATHS = ["", "/etc/passwd", "..", "../x", "a/../../x", "a//b", "a/", "a\0b", "a\\b", "s3://other/x", "./a", "x" * 300]


SWAP = """
import ctypes, os, sys
folder, link = (os.fsencode(path) for path in sys.argv[1:])
while not ctypes.CDLL(None, use_errno=True).renameat2(-100, folder, -100, link, 2):
    pass
sys.exit(os.strerror(ctypes.get_errno()))
"""
"""Exchanges a folder and a link for each other as fast as it can: 2 is RENAME_EXCHANGE, so that one of the two is always there."""


@contextlib.contextmanager
def swapped(folder, outside, *, refused=True):
    """Gives a function that does things in turn while the folder is swapped for a link to another; it counts what was done and refused."""
    link = folder.parent / "link"
    link.symlink_to(outside)
    swapping = subprocess.Popen([sys.executable, "-c", SWAP, folder, link])

    def while_swapped(*things):
        limit, seen = time.monotonic() + 20, Counter()
        while time.monotonic() < limit and (seen.total() < 6000 or (refused and min(seen["refused"], seen["done"]) < 50)):
            for do in things:
                try:
                    found = do()
                except (RequestError, BucketError):
                    seen["refused"] += 1
                else:
                    seen["done"] += 1
                    assert found in (b"inside", None)
        return seen

    try:
        yield while_swapped
    finally:
        stopped = swapping.poll()
        swapping.kill()
        swapping.wait()
        assert stopped is None, "this file system exchanges nothing"
        if link.is_symlink():
            link.unlink()
        else:
            folder.unlink()
            link.rename(folder)


class UnexpectedError(Exception):
    """Something that goes wrong in the middle of a write."""


def let_the_clock_of_the_disk_go_on(file):
    """Some kernels give two files that are written within 4 ms the same time."""
    file.touch()
    start = file.stat().st_mtime_ns
    while file.stat().st_mtime_ns == start:
        file.touch()


def digest_of(content: bytes) -> FileDigest:
    return FileDigest(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def digests_of(folder: Path) -> dict[str, FileDigest]:
    """Name and digest of every file of a folder but its manifest."""
    return {file.name: digest_of(file.read_bytes()) for file in folder.iterdir() if file.name != "manifest.json"}


class BucketContract:
    """What every bucket promises; a kind of bucket gives the fixture ``bucket``."""

    # --- reading and writing

    def test_what_was_written_is_read(self, bucket):
        bucket.write("a/b/c.json", b"content")
        assert bucket.read("a/b/c.json") == b"content"
        with bucket.open("a/b/c.json") as file:
            assert file.read() == b"content"

    @pytest.mark.parametrize("content", [b"\r", b"1\r\n", b"\n\n", bytes(range(256)), b"\x1f\x8b\r"], ids=repr)
    def test_every_byte_is_kept(self, bucket, content):
        bucket.write("a/b", content)
        bucket.create("a/c", content)
        assert (bucket.read("a/b"), bucket.read("a/c")) == (content, content)

    def test_an_empty_file_is_a_file(self, bucket):
        bucket.write("a/empty", b"")
        assert bucket.exists("a/empty")
        assert bucket.read("a/empty") == b""
        assert bucket.stat("a/empty").size == 0

    def test_what_is_not_there_is_none(self, bucket):
        assert bucket.read("a/b") is None
        assert bucket.stat("a/b") is None
        assert not bucket.exists("a/b")
        bucket.write("a/b", b"1")
        assert bucket.read("a/b/c") is None, "a file is no folder"
        assert bucket.stat("a/b/c") is None

    def test_a_folder_is_no_file(self, bucket):
        bucket.write("a/b/c", b"1")
        assert bucket.stat("a/b") is None
        assert not bucket.exists("a")
        assert bucket.read("a/b") is None
        with pytest.raises(BucketError, match="a/b"):
            bucket.open("a/b")

    def test_opening_what_is_not_there_is_refused_in_one_sentence(self, bucket):
        with pytest.raises(BucketError, match=r"a/nothing\.csv in the bucket could not be read"):
            bucket.open("a/nothing.csv")

    def test_an_open_file_can_be_read_at_any_place(self, bucket):
        bucket.write("a/long", bytes(range(256)) * 1000)
        with bucket.open("a/long") as file:
            file.seek(1000)
            assert file.read(4) == bytes([232, 233, 234, 235])
            file.seek(0)
            assert file.read(2) == b"\0\1"
            file.seek(255_999)
            assert file.read() == b"\xff"
            assert file.read() == b""

    def test_a_second_write_replaces_the_first(self, bucket):
        bucket.write("a/b", b"a long first content")
        bucket.write("a/b", b"second")
        assert bucket.read("a/b") == b"second"

    def test_a_durable_write_is_read_like_any_other(self, bucket):
        with bucket.writer("a/b", durable=True) as out:
            out.write(b"1")
            out.write(b"2")
        bucket.write("a/c", b"3", durable=True)
        assert (bucket.read("a/b"), bucket.read("a/c")) == (b"12", b"3")

    def test_an_upload_is_a_copy_of_a_file_of_this_machine(self, bucket, tmp_path):
        (tmp_path / "table.csv").write_bytes(b"1,2\n" * 100_000)
        bucket.upload(tmp_path / "table.csv", "data/table.csv")
        assert bucket.read("data/table.csv") == b"1,2\n" * 100_000
        assert (tmp_path / "table.csv").exists()

    def test_an_upload_of_nothing_is_refused_and_leaves_nothing(self, bucket, tmp_path):
        with pytest.raises(BucketError, match="data/table"):
            bucket.upload(tmp_path / "nothing.csv", "data/table.csv")
        assert not bucket.exists("data/table.csv")

    @pytest.mark.parametrize("name", ["ü ñ.csv", "a b.csv", "100%.csv", "a+b=c&d.csv", "#1.csv", "~x", "...", "x" * 255])
    def test_an_odd_name_is_a_name(self, bucket, name):
        bucket.write(f"a/{name}", b"1")
        assert bucket.read(f"a/{name}") == b"1"
        assert [info.path for info in bucket.files("a")] == [f"a/{name}"]
        bucket.delete(f"a/{name}")
        assert not bucket.exists(f"a/{name}")

    # --- whole or not at all

    def test_a_writer_that_fails_leaves_nothing(self, bucket):
        def fail():
            with bucket.writer("a/b") as out:
                out.write(b"half of it")
                raise UnexpectedError

        with pytest.raises(UnexpectedError):
            fail()
        assert bucket.read("a/b") is None
        assert bucket.files("a") == []

    def test_a_writer_that_fails_leaves_what_was_there(self, bucket):
        bucket.write("a/b", b"before")

        def fail():
            with bucket.writer("a/b", durable=True) as out:
                out.write(b"half of it")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fail()
        assert bucket.read("a/b") == b"before"

    def test_nothing_is_seen_before_the_writer_is_done(self, bucket):
        with bucket.writer("a/b") as out:
            out.write(b"half of it")
            out.flush()
            assert bucket.read("a/b") is None
            assert bucket.files("a") == []
        assert bucket.read("a/b") == b"half of it"

    def test_a_reader_never_sees_half_of_a_file(self, bucket):
        contents = {bytes([letter]) * 200_000 for letter in b"abc"}
        bucket.write("a/b", next(iter(contents)))
        stop = threading.Event()

        def write():
            while not stop.is_set():
                for content in contents:
                    bucket.write("a/b", content)

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            try:
                seen = [bucket.read("a/b") for _ in range(30)]
            finally:
                stop.set()
            writing.result()
        assert all(content in contents for content in seen)

    def test_of_a_file_that_is_replaced_while_it_is_read_no_mixture_is_read(self, bucket):
        bucket.write("a/b", b"1" * 20_000_000)
        with bucket.open("a/b") as file:
            assert file.read(10) == b"1" * 10
            bucket.write("a/b", b"2" * 20_000_000)
            try:
                rest = file.read()
            except BucketError:
                return
            assert rest == b"1" * 19_999_990

    # --- first writer wins

    def test_the_first_to_create_a_file_wins(self, bucket):
        assert bucket.create("a/b", b"first") is True
        assert bucket.create("a/b", b"second") is False
        assert bucket.read("a/b") == b"first"

    def test_a_file_that_was_written_is_not_created(self, bucket):
        bucket.write("a/b", b"")
        assert bucket.create("a/b", b"late") is False
        assert bucket.read("a/b") == b""

    def test_a_file_that_was_deleted_can_be_created_again(self, bucket):
        bucket.create("a/b", b"first")
        bucket.delete("a/b")
        assert bucket.create("a/b", b"second") is True
        assert bucket.read("a/b") == b"second"

    def test_of_eight_at_once_one_wins_and_its_content_stays(self, bucket):
        for turn in range(5):
            start = threading.Barrier(8)

            def create(number, start=start, turn=turn):
                start.wait()
                return bucket.create(f"a/{turn}", b"%d" % number * 10_000)

            with ThreadPoolExecutor(8) as pool:
                won = list(pool.map(create, range(8)))
            assert won.count(True) == 1
            assert bucket.read(f"a/{turn}") == b"%d" % won.index(True) * 10_000

    # --- listing

    def test_files_lists_what_is_directly_inside_by_name(self, bucket):
        for name in ["00010.csv", "00009.csv", "b", "deeper/x", "a"]:
            bucket.write(f"jobs/one/{name}", name.encode())
        bucket.write("jobs/one.json", b"1")
        bucket.write("jobs/one2/y", b"1")
        found = bucket.files("jobs/one")
        assert [info.path for info in found] == [f"jobs/one/{name}" for name in ["00009.csv", "00010.csv", "a", "b"]]
        assert [info.size for info in found] == [9, 9, 1, 1]

    def test_folders_lists_the_names_of_those_directly_inside(self, bucket):
        for path in ["jobs/b/x", "jobs/a/x", "jobs/a/y", "jobs/c/d/e/x", "jobs/file"]:
            bucket.write(path, b"1")
        assert bucket.folders("jobs") == ["a", "b", "c"]
        assert bucket.folders("jobs/c") == ["d"]

    def test_a_folder_that_is_not_there_is_empty(self, bucket):
        assert bucket.files("nowhere") == []
        assert bucket.folders("nowhere") == []
        assert bucket.files("no/where") == []

    def test_a_file_holds_no_files(self, bucket):
        bucket.write("a/b", b"1")
        assert bucket.files("a/b") == []
        assert bucket.folders("a/b") == []

    def test_a_file_is_listed_as_it_is_found(self, bucket):
        bucket.write("a/b", b"12345")
        assert bucket.files("a") == [bucket.stat("a/b")]

    def test_the_stamp_changes_with_the_content(self, bucket, tmp_path):
        bucket.write("a/b", b"11111")
        first = bucket.stat("a/b")
        assert bucket.stat("a/b") == first
        let_the_clock_of_the_disk_go_on(tmp_path / "clock")
        bucket.write("a/b", b"22222")
        second = bucket.stat("a/b")
        assert second.stamp != first.stamp
        assert second.size == first.size == 5
        bucket.write("a/b", b"22")
        assert bucket.stat("a/b").stamp != second.stamp

    def test_the_time_of_a_file_is_now(self, bucket):
        bucket.write("a/c", b"1")
        with tempfile.NamedTemporaryFile() as now:
            assert bucket.stat("a/c").modified == pytest.approx(Path(now.name).stat().st_mtime, abs=60)

    # --- copy and delete

    def test_a_copy_is_a_file_of_its_own(self, bucket):
        bucket.write("a/b", b"1")
        bucket.write("c/d", b"before")
        bucket.copy("a/b", "c/d")
        bucket.write("a/b", b"changed")
        assert bucket.read("c/d") == b"1"

    def test_a_copy_of_nothing_is_refused_and_changes_nothing(self, bucket):
        bucket.write("c/d", b"before")
        with pytest.raises(BucketError, match="c/d"):
            bucket.copy("a/nothing", "c/d")
        assert bucket.read("c/d") == b"before"

    def test_a_deleted_file_is_gone_and_may_be_deleted_again(self, bucket):
        bucket.write("a/b", b"1")
        bucket.write("a/bc", b"1")
        bucket.delete("a/b")
        bucket.delete("a/b")
        bucket.delete("no/where")
        assert not bucket.exists("a/b")
        assert bucket.exists("a/bc")

    def test_a_deleted_folder_is_gone_with_all_that_is_in_it_and_nothing_else(self, bucket):
        for path in ["a/b/c", "a/b/d/e", "a/bb", "a/b2/c"]:
            bucket.write(path, b"1")
        bucket.delete_folder("a/b")
        bucket.delete_folder("a/b")
        bucket.delete_folder("no/where")
        assert [bucket.exists(path) for path in ["a/b/c", "a/b/d/e", "a/bb", "a/b2/c"]] == [False, False, True, True]
        assert bucket.folders("a") == ["b2"]

    def test_a_star_in_a_name_is_a_star(self, bucket):
        for path in ["a/*/c", "a/x/c", "a/[x]/c", "a/b?"]:
            bucket.write(path, b"1")
        bucket.delete_folder("a/*")
        bucket.delete_folder("a/[x]")
        bucket.delete("a/b?")
        assert bucket.folders("a") == ["x"]
        assert bucket.read("a/*/c") is None
        assert bucket.files("a/?") == []

    def test_a_tree_is_every_file_below_a_folder_by_path(self, bucket):
        for path in ["a/b/c", "a/b/d/e", "a/bb/f", "a/g", "ab/c"]:
            bucket.write(path, b"123")
        assert [info.path for info in bucket.tree("a")] == ["a/b/c", "a/b/d/e", "a/bb/f", "a/g"]
        assert [info.path for info in bucket.tree("a", "b")] == ["a/b/c", "a/b/d/e", "a/bb/f"]
        assert [info.path for info in bucket.tree("a", "bb")] == ["a/bb/f"]
        assert bucket.tree("no/where") == bucket.tree("a", "x") == []
        found = bucket.tree("a")[0]
        assert (found.size, found.modified) == (3, bucket.stat("a/b/c").modified)

    def test_many_files_are_removed_together_and_nothing_else(self, bucket):
        for path in ["a/b/c", "a/b/d/*", "a/b/d/e", "a/bb", "a/f/g"]:
            bucket.write(path, b"1")
        bucket.delete_many(["a/b/c", "a/b/d/*", "a/f/g", "a/not/there"])
        bucket.delete_many([])
        assert [info.path for info in bucket.tree("a")] == ["a/b/d/e", "a/bb"]
        assert bucket.folders("a") == ["b"], "no empty folder is left"

    # --- folders put in place

    @pytest.fixture
    def staged(self, tmp_path):
        folder = tmp_path / "staged"
        folder.mkdir()
        (folder / "manifest.json").write_bytes(b"{}")
        (folder / "model.skops").write_bytes(b"model" * 1000)
        return folder

    def test_a_folder_is_put_in_place_whole_and_once(self, bucket, staged, tmp_path):
        digests = digests_of(staged)
        assert bucket.put_folder(staged, "model/v1/one", last="manifest.json") is True
        (staged / "model.skops").write_bytes(b"another")
        (staged / "more").write_bytes(b"more")
        assert bucket.put_folder(staged, "model/v1/one", last="manifest.json") is False
        assert len(bucket.files("model/v1/one")) == 2
        assert bucket.read(bucket.stored_at("model/v1/one", "model.skops", digests["model.skops"].sha256)) == b"model" * 1000
        assert sorted(file.name for file in staged.iterdir()) == ["manifest.json", "model.skops", "more"]

    def test_of_four_different_folders_at_once_one_is_there_unmixed(self, bucket, tmp_path):
        start = threading.Barrier(4)

        def put(number):
            staged = tmp_path / f"staged{number}"
            staged.mkdir()
            (staged / "model.skops").write_bytes(b"model %d" % number)
            (staged / "manifest.json").write_bytes(b"%d" % number)
            start.wait()
            return bucket.put_folder(staged, "model/v1/one", last="manifest.json")

        with ThreadPoolExecutor(4) as pool:
            won = list(pool.map(put, range(4)))
        assert sorted(won) == [False, False, False, True]
        winner = won.index(True)
        assert bucket.read("model/v1/one/manifest.json") == b"%d" % winner
        folder = bucket.local_folder("model/v1/one", tmp_path / "cache", digests_of(tmp_path / f"staged{winner}"))
        assert (folder / "model.skops").read_bytes() == b"model %d" % winner

    def test_a_folder_of_the_bucket_is_a_folder_of_this_machine(self, bucket, staged, tmp_path):
        bucket.put_folder(staged, "model/v1/one", last="manifest.json")
        for _ in range(2):
            folder = bucket.local_folder("model/v1/one", tmp_path / "cache", digests_of(staged))
            assert (folder / "model.skops").read_bytes() == b"model" * 1000

    def test_a_folder_that_lacks_a_file_is_looked_for_again(self, bucket, staged, tmp_path):
        digests = digests_of(staged)
        folder = bucket.local_folder("model/v1/one", tmp_path / "cache", digests)
        assert not folder.exists() or list(folder.iterdir()) == []
        bucket.put_folder(staged, "model/v1/one", last="manifest.json")
        assert (bucket.local_folder("model/v1/one", tmp_path / "cache", digests) / "model.skops").exists()

    @pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "..", ".", "", "a\0b", "a\\b"])
    def test_a_name_that_leads_out_of_a_folder_is_refused_before_a_byte_is_copied(self, bucket, staged, tmp_path, name):
        bucket.put_folder(staged, "model/v1/one", last="manifest.json")
        with pytest.raises(RequestError, match="leads out of the folder"):
            bucket.local_folder("model/v1/one", tmp_path / "cache", digests_of(staged) | {name: digest_of(b"1")})
        assert not (tmp_path / "cache").exists()

    def test_a_copy_that_is_dropped_is_made_again(self, bucket, staged, tmp_path):
        bucket.put_folder(staged, "model/v1/one", last="manifest.json")
        assert not bucket.drop_local_folder("model/v1/one", tmp_path / "cache"), "there is none yet"
        folder = bucket.local_folder("model/v1/one", tmp_path / "cache", digests_of(staged))
        assert bucket.drop_local_folder("model/v1/one", tmp_path / "cache") == bucket.is_remote
        assert folder.exists() != bucket.is_remote, "a bucket in a folder has no copy that could go"
        assert (bucket.local_folder("model/v1/one", tmp_path / "cache", digests_of(staged)) / "model.skops").exists()

    # --- the borders

    @pytest.mark.parametrize("path", BAD_PATHS)
    def test_a_path_that_leads_outside_is_refused_whatever_is_done_with_it(self, bucket, path, tmp_path):
        (tmp_path / "file").write_bytes(b"1")

        def write():
            with bucket.writer(path) as out:
                out.write(b"1")

        for do in [
            lambda: bucket.read(path),
            lambda: bucket.stat(path),
            lambda: bucket.open(path),
            lambda: bucket.create(path, b"1"),
            lambda: bucket.upload(tmp_path / "file", path),
            write,
            lambda: bucket.copy(path, "a"),
            lambda: bucket.copy("a", path),
            lambda: bucket.files(path),
            lambda: bucket.folders(path),
            lambda: bucket.delete(path),
            lambda: bucket.delete_folder(path),
            lambda: bucket.delete_many([path]),
            lambda: bucket.tree(path),
            lambda: bucket.put_folder(tmp_path, path, last="file"),
            lambda: bucket.local_folder(path, tmp_path / "cache", {}),
        ]:
            with pytest.raises(RequestError):
                do()

    def test_a_failure_says_what_could_not_be_done_and_may_be_tried_again(self, staged, broken_bucket):
        def write():
            with broken_bucket.writer("a/b") as out:
                out.write(b"1")

        for do, done in [
            (lambda: broken_bucket.create("a/b", b"1"), "written"),
            (write, "written"),
            (lambda: broken_bucket.upload(staged / "manifest.json", "a/b"), "written"),
            (lambda: broken_bucket.put_folder(staged, "a/b", last="manifest.json"), "(written|read)"),
        ]:
            with pytest.raises(BucketError, match=rf"^a/b\S* in the bucket could not be {done}: ") as caught:
                do()
            assert isinstance(caught.value, TransientError)
            assert caught.value.next_step
            assert "\n" not in str(caught.value)


@contextlib.contextmanager
def an_ordinary_user():
    """Not root for a moment: root may write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


class TestLocalBucket(BucketContract):
    """A folder of this machine."""

    @pytest.fixture
    def bucket(self, tmp_path):
        bucket = open_bucket(str(tmp_path / "bucket"))
        assert isinstance(bucket, LocalBucket)
        yield bucket
        left = tmp_path / "bucket" / TEMPORARY
        assert not left.exists() or list(left.iterdir()) == [], "temporary files are left"

    @pytest.fixture
    def broken_bucket(self, bucket, monkeypatch):
        self.fill_the_disk(monkeypatch)
        return bucket

    @staticmethod
    def fill_the_disk(monkeypatch):
        """From now on every new file is made, and takes no byte."""
        real = Path.open

        def open_full(self, mode="r", *args, **kwargs):
            opened = real(self, mode, *args, **kwargs)
            if not {"x", "w"} & set(mode):
                return opened
            opened.close()
            return builtins.open("/dev/full", "wb")  # noqa: PTH123 - Path.open is this very function

        def copy_full(source, target, **_):
            Path(target).touch()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Path, "open", open_full)
        monkeypatch.setattr(shutil, "copyfile", copy_full)
        monkeypatch.setattr(shutil, "copy2", copy_full)

    def test_a_full_disk_is_named_and_leaves_nothing(self, bucket, monkeypatch, tmp_path):
        bucket.write("a/b", b"before")
        (tmp_path / "staged").mkdir()
        (tmp_path / "staged" / "manifest.json").write_bytes(b"1")
        self.fill_the_disk(monkeypatch)
        for do in [
            lambda: bucket.write("a/b", b"1"),
            lambda: bucket.write("a/b", b"1" * 1_000_000, durable=True),
            lambda: bucket.create("a/c", b"1"),
            lambda: bucket.upload(tmp_path / "staged" / "manifest.json", "a/c"),
            lambda: bucket.copy("a/b", "a/c"),
            lambda: bucket.put_folder(tmp_path / "staged", "a/c", last="manifest.json"),
        ]:
            with pytest.raises(BucketError, match="No space left on device") as caught:
                do()
            assert "Free some space" in caught.value.next_step
        assert bucket.read("a/b") == b"before"
        assert [info.path for info in bucket.files("a")] == ["a/b"]
        assert bucket.folders("a") == []

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
    def test_a_really_full_disk_is_named_and_leaves_nothing(self, tmp_path):
        disk = tmp_path / "disk"
        disk.mkdir()
        if os.system(f"mount -t tmpfs -o size=64k none '{disk}' 2>/dev/null"):
            pytest.skip("this machine does not let root mount a small disk")
        try:
            bucket = LocalBucket(disk)
            bucket.write("a/b", b"before")
            for do in [
                lambda: bucket.write("a/b", b"1" * 1_000_000),
                lambda: bucket.create("a/c", b"1" * 1_000_000),
                lambda: [bucket.copy("a/b", f"a/{number}") for number in range(100)],
            ]:
                with pytest.raises(BucketError, match="No space left on device"):
                    do()
            assert bucket.read("a/b") == b"before"
            assert not bucket.exists("a/c")
            assert list((disk / TEMPORARY).iterdir()) == []
        finally:
            os.system(f"umount '{disk}'")

    def test_a_read_only_folder_is_named(self):
        with tempfile.TemporaryDirectory(dir="/tmp") as name:
            folder = Path(name)
            (folder / "a").mkdir()
            (folder / "a" / "b").write_bytes(b"before")
            # whatever the umask is
            (folder / "a").chmod(0o755)
            (folder / "a" / "b").chmod(0o644)
            folder.chmod(0o555)
            bucket = LocalBucket(folder)
            with an_ordinary_user():
                assert bucket.read("a/b") == b"before"
                for do in [lambda: bucket.write("a/b", b"1"), lambda: bucket.create("c", b"1"), lambda: bucket.delete("a/b")]:
                    with pytest.raises(BucketError, match=r"Permission denied|Read-only") as caught:
                        do()
                    assert "BUCKET_URL" in caught.value.next_step
                assert bucket.read("a/b") == b"before"
            folder.chmod(0o755)

    def test_a_bucket_that_is_a_file_is_named(self, tmp_path):
        (tmp_path / "file").write_bytes(b"1")
        with pytest.raises(BucketError, match="a/b in the bucket could not be written"):
            LocalBucket(tmp_path / "file").write("a/b", b"1")

    def test_a_symbolic_link_out_of_the_bucket_is_refused(self, bucket, tmp_path):
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret.csv").write_bytes(b"secret")
        bucket.write("a/b", b"1")
        (bucket.root / "a" / "link").symlink_to(outside)
        (bucket.root / "a" / "link.csv").symlink_to(outside / "secret.csv")
        (bucket.root / "a" / "relative").symlink_to("../../outside")
        for path in ["a/link/secret.csv", "a/link.csv", "a/relative/secret.csv"]:
            for do in [
                lambda path=path: bucket.read(path),
                lambda path=path: bucket.open(path),
                lambda path=path: bucket.stat(path),
                lambda path=path: bucket.write(path, b"1"),
                lambda path=path: bucket.create(path, b"1"),
                lambda path=path: bucket.delete(path),
                lambda path=path: bucket.copy(path, "a/copy"),
            ]:
                with pytest.raises(RequestError, match="leads outside the bucket"):
                    do()
        for folder in ["a/link", "a/relative"]:
            for do in [
                lambda folder=folder: bucket.files(folder),
                lambda folder=folder: bucket.delete_folder(folder),
                lambda folder=folder: bucket.local_folder(folder, tmp_path, {"model.pkl": digest_of(b"1")}),
            ]:
                with pytest.raises(RequestError, match="leads outside the bucket"):
                    do()
        assert (outside / "secret.csv").read_bytes() == b"secret"
        assert list(outside.iterdir()) == [outside / "secret.csv"]

    def test_a_tree_has_no_file_that_a_link_leads_to(self, bucket, tmp_path):
        bucket.write("a/b", b"1")
        bucket.write("c/d", b"1")
        (bucket.root / "a" / "link").symlink_to(bucket.root / "c")
        (bucket.root / "a" / "file").symlink_to(bucket.root / "c" / "d")
        assert [info.path for info in bucket.tree("a")] == ["a/b"]

    def test_folders_that_are_empty_for_long_go_and_those_in_use_stay(self, bucket):
        bucket.write("a/b/c", b"1")
        for folder in ("a/old/older", "a/young"):
            bucket.place(folder).mkdir(parents=True)
        for folder in ("a/old/older", "a/old", "a/b"):
            os.utime(bucket.place(folder), (0, 0))
        assert bucket.drop_empty_folders("a", 3600) == 2
        assert bucket.folders("a") == ["b", "young"]

    def test_a_symbolic_link_within_the_bucket_is_followed(self, bucket):
        bucket.write("a/b", b"1")
        (bucket.root / "a" / "link").symlink_to("b")
        assert bucket.read("a/link") == b"1"

    def test_a_symbolic_link_to_itself_is_refused(self, bucket):
        bucket.write("a/b", b"1")
        (bucket.root / "a" / "loop").symlink_to("loop")
        (bucket.root / "a" / "nowhere").symlink_to("nothing")
        for do in [lambda: bucket.read("a/loop"), lambda: bucket.stat("a/loop"), lambda: bucket.create("a/loop/x", b"1")]:
            with pytest.raises((RequestError, BucketError), match="a/loop"):
                do()
        for do in [lambda: bucket.files("a"), lambda: bucket.folders("a")]:
            with pytest.raises(BucketError, match="a in the bucket could not be listed: Too many levels of symbolic links"):
                do()
        (bucket.root / "a" / "loop").unlink()
        assert [info.path for info in bucket.files("a")] == ["a/b"]

    def test_a_bucket_whose_own_path_is_a_symbolic_link_is_a_bucket(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        bucket = open_bucket(f"file://{tmp_path}/link")
        bucket.write("a/b", b"1")
        assert (tmp_path / "real" / "a" / "b").read_bytes() == b"1"

    @pytest.mark.skipif(not HAS_HANDLES, reason="this system cannot say where an open file is")
    def test_a_folder_that_is_swapped_for_a_link_meanwhile_leads_nobody_out_of_the_bucket(self, bucket, tmp_path):
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "b").write_bytes(b"secret")
        bucket.write("a/b", b"inside")
        with swapped(bucket.root / "a", outside) as while_swapped:
            seen = while_swapped(
                lambda: bucket.read("a/b"),
                lambda: bucket.open("a/b").read(),
                lambda: bucket.stat("a/b") and b"inside",
                lambda: b"inside" if {info.path for info in bucket.files("a")} <= {"a/b", "a/new"} else b"secret",
                lambda: bucket.write("a/new", b"1") or b"inside",
                lambda: bucket.delete("a/new") or b"inside",
            )
        assert min(seen["refused"], seen["done"]) >= 50, f"the folder was hardly swapped: {seen}"
        assert [(file.name, file.read_bytes()) for file in outside.iterdir()] == [("b", b"secret")]

    @pytest.mark.skipif(not HAS_HANDLES, reason="this system cannot say where an open file is")
    def test_a_removal_and_a_listing_of_all_below_a_folder_that_is_swapped_stay_inside_the_bucket(self, bucket, tmp_path):
        outside = tmp_path / "outside"
        (outside / "empty").mkdir(parents=True)
        (outside / "secret").write_bytes(b"secret")
        bucket.write("a/b", b"inside")
        bucket.write("x/c", b"inside")

        def read_held():
            with bucket.held_folder("a", tmp_path / "cache", {}) as folder:
                return (folder / "b").read_bytes()

        def is_inside(paths):
            return b"inside" if paths <= {"a/b", "x/a/b", "x/link/b", "x/c"} else b"secret"

        def names(infos):
            return {info.path for info in infos}

        with swapped(bucket.root / "a", outside) as while_swapped:
            seen = while_swapped(
                read_held,
                lambda: is_inside(names(bucket.tree("a"))),
                lambda: bucket.delete_many(["a/empty/gone"]),
                lambda: b"secret" if bucket.drop_empty_folders("a", -60) else b"inside",
            )
        assert min(seen["refused"], seen["done"]) >= 50, f"the folder was hardly swapped: {seen}"
        (bucket.root / "a").rename(bucket.root / "x" / "a")
        with swapped(bucket.root / "x" / "a", outside, refused=False) as while_swapped:
            while_swapped(
                lambda: is_inside(names(bucket.tree("x"))),
                lambda: b"secret" if bucket.drop_empty_folders("x", -60) else b"inside",
            )
        assert sorted(file.name for file in outside.iterdir()) == ["empty", "secret"]

    def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(self, bucket):
        bucket.write("a/b", b"1")
        os.mkfifo(bucket.root / "a" / "pipe")
        assert bucket.read("a/pipe") is None
        with pytest.raises(BucketError, match="a/pipe"):
            bucket.open("a/pipe")

    @pytest.fixture
    def events(self, monkeypatch):
        """In their order: a file or folder was forced onto the disk, a file got its name."""
        seen, really = [], os.fsync
        names = {"replace": Path.replace, "rename": Path.rename, "link": os.link}

        def fsync(handle):
            seen.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
            really(handle)

        def named(what):
            return lambda *given: (seen.append("named"), names[what](*given))[1]

        monkeypatch.setattr(os, "fsync", fsync)
        for name in ("replace", "rename"):
            monkeypatch.setattr(Path, name, named(name))
        monkeypatch.setattr(os, "link", named("link"))
        return seen

    def test_what_must_survive_a_power_cut_is_on_the_disk_before_it_has_its_name(self, bucket, events, tmp_path):
        bucket.write("a/b", b"1")
        (tmp_path / "staged").mkdir()
        (tmp_path / "staged" / "manifest.json").write_bytes(b"1")
        for do, right in [
            (lambda: bucket.write("a/c", b"1", durable=True), ["file", "named"]),
            (lambda: bucket.create("a/d", b"1"), ["file", "named"]),
            (lambda: bucket.copy("a/b", "a/e", durable=True), ["file", "named"]),
            (lambda: bucket.settle("a"), ["folder"]),
            (lambda: bucket.put_folder(tmp_path / "staged", "a/f", last="manifest.json"), ["file", "folder", "named", "folder"]),
        ]:
            events.clear()
            do()
            assert events == right

    def test_the_stamp_changes_when_a_file_is_changed_in_place(self, bucket):
        bucket.write("a/b", b"11111")
        before = bucket.stat("a/b")
        with (bucket.root / "a" / "b").open("r+b") as file:
            file.write(b"2")
        os.utime(bucket.root / "a" / "b", ns=(0, int(before.modified * 1e9) + 1_000_000))
        assert bucket.stat("a/b").stamp != before.stamp

    def test_the_file_of_a_copy_is_not_the_original(self, bucket):
        bucket.write("a/b", b"1")
        bucket.copy("a/b", "a/c")
        (bucket.root / "a" / "c").write_bytes(b"2")
        assert bucket.read("a/b") == b"1"

    def test_a_folder_that_cannot_be_put_in_place_leaves_nothing(self, bucket, tmp_path):
        bucket.write("model/v1", b"a file where the folder should be")
        with pytest.raises(BucketError, match="model/v2"):
            bucket.put_folder(tmp_path / "nothing", "model/v2", last="manifest.json")
        (tmp_path / "staged").mkdir()
        (tmp_path / "staged" / "manifest.json").write_bytes(b"1")
        with pytest.raises(BucketError, match="model/v1"):
            bucket.put_folder(tmp_path / "staged", "model/v1", last="manifest.json")
        assert bucket.read("model/v1") == b"a file where the folder should be"
        assert bucket.folders("model") == []


class StoreContract(BucketContract):
    """What a bucket on any object store promises besides; a kind of store also names its ``PLACE`` and gives

    ``connected``, which makes what is opened within it talk to an address; ``address``, that of the store; ``put`` and ``drop``, somebody
    else who writes and removes; and ``copied_in_pieces``, which makes a copy of 60 MB too large for one request.
    """

    PLACE: str

    @pytest.fixture
    def bucket(self, address):
        del address  # a fixture that must be there
        prefix = f"keywords-{secrets.token_hex(4)}"
        bucket = open_bucket(f"{self.PLACE}/{prefix}/")
        assert isinstance(bucket, RemoteBucket)
        assert bucket.url == f"{self.PLACE}/{prefix}"
        return bucket

    @pytest.fixture
    def broken_bucket(self, address):
        del address
        return open_bucket(f"{self.PLACE.partition(':')[0]}://there-is-no-such-bucket/keywords")

    @pytest.fixture
    def relay(self, address, connected):
        """What lies between the store and whoever opens a bucket."""
        relay = StoreRelay(address)
        with connected(relay.url):
            yield relay
        relay.close()

    # --- what goes wrong on the way

    def test_a_store_that_fails_twice_is_asked_a_third_time(self, bucket, relay, tmp_path):
        bucket.write("a/b", b"1")
        (tmp_path / "file").write_bytes(b"2")
        for status, do, right in [
            ("500", lambda: bucket.read("a/b"), b"1"),
            ("503", lambda: bucket.create("a/c", b"1"), True),
            ("500", lambda: bucket.upload(tmp_path / "file", "a/b"), None),
            ("503", lambda: bucket.copy("a/b", "a/d"), None),
            ("500", lambda: [info.path for info in bucket.files("a")], ["a/b", "a/c", "a/d"]),
            ("503", lambda: bucket.delete("a/c"), None),
        ]:
            relay.trouble, relay.turns = status, TRIES - 1
            assert do() == right
            assert relay.turns < 0
        assert [bucket.read(path) for path in ("a/b", "a/c", "a/d")] == [b"2", None, b"2"]

    def test_a_store_that_goes_on_failing_is_given_up(self, bucket, relay):
        bucket.write("a/b", b"1")
        relay.trouble = "503"
        for do in [lambda: bucket.read("a/b"), lambda: bucket.create("a/c", b"2")]:
            relay.asked.clear()
            with pytest.raises(BucketError, match=r"^a/[bc] in the bucket could not be (read|written): \S"):
                do()
            assert len(relay.asked) == TRIES
        relay.trouble = ""
        assert [info.path for info in bucket.files("a")] == ["a/b"]

    def test_what_was_done_and_not_heard_is_done_once(self, bucket, relay):
        bucket.write("a/c", b"1")
        relay.trouble = "deaf"
        for do in [lambda: bucket.create("a/b", b"1"), lambda: bucket.copy("a/b", "a/d"), lambda: bucket.delete("a/c")]:
            relay.turns = 1
            do()
        relay.turns = 0
        assert not bucket.create("a/b", b"2")
        assert [bucket.read(path) for path in ("a/b", "a/c", "a/d")] == [b"1", None, b"1"]

    def test_a_server_that_is_down_is_named(self, connected, bucket, tmp_path, monkeypatch):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        (tmp_path / "file").write_bytes(b"1")
        monkeypatch.setattr("shared.bucket.remote.TRIES", 1)
        with connected(f"http://127.0.0.1:{port}"):
            for do in [
                lambda: bucket.read("a/b"),
                lambda: bucket.stat("a/b"),
                lambda: bucket.create("a/b", b"1"),
                lambda: bucket.write("a/b", b"1"),
                lambda: bucket.files("a/b"),
                lambda: bucket.delete("a/b"),
                lambda: bucket.copy("a/c", "a/b"),
                lambda: bucket.upload(tmp_path / "file", "a/b"),
                lambda: bucket.open("a/b"),
            ]:
                with pytest.raises(BucketError, match="a/b in the bucket could not be") as caught:
                    do()
                assert "BUCKET_URL" in caught.value.next_step
                assert "\n" not in str(caught.value)

    def test_a_store_that_hangs_is_given_up_after_a_few_tries(self, bucket, connected, monkeypatch):
        bucket.write("a/b", b"1")
        monkeypatch.setattr("shared.bucket.remote.ANSWER_SECONDS", 0.5)
        # nobody takes the connections that wait at this port
        with socket.create_server(("127.0.0.1", 0)) as silent, connected(f"http://127.0.0.1:{silent.getsockname()[1]}"):
            for do in [lambda: bucket.read("a/b"), lambda: bucket.write("a/b", b"2"), lambda: bucket.create("a/c", b"2")]:
                began = time.monotonic()
                with pytest.raises(BucketError, match="in the bucket could not be"):
                    do()
                assert 0.5 * TRIES <= time.monotonic() - began < 0.5 * TRIES + 7
        assert bucket.read("a/b") == b"1"

    # --- what costs requests

    def test_a_file_is_read_with_one_request_whether_it_is_there_or_not(self, bucket, relay):
        bucket.write("a/b", b"1")
        relay.asked.clear()
        assert (bucket.read("a/b"), bucket.read("a/c")) == (b"1", None)
        assert [request.split()[0] for request in relay.asked] == ["GET", "GET"]

    def test_a_folder_of_more_files_than_a_page_of_the_store_is_listed_whole(self, bucket, put, page, relay):
        names = [f"{number:07d}.csv" for number in range(page + 1)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: put(f"jobs/one/parts/{name}", b"1"), names))
            list(pool.map(lambda number: put(f"jobs/one/slices/{number:02d}/x", b"1"), range(2)))
        relay.asked.clear()
        assert [info.path for info in bucket.files("jobs/one/parts")] == [f"jobs/one/parts/{name}" for name in names]
        assert len(relay.asked) == 2
        assert bucket.folders("jobs/one") == ["parts", "slices"]

    def test_a_large_file_goes_up_in_pieces_and_is_copied_by_the_store_itself(self, bucket, relay, tmp_path, copied_in_pieces):
        piece = secrets.token_bytes(1 << 20)
        with (tmp_path / "large").open("wb") as file:
            for number in range(101):
                file.write(number.to_bytes(4) + piece[4:])
        with (tmp_path / "large").open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        bucket.upload(tmp_path / "large", "a/large")
        assert len(relay.asked) >= 4, "it was begun, sent in three pieces at least, and ended"
        relay.asked.clear()
        with copied_in_pieces:
            bucket.copy("a/large", "a/copy")
        assert len([request for request in relay.asked if not request.startswith(("GET", "HEAD"))]) >= 2
        assert [request for request in relay.asked if request.startswith("GET")] == []
        relay.asked.clear()
        for path in ("a/large", "a/copy"):
            with bucket.open(path) as file:
                assert hashlib.file_digest(file, "sha256").hexdigest() == digest

    # --- what is on this machine

    def test_a_writer_that_is_killed_leaves_nothing_on_this_machine(self, bucket, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with bucket.writer("a/b") as out:
            out.write(b"1" * 100_000)
            out.flush()
            assert list(tmp_path.iterdir()) == []
        assert bucket.read("a/b") == b"1" * 100_000

    def test_what_a_killed_process_had_begun_to_fetch_goes_with_the_next_fetch(self, bucket, tmp_path):
        bucket.write("model/v1/r1/model.pkl", b"1")
        ended = subprocess.run([sys.executable, "-c", "from shared.processes import process_token; print(process_token())"],
                               cwd=REPOSITORY, capture_output=True, text=True, check=True)  # fmt: skip
        gone, alive = (tmp_path / "model/v1" / f".{mark}" for mark in (ended.stdout.strip(), process_token()))
        gone.mkdir(parents=True)
        alive.mkdir()
        (gone / "model.pkl").write_bytes(b"half of it")
        assert (bucket.local_folder("model/v1/r1", tmp_path, {"model.pkl": digest_of(b"1")}) / "model.pkl").read_bytes() == b"1"
        assert sorted((tmp_path / "model/v1").iterdir()) == sorted([alive, tmp_path / "model/v1/r1"])

    # --- names, and others who write

    def test_a_part_of_a_name_is_not_taken_for_the_name(self, bucket):
        bucket.write("a/bc", b"1")
        assert not bucket.exists("a/b")
        assert bucket.files("a/b") == []

    def test_two_buckets_in_one_store_do_not_meet(self, bucket):
        bucket.write("a/b", b"1")
        whole, _, prefix = bucket.url.rpartition("/")
        assert open_bucket(f"{bucket.url}-other").files("a") == []
        assert open_bucket(whole).read(f"{prefix}/a/b") == b"1"

    def test_a_marker_of_an_empty_folder_is_no_file(self, bucket, put):
        put("a/", b"")
        put("c/empty/", b"")
        bucket.write("a/b", b"1")
        assert [info.path for info in bucket.files("a")] == ["a/b"]
        assert bucket.folders("a") == []
        assert bucket.stat("a") is None
        assert (bucket.files("c"), bucket.folders("c"), bucket.files("c/empty")) == ([], ["empty"], [])

    def test_a_file_made_by_somebody_else_is_seen_at_once(self, bucket, put, drop):
        assert bucket.files("a") == []
        assert bucket.read("a/b") is None
        put("a/b", b"1")
        assert [info.path for info in bucket.files("a")] == ["a/b"]
        assert bucket.read("a/b") == b"1"
        drop("a/b")
        assert bucket.files("a") == []
        assert not bucket.exists("a/b")

    def test_a_folder_that_two_remove_at_once_is_gone(self, bucket, drop, monkeypatch):
        for name in "abc":
            bucket.write(f"a/{name}", b"1")
        store = bucket.fs
        find = store.find

        def find_late(path):
            found = find(path)
            drop("a/b")
            return found

        monkeypatch.setattr(store, "find", find_late)
        bucket.delete_folder("a")
        assert bucket.files("a") == []


@pytest.fixture(scope="module")
def s3():
    with object_store() as url, talking_to(url) as client:
        yield url, client


class TestS3Bucket(StoreContract):
    """S3, as moto's server speaks it."""

    PLACE = f"s3://{STORE_BUCKET}"

    @pytest.fixture
    def address(self, s3):
        return s3[0]

    @pytest.fixture
    def connected(self):
        return talking_to

    @pytest.fixture
    def put(self, s3, bucket):
        return lambda path, data: s3[1].put_object(Bucket=STORE_BUCKET, Key=bucket.place("x")[:-1].partition("/")[2] + path, Body=data)

    @pytest.fixture
    def drop(self, s3, bucket):
        return lambda path: s3[1].delete_object(Bucket=STORE_BUCKET, Key=bucket.place(path).partition("/")[2])

    @pytest.fixture
    def page(self, monkeypatch):
        monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "100")  # 1000
        return 100

    @pytest.fixture
    def copied_in_pieces(self, monkeypatch):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("s3fs.core.MANAGED_COPY_THRESHOLD", 60_000_000)  # 5 GB
            yield contextlib.nullcontext()

    def test_a_server_that_goes_down_while_a_file_is_read_is_named(self, bucket, monkeypatch):
        bucket.write("a/b", b"1" * 20_000_000)
        with bucket.open("a/b") as file:
            assert file.read(10) == b"1" * 10

            def fail(*_, **__):
                raise EndpointConnectionError(endpoint_url="http://127.0.0.1")

            monkeypatch.setattr(type(bucket.fs), "_call_s3", fail)
            with pytest.raises(BucketError, match="a/b in the bucket could not be read: Could not connect"):
                file.read()

    def test_the_credentials_are_those_of_the_environment(self, bucket, relay, monkeypatch):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key-of-the-shop")
        # a process looks for them once
        monkeypatch.setattr("shared.bucket.remote._s3_session", _s3_session.__wrapped__)
        bucket.write("a/b", b"1")
        [authorization] = relay.authorizations
        assert "Credential=a-key-of-the-shop/" in authorization

    def test_a_store_that_words_its_refusal_differently_still_lets_the_first_writer_win(self, bucket, monkeypatch):
        def refuse(*_, **__):
            refusal = ClientError({"Error": {"Code": "PreconditionFailed", "Message": "At least one precondition failed"}}, "PutObject")
            raise translate_boto_error(refusal)

        monkeypatch.setattr(bucket.fs, "pipe_file", refuse)
        assert bucket.create("a/b", b"1") is False


@pytest.fixture(scope="module")
def google():
    with google_store() as url, talking_to_google(url):
        yield url


class TestGoogleBucket(StoreContract):
    """Google Cloud Storage, as an emulator speaks it, never as Google does."""

    PLACE = f"gs://{GOOGLE_BUCKET}"

    @pytest.fixture
    def address(self, google):
        return google

    @pytest.fixture
    def connected(self):
        return talking_to_google

    @pytest.fixture
    def put(self, google, bucket):
        return lambda path, data: put_object(google, bucket.place("x")[:-1].partition("/")[2] + path, data)

    @pytest.fixture
    def drop(self, google, bucket):
        return lambda path: delete_object(google, bucket.place(path).partition("/")[2])

    @pytest.fixture
    def page(self):
        return 1000

    @pytest.fixture
    def copied_in_pieces(self):
        return contextlib.nullcontext()

    def test_what_gcsfs_puts_between_the_pieces_of_an_upload_may_be_in_a_file(self, bucket, tmp_path):
        content = b"1\n--==0==\nContent-Type: text/csv\n\n2\n--==0==--\r"
        (tmp_path / "file").write_bytes(content)
        bucket.upload(tmp_path / "file", "a/b")
        assert bucket.create("a/c", content)
        assert (bucket.read("a/b"), bucket.read("a/c")) == (content, content)

    def test_of_a_large_file_one_piece_that_fails_is_sent_again(self, bucket, relay, tmp_path):
        (tmp_path / "large").write_bytes(bytes(range(256)) * (60 << 12))
        with pytest.MonkeyPatch.context() as patch:
            ask = relay._trouble_of
            patch.setattr(relay, "_trouble_of", lambda request: "503" if ask(request) or len(relay.asked) in (2, 4) else "")
            bucket.upload(tmp_path / "large", "a/large")
        assert [request.split()[0] for request in relay.asked] == ["POST"] * 5
        with bucket.open("a/large") as file:
            assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256((tmp_path / "large").read_bytes()).digest()

    def test_the_credentials_are_those_of_the_environment(self, bucket, relay, tmp_path, monkeypatch):
        with token_server("a token of the shop") as url:
            (tmp_path / "account.json").write_text(json.dumps(service_account(f"{url}/token")))
            monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
            monkeypatch.setattr(fsspec.config, "conf", {})
            bucket.write("a/b", b"1")
            assert bucket.read("a/b") == b"1"
        assert relay.authorizations == {"Bearer a token of the shop"}

    def test_without_credentials_the_sentence_says_so(self, google, tmp_path, monkeypatch):
        monkeypatch.setattr(fsspec.config, "conf", {})
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nothing.json"))
        with pytest.raises(BucketError, match=r"^a/b in the bucket could not be read: File \S+nothing.json was not found") as caught:
            open_bucket("gs://shop/nobody").read("a/b")
        assert "credentials" in caught.value.next_step
        assert not isinstance(caught.value.__cause__, OSError)


def test_a_bucket_whose_library_is_not_installed_says_what_to_install(monkeypatch):
    def missing(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(BucketError) as caught:
        open_bucket("s3://shop/keywords").read("a/b")
    assert "keyword-scoring[s3]" in caught.value.next_step
