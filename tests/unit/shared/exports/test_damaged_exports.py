"""A damaged export is refused with a sentence, or read right: never silently wrong."""

import functools

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from producers.sample.exports.accounts import Account, make_account
from producers.sample.exports.platforms import COLUMNS, NAMES
from producers.sample.exports.shapes import SHAPES, Shape
from producers.sample.exports.writing import export_bytes
from shared.errors import TableError
from shared.exports.reading import read_export_bytes
from shared.exports.roles.inference import infer_roles
from shared.exports.table import ExportTable

ROWS = 60
PLATFORMS = ("google-ads", "microsoft-ads")
COVERED = ("clicks", "impressions", "cost", "conversions")
"""The columns that the totals prove."""


@functools.cache
def account() -> Account:
    return make_account(ROWS, seed=11)


@functools.cache
def exported(platform: str, language: str, shape: Shape) -> bytes:
    return export_bytes(account(), platform, language, shape)


TEXTS, WORKBOOKS = (
    [
        (platform, language, shape)
        for platform in PLATFORMS
        for language in ("en", "de", "fr", "es")
        for shape in SHAPES[platform]
        if shape.has_totals and shape.is_workbook == is_workbook
    ]
    for is_workbook in (False, True)
)


def is_right_or_refused(data: bytes, platform: str, language: str) -> str:
    """Returns how an export came through; fails if it is read wrong without a word."""
    try:
        table = read_export_bytes(data, "report.csv")
        roles = infer_roles(table).roles
    except TableError as error:
        assert error.message.startswith(("report.csv", "line ", "row ", "the rows of", "no sheet", "the sheet", "'", '"'))
        assert "\n" not in error.message
        assert error.next_step
        return "refused"
    names = dict(zip(COLUMNS[platform], NAMES[platform][language], strict=True))
    expected = {name: float(getattr(account(), f"{name}_cents" if name == "cost" else name).sum()) for name in COVERED}
    expected["cost"] /= 100
    # a platform's total is rounded, and so is each row: a changed cent does not show
    tolerance = dict.fromkeys(COVERED, 1e-6) | {"cost": 0.01 * (0.5 + 1.2 * ROWS**0.5)}
    assert roles.clicks == names["clicks"]
    if not table.totals.lines and table.lines.size < ROWS:
        # nothing proves how many rows there were: the rows that are there are right
        assert is_a_beginning(table, names["clicks"])
        return "right without totals"
    for name, total in expected.items():
        if names[name] in table.names:
            assert abs(total_of(table, names[name]) - total) <= tolerance[name], f"{names[name]} is silently wrong"
    return "right"


def is_a_beginning(table: ExportTable, clicks: str) -> bool:
    read = table.table[clicks].to_pylist()
    truth = account().clicks.tolist()
    return any(truth[start : start + len(read)] == read for start in range(ROWS)) or set(read) <= set(truth)


def total_of(table: ExportTable, name: str) -> float:
    column = table.table[name].to_pylist()
    assert not any(isinstance(value, str) for value in column), f"{name} is silently text"
    return float(np.nansum(np.array(column, dtype=float)))


def examples(count):
    return settings(max_examples=count, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@examples(60)
@given(st.sampled_from(TEXTS), st.data())
def test_no_damage_of_a_text_is_silently_wrong(which, data):
    come_through(which, DAMAGES, data.draw)


@pytest.mark.long
@examples(300)
@given(st.sampled_from(TEXTS), st.data())
def test_no_damage_of_a_text_is_silently_wrong_in_300_tries(which, data):
    come_through(which, DAMAGES, data.draw)


@examples(12)
@given(st.sampled_from(WORKBOOKS), st.data())
def test_no_damage_of_a_workbook_is_silently_wrong(which, data):
    come_through(which, WORKBOOK_DAMAGES, data.draw)


def come_through(which, damages, draw):
    platform, language, shape = which
    damage = draw(st.sampled_from(damages))
    bad = damage(exported(platform, language, shape), shape, draw)
    event(f"{damage.__name__}: {is_right_or_refused(bad, platform, language)}")


def flipped(good, shape, draw):
    bad = bytearray(good)
    for _ in range(draw(st.integers(1, 3))):
        bad[draw(st.integers(0, len(bad) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(bad)


def cut(good, shape, draw):
    return good[: draw(st.integers(0, len(good) - 1))]


def cut_at_the_beginning(good, shape, draw):
    return good[draw(st.integers(1, len(good) - 1)) :]


def hole(good, shape, draw):
    start = draw(st.integers(0, len(good) - 2))
    return good[:start] + good[draw(st.integers(start + 1, min(len(good), start + 2_000))) :]


def _lines(good, shape):
    return good.decode(shape.encoding).split("\r\n")


def _joined(lines, shape):
    return "\r\n".join(lines).encode(shape.encoding)


def doubled_line(good, shape, draw):
    lines = _lines(good, shape)
    place = draw(st.integers(0, len(lines) - 1))
    return _joined([*lines[: place + 1], *lines[place : place + 1], *lines[place + 1 :]], shape)


def doubled_header(good, shape, draw):
    lines = _lines(good, shape)
    header = next(line for line in lines if line.count(shape.separator) > 5)
    place = draw(st.integers(0, len(lines)))
    return _joined([*lines[:place], header, *lines[place:]], shape)


def two_files_in_one(good, shape, draw):
    return _joined(_lines(good, shape) + _lines(good, shape), shape)


def exchanged_separators(good, shape, draw):
    text = good.decode(shape.encoding)
    start = draw(st.integers(0, len(text) - 1))
    end = draw(st.integers(start, len(text)))
    other = draw(st.sampled_from([mark for mark in ",;\t|" if mark != shape.separator]))
    return (text[:start] + text[start:end].replace(shape.separator, other) + text[end:]).encode(shape.encoding)


def mixed_decimal_marks(good, shape, draw):
    text = good.decode(shape.encoding)
    start = draw(st.integers(0, len(text) - 1))
    end = draw(st.integers(start, len(text)))
    exchange = {",": ".", ".": ","} if draw(st.booleans()) else {",": "."}
    changed = "".join(exchange.get(char, char) for char in text[start:end])
    return (text[:start] + changed + text[end:]).encode(shape.encoding)


def lost_characters(good, shape, draw):
    text = good.decode(shape.encoding)
    return text.replace(draw(st.sampled_from(["\u202f", '"', "-", "\r"])), "").encode(shape.encoding)


def other_encoding(good, shape, draw):
    return good.decode(shape.encoding).encode(
        draw(st.sampled_from(["utf-8", "utf-16-le", "utf-16-be", "cp1252", "mac-roman", "utf-32"])), "replace"
    )


def moved_line(good, shape, draw):
    lines = _lines(good, shape)
    line = lines.pop(draw(st.integers(0, len(lines) - 1)))
    lines.insert(draw(st.integers(0, len(lines))), line)
    return _joined(lines, shape)


def lost_line(good, shape, draw):
    lines = _lines(good, shape)
    del lines[draw(st.integers(0, len(lines) - 1))]
    return _joined(lines, shape)


def inserted(good, shape, draw):
    place = draw(st.integers(0, len(good)))
    return good[:place] + draw(st.sampled_from([b'"', b"\n", b"\r", b"\0", b",", b"9", b".", b"\xff", b" ", b"%", b"--"])) + good[place:]


DAMAGES = [
    flipped, cut, cut_at_the_beginning, hole, doubled_line, doubled_header, two_files_in_one, exchanged_separators, mixed_decimal_marks,
    lost_characters, other_encoding, moved_line, lost_line, inserted,
]  # fmt: skip
WORKBOOK_DAMAGES = [flipped, cut, hole]
