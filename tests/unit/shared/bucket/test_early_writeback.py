"""A durable file holds what was written to it, whether it was sent to the disk in pieces or not."""

import os

import pytest

from shared.bucket import early_writeback
from shared.bucket.local import LocalBucket


@pytest.mark.parametrize("limit", [1, 7, 1000, 1 << 30])
def test_a_durable_file_holds_every_byte_in_order(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(early_writeback, "WRITEBACK_BYTES", limit)
    pieces = [os.urandom(size) for size in (0, 1, 5, 100, 20_000, 3)]
    bucket = LocalBucket(tmp_path)
    with bucket.writer("a/file", durable=True) as out:
        for piece in pieces:
            assert out.write(piece) == len(piece)
    assert bucket.read("a/file") == b"".join(pieces)


def test_each_byte_is_sent_once_before_the_end(tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr(early_writeback, "WRITEBACK_BYTES", 10)
    monkeypatch.setattr(os, "posix_fadvise", lambda _, start, length, advice: sent.append((start, length, advice)))
    with LocalBucket(tmp_path).writer("file", durable=True) as out:
        for size in (4, 5, 3, 30, 2):
            out.write(bytes(size))
    assert sent == [(0, 12, os.POSIX_FADV_DONTNEED), (12, 30, os.POSIX_FADV_DONTNEED)]
