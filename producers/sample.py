"""Made-up keyword tables with a known truth, for trying the product out, for its tests and for its benchmarks.

The tables have the character of real search-advertising records (160 sparse, partly redundant 0/1 attributes that stem from
a few choices; one to three devices for each keyword; most rows with one to three clicks, a few with hundreds) but every
number in them is invented here.

What may surprise: nothing is drawn from a generator that moves on. Every value is a hash of the seed, the name of the value
and the keyword (and device and week where it depends on them). So a keyword is the same in every table of a seed, the size
of a block changes nothing, a shorter table is the beginning of a longer one, and ``true_cr`` needs no table to tell the truth.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import IO, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from isal import igzip
from numpy.typing import ArrayLike, NDArray

from shared.errors import RequestError

Format = Literal["csv", "csv.gz", "parquet"]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

DEVICES = ("Computer", "Smartphone", "Tablet")
"""The names of the devices; a device's number is its place here."""

MOST_TRAIN_ROWS = 100_000
"""Rows of the train table when the caller sets no number and the table to score has more."""

MOST_CLICKS = 2_000
HIGHEST_CR = 0.25
MEAN_CR = 0.05

_SHARE_OF_ROWS_IN_A_WEEK = 0.75
_SHARE_OF_ROWS_WITH_TOO_MANY_CONVERSIONS = 1 / 5_000

# A block is held in memory as a whole. This gives about 10,000 rows (3.5 MB of csv); for Parquet, where a block becomes
# a row group and each row group adds 20 kB to the footer, about 50,000 rows.
_KEYWORDS_IN_A_BLOCK = 6_000
_KEYWORDS_IN_A_ROW_GROUP = 30_000

_DEVICE_SETS = np.array([[1, 0, 0], [1, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 0], [0, 0, 1], [0, 1, 1]], dtype=bool)
_DEVICE_SET_SHARES = (0.38, 0.24, 0.15, 0.11, 0.065, 0.045, 0.01)
_DEVICE_LOG_ODDS = np.array([0.0, -0.35, -0.22])
_DEVICE_CLICKS = np.array([1.12, 0.85, 0.85])

_ATTRIBUTES_SD = 0.45  # of the log-odds over the keywords: what a model can learn
_KEYWORD_SD = 0.25  # of the log-odds: what only a keyword's own history can tell


@dataclass(frozen=True, kw_only=True)
class WrittenTable:
    """One table that is now in place."""

    path: Path
    rows: int


@dataclass(frozen=True, kw_only=True)
class SampleTables:
    """The three tables of one sample; ``train`` carries clicks and conversions of week 1 (or more), ``evaluation`` of the week after."""

    train: WrittenTable
    evaluation: WrittenTable
    prediction_input: WrittenTable


def write_tables(  # noqa: PLR0913 - each says one thing of the tables
    out: Path,
    rows: int,
    seed: int,
    *,
    train_rows: int | None = None,
    eval_share: float = 0.25,
    weeks: int = 1,
    format: Format = "csv.gz",
) -> SampleTables:
    """Write ``train``, ``eval`` and ``prediction_input`` in the raw layout into the folder ``out``, which is made if need be.

    All three describe the same keywords, numbered upwards from 1; a week's table leaves out about a quarter of their rows.

    Args:
        out: folder; tables of the same name in it are replaced, each one whole.
        rows: rows of the table to score, ``prediction_input``, which has neither week nor clicks nor conversions.
        seed: the same seed gives the same rows, whatever the other arguments, and the same bytes from the same libraries on the
            same kind of processor (the compression has its own ways on each).
        train_rows: rows of ``train``; without it ``rows``, but no more than ``MOST_TRAIN_ROWS``.
        eval_share: rows of ``eval`` as a share of those of ``train``, above 0 and at most 1; at least one row is written.
        weeks: how many weeks ``train`` holds, each about as many rows; ``eval`` is of the week after them.
        format: how the tables are stored; it is also the ending of their names.

    Raises:
        RequestError: a number is out of its range, or ``out`` cannot be written.
    """
    if not 0 < eval_share <= 1:
        raise RequestError(
            f"the share of rows to evaluate on is {eval_share}, but must be above 0 and at most 1",
            next_step="Give a share such as 0.25.",
        )
    if format not in get_args(Format):
        raise _unknown_format(format)
    if train_rows is None:
        train_rows = min(rows, MOST_TRAIN_ROWS)
    _check_rows(rows)
    _check_rows(train_rows)
    eval_rows = max(1, round(train_rows * eval_share))
    return SampleTables(
        train=write_table(out / f"train.{format}", train_rows, seed, week=weeks, weeks=weeks),
        evaluation=write_table(out / f"eval.{format}", eval_rows, seed, week=weeks + 1),
        prediction_input=write_table(out / f"prediction_input.{format}", rows, seed),
    )


def write_table(path: Path, rows: int, seed: int, *, week: int | None = None, weeks: int = 1) -> WrittenTable:
    """Write one table of exactly ``rows`` rows in the raw layout, ascending by week, keyword, device; it is there whole or not at all.

    Args:
        path: file to write; its name ends in ``.csv``, ``.csv.gz`` or ``.parquet``. Its folder is made if need be.
        rows: rows to write; the last keyword may lose a device to the limit.
        seed: the truth and the keywords; see ``write_tables``.
        week: adds the columns ``week``, ``Clicks`` and ``Conversions`` of this week (1 to 53); without it the table is one to score.
        weeks: so many weeks, the last of which is ``week``, each with about as many rows.

    Raises:
        RequestError: ``rows``, ``week`` or ``weeks`` is out of its range, the name has another ending, or the file cannot be written.
    """
    _check_rows(rows)
    if week is not None and not 1 <= week <= 53:
        raise RequestError(f"the week is {week}, but a year has the weeks 1 to 53", next_step="Name one of those.")
    if week is not None and not 1 <= weeks <= min(week, rows):
        raise RequestError(
            f"{weeks} weeks were asked for, but {rows} rows up to week {week} hold 1 to {min(week, rows)}", next_step="Ask for fewer weeks."
        )
    if not path.name.endswith(tuple(f".{ending}" for ending in get_args(Format))):
        raise _unknown_format(path.name)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished.open("wb") as file:
                _write(file, path.name, rows, seed, [None] if week is None else range(week - weeks + 1, week + 1))
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise RequestError(
            f"the table {path} cannot be written: {error.strerror or error}",
            next_step="Name a folder that can be written and has room, with --out DIR.",
        ) from error
    return WrittenTable(path=path, rows=rows)


def true_cr(entity_id: ArrayLike, device: ArrayLike, seed: int) -> Floats:
    """Tell the probability with which a click on each keyword and device became a conversion in the tables of ``seed``.

    Its mean over the rows of a table is 0.05 within a few thousandths; it is never above ``HIGHEST_CR``.

    Args:
        entity_id: keywords, shape (n,), positive integers; any keyword has a truth, written or not.
        device: device numbers, shape (n,): 0 computer, 1 smartphone, 2 tablet.
        seed: the seed the tables were written with.

    Returns:
        Shape (n,), each in (0, ``HIGHEST_CR``].
    """
    keywords, devices = np.asarray(entity_id, dtype=np.int64), np.asarray(device, dtype=np.int64)
    return _truth(seed).cr(keywords, _levels(keywords, seed), devices)


def attributes_of(entity_id: ArrayLike, seed: int) -> NDArray[np.int8]:
    """Tell the attributes of keywords, which are the same in every table of ``seed``.

    Args:
        entity_id: keywords, shape (n,), positive integers.
        seed: the seed the tables were written with.

    Returns:
        Shape (n, 160), 0 or 1: column j is ``att{j + 1}``.
    """
    keywords = np.asarray(entity_id, dtype=np.int64)
    return np.ascontiguousarray(_attributes(_levels(keywords, seed), keywords, seed).T)


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """Something each keyword has one level of, or none; each level is one attribute."""

    name: str
    shares: tuple[float, ...]

    @property
    def bounds(self) -> Floats:
        return np.fromiter(accumulate(self.shares), dtype=np.float64)


def _falling(levels: int, steepness: float, total: float = 1.0) -> tuple[float, ...]:
    """Shares that fall like Zipf's law, summing to ``total``."""
    weights = np.arange(1, levels + 1, dtype=np.float64) ** -steepness
    # without the excess the last level could miss the keywords whose hash is next to 1
    return tuple(weights / weights.sum() * total * (1 + 1e-9))


_CHOICES = (
    _Choice(name="match", shares=(0.52, 0.35, 0.13 + 1e-9)),
    _Choice(name="language", shares=(0.57, 0.43 + 1e-9)),
    _Choice(name="brand", shares=_falling(40, 1.1, total=0.95)),
    _Choice(name="category", shares=_falling(30, 0.9)),
    _Choice(name="place", shares=_falling(36, 0.4, total=0.4)),
    _Choice(name="page", shares=_falling(9, 1.3)),
    _Choice(name="words", shares=(0.06, 0.27, 0.36, 0.2, 0.08, 0.03 + 1e-9)),
    _Choice(name="price", shares=_falling(5, 0.8)),
    _Choice(name="season", shares=_falling(4, 0.5, total=0.3)),
    _Choice(name="campaign", shares=_falling(8, 0.7)),
    *(_Choice(name=f"mark {share}", shares=(share,)) for share in (0.36, 0.25, 0.1, 0.07, 0.04, 0.02, 0.01, 0.004, 0.001, 0.0002)),
)
_PLACE = {choice.name: place for place, choice in enumerate(_CHOICES)}
_STARTS = tuple(accumulate((len(choice.shares) for choice in _CHOICES), initial=0))
_PAIRS = (("match", "words"), ("language", "category"), ("page", "price"))

_ATTRIBUTES = 160
_HEADER = ["entity_id", *(f"att{number}" for number in range(1, _ATTRIBUTES + 1)), "device"]
_WEEK_HEADER = ["week", "Clicks", "Conversions"]


def _levels(keywords: Integers, seed: int) -> NDArray[np.uint8]:
    """The level each keyword has of each choice, shape (choices, n); the number after the last level means none."""
    levels = np.empty((len(_CHOICES), len(keywords)), dtype=np.uint8)
    for choice, of_choice in zip(_CHOICES, levels, strict=True):
        of_choice[:] = np.searchsorted(choice.bounds, _hashed(seed, choice.name, keywords), side="right")
    return levels


def _attributes(levels: NDArray[np.uint8], keywords: Integers, seed: int) -> NDArray[np.int8]:
    """The attributes of keywords, shape (160, n)."""
    held = np.empty((_ATTRIBUTES, len(keywords)), dtype=bool)
    for (start, end), of_choice in zip(pairwise(_STARTS), levels, strict=True):
        np.equal(of_choice, np.arange(end - start, dtype=np.uint8)[:, None], out=held[start:end])
    # what real tables have too: columns that repeat, contradict or nearly repeat another one, and columns that say nothing
    match, language, season = (levels[_PLACE[name]] for name in ("match", "language", "season"))
    derived = held[_STARTS[-1] :]
    derived[0] = match == 0
    derived[1] = language != 0
    derived[2] = season < len(_CHOICES[_PLACE["season"]].shares)
    derived[3] = (language == 0) ^ (_hashed(seed, "language is mistaken", keywords) < 0.05)
    derived[4] = _hashed(seed, "active", keywords) < 0.997
    derived[5] = True
    derived[6] = False
    return held.view(np.int8)


@dataclass(frozen=True, kw_only=True)
class _Truth:
    """The log-odds of a conversion: one sum over choices, pairs of choices, device and keyword."""

    seed: int
    intercept: float
    scale: float
    of_level: tuple[Floats, ...]
    of_pair: tuple[Floats, ...]
    of_device_and_page: Floats

    def cr(self, keywords: Integers, levels: NDArray[np.uint8], devices: Integers) -> Floats:
        return _cr(self.intercept + self.log_odds(keywords, levels, devices))

    def log_odds(self, keywords: Integers, levels: NDArray[np.uint8], devices: Integers) -> Floats:
        """All but the intercept, shape (n,)."""
        own = _KEYWORD_SD * _hashed_normal(self.seed, "keyword effect", keywords)
        page = levels[_PLACE["page"]]
        return self.scale * self.of_attributes(levels) + own + _DEVICE_LOG_ODDS[devices] + self.of_device_and_page[devices, page]

    def of_attributes(self, levels: NDArray[np.uint8]) -> Floats:
        """The attributes' part before it is scaled, shape (n,).

        Summed table by table: a matrix product may round a row differently by its place in the block.
        """
        total = np.zeros(levels.shape[1])
        for table, of_choice in zip(self.of_level, levels, strict=True):
            total += table[of_choice]
        for table, (one, other) in zip(self.of_pair, _PAIRS, strict=True):
            total += table[levels[_PLACE[one]], levels[_PLACE[other]]]
        return total


@lru_cache(maxsize=8)
def _truth(seed: int) -> _Truth:
    """The truth of a seed: sparse random effects, set so that every seed has the same spread and mean."""
    known = np.arange(1, 4_097, dtype=np.int64)
    levels = _levels(known, seed)
    rough = _Truth(
        seed=seed,
        intercept=0.0,
        scale=1.0,
        of_level=tuple(_effects(seed, choice.name, len(choice.shares) + 1) for choice in _CHOICES),
        of_pair=tuple(_effects(seed, f"{a} and {b}", *(len(_CHOICES[_PLACE[name]].shares) + 1 for name in (a, b))) / 2 for a, b in _PAIRS),
        of_device_and_page=_effects(seed, "device and page", len(DEVICES), len(_CHOICES[_PLACE["page"]].shares) + 1) / 8,
    )
    scale = _ATTRIBUTES_SD / float(rough.of_attributes(levels).std())
    scaled = replace(rough, scale=scale)

    keyword, device = np.nonzero(_devices(known, seed))
    log_odds = scaled.log_odds(known[keyword], levels[:, keyword], device)
    low, high = -20.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _cr(middle + log_odds).mean() < MEAN_CR else (low, middle)
    return replace(scaled, intercept=low)


def _effects(seed: int, name: str, *shape: int) -> Floats:
    """Effects on the log-odds, of which about half are zero."""
    places = np.arange(np.prod(shape), dtype=np.int64)
    effects = np.where(_hashed(seed, f"{name} matters", places) < 0.5, _hashed_normal(seed, f"{name} effect", places), 0.0)
    return effects.reshape(shape)


def _cr(log_odds: Floats) -> Floats:
    return np.minimum(1 / (1 + np.exp(-log_odds)), HIGHEST_CR)


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Consecutive rows of a table: ``keyword`` and ``device`` say of which row, ``attributes`` are those of the keywords."""

    keywords: Integers
    attributes: NDArray[np.int8]
    keyword: Integers
    device: Integers
    week: int | None
    clicks: Integers | None
    conversions: Integers | None


def _blocks(rows: int, seed: int, weeks: Sequence[int | None], keywords_in_a_block: int) -> Iterator[_Block]:
    """The rows of a table in order, block by block; each week has its share of them."""
    for number, week in enumerate(weeks):
        share = rows * (number + 1) // len(weeks) - rows * number // len(weeks)
        yield from _blocks_of_week(share, seed, week, keywords_in_a_block)


def _blocks_of_week(rows: int, seed: int, week: int | None, keywords_in_a_block: int) -> Iterator[_Block]:
    first = 1
    while rows > 0:
        keywords = np.arange(first, first + min(keywords_in_a_block, rows), dtype=np.int64)
        block = _block(keywords, rows, seed, week)
        yield block
        first += len(keywords)
        rows -= len(block.device)


def _block(keywords: Integers, most_rows: int, seed: int, week: int | None) -> _Block:
    """The first ``most_rows`` rows that these keywords have in a table."""
    shown = _devices(keywords, seed)
    if week is not None:
        shown &= _hashed(seed, f"shown in week {week}", _row_numbers(keywords[:, None], np.arange(3))) < _SHARE_OF_ROWS_IN_A_WEEK
    keyword, device = (numbers[:most_rows] for numbers in np.nonzero(shown))
    levels = _levels(keywords, seed)
    clicks = conversions = None
    if week is not None:
        of_row = keywords[keyword]
        clicks = _clicks(of_row, device, seed, week)
        cr = _truth(seed).cr(of_row, levels[:, keyword], device)
        conversions = _conversions(_row_numbers(of_row, device), clicks, cr, seed, week)
    attributes = _attributes(levels, keywords, seed)
    return _Block(
        keywords=keywords, attributes=attributes, keyword=keyword, device=device, week=week, clicks=clicks, conversions=conversions
    )


def _devices(keywords: Integers, seed: int) -> NDArray[np.bool_]:
    """Whether a keyword runs on a device, shape (n, 3); each runs on one at least."""
    bounds = np.fromiter(accumulate(_DEVICE_SET_SHARES[:-1]), dtype=np.float64)
    return _DEVICE_SETS[np.searchsorted(bounds, _hashed(seed, "devices", keywords), side="right")]


def _clicks(keywords: Integers, devices: Integers, seed: int, week: int) -> Integers:
    """Clicks of rows, from 1 to ``MOST_CLICKS``; half of what decides them is the keyword's own and the same in every week.

    P(clicks > x) = exp((-0.65 t - 0.074 t²) / f) with t = log x and f about 1, the device's factor: between a power law and a
    lognormal, as in real tables.
    """
    rows = _row_numbers(keywords, devices)
    # the sum of two squared normals is exponential, so the parts of the keyword and the row may simply be added
    rarity = (_hashed_normal(seed, "popularity", keywords) ** 2 + _hashed_normal(seed, f"clicks in week {week}", rows) ** 2) / 2
    log_clicks = (np.sqrt(0.65**2 + 4 * 0.074 * rarity * _DEVICE_CLICKS[devices]) - 0.65) / (2 * 0.074)
    return np.minimum(np.exp(np.minimum(log_clicks, 20)), MOST_CLICKS).astype(np.int64)


def _conversions(rows: Integers, clicks: Integers, cr: Floats, seed: int, week: int) -> Integers:
    """Conversions of rows; as in real tables a rare row has more of them than clicks."""
    conversions = _binomial(_hashed(seed, f"conversions in week {week}", rows), clicks, cr)
    mistaken = _hashed(seed, f"too many conversions in week {week}", rows)
    too_many = mistaken < _SHARE_OF_ROWS_WITH_TOO_MANY_CONVERSIONS
    conversions[too_many] = clicks[too_many] + 1 + (mistaken[too_many] * 3 / _SHARE_OF_ROWS_WITH_TOO_MANY_CONVERSIONS).astype(np.int64)
    return conversions


def _binomial(quantile: Floats, trials: Integers, probability: Floats) -> Integers:
    """The smallest k with P(X <= k) > quantile, by summing the terms; exact while (1 - HIGHEST_CR) ** MOST_CLICKS is a normal double."""
    drawn = np.zeros(len(trials), dtype=np.int64)
    term = np.exp(trials * np.log1p(-probability))
    open_rows = np.flatnonzero(quantile >= term)
    term, left, trials = term[open_rows], (quantile - term)[open_rows], trials[open_rows]
    odds = probability[open_rows] / (1 - probability[open_rows])
    successes = 0
    while len(open_rows):
        successes += 1
        drawn[open_rows] = successes
        term = term * ((trials - successes + 1) / successes * odds)
        left = left - term
        still = (left >= 0) & (trials > successes)
        open_rows, trials = open_rows[still], trials[still]
        term, left, odds = term[still], left[still], odds[still]
    return drawn


def _row_numbers(keywords: Integers, devices: Integers) -> Integers:
    return keywords * 4 + devices


def _hashed(seed: int, name: str, numbers: Integers) -> Floats:
    """Uniform numbers in [0, 1), one for each of ``numbers``, that depend on nothing but seed, name and number.

    SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"), entered at the place ``number``.
    """
    start = int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "little")
    bits = numbers.astype(np.uint64)
    bits *= np.uint64(0x9E3779B97F4A7C15)
    bits += np.uint64(start)
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _hashed_normal(seed: int, name: str, numbers: Integers) -> Floats:
    """Standard normal numbers, one for each of ``numbers`` (Box and Muller 1958)."""
    radius = np.sqrt(-2 * np.log1p(-_hashed(seed, f"{name}, radius", numbers)))
    normal: Floats = radius * np.cos(2 * np.pi * _hashed(seed, f"{name}, angle", numbers))
    return normal


def _write(file: IO[bytes], name: str, rows: int, seed: int, weeks: Sequence[int | None]) -> None:
    """Write a table in the format that ``name`` ends in."""
    if name.endswith(".parquet"):
        _write_parquet(file, _blocks(rows, seed, weeks, _KEYWORDS_IN_A_ROW_GROUP), with_week=weeks[0] is not None)
        return
    blocks = _blocks(rows, seed, weeks, _KEYWORDS_IN_A_BLOCK)
    if name.endswith(".csv"):
        _write_csv(file, blocks, with_week=weeks[0] is not None)
        return
    # no name and no time in the gzip header: the same text gives the same bytes
    with igzip.IGzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as compressed:
        _write_csv(compressed, blocks, with_week=weeks[0] is not None)


def _write_csv(file: IO[bytes] | igzip.IGzipFile, blocks: Iterator[_Block], *, with_week: bool) -> None:
    header = _HEADER + (_WEEK_HEADER if with_week else [])
    file.write((",".join(header) + "\n").encode())
    for block in blocks:
        file.write(_lines(block))


def _lines(block: _Block) -> memoryview:
    """The csv text of a block.

    Joined by hand: every attribute is one character wide, so they are written as one piece of 319 characters,
    which is five times as fast as pyarrow's csv writer with its 160 columns.
    """
    text = np.full((len(block.keywords), 2 * _ATTRIBUTES - 1), ord(","), dtype=np.uint8)
    text[:, ::2] = block.attributes.T
    text[:, ::2] += ord("0")
    of_keyword = pa.FixedSizeBinaryArray.from_buffers(pa.binary(text.shape[1]), len(text), [None, pa.py_buffer(text)])
    pieces = [
        pc.cast(pa.array(block.keywords), pa.string()).take(block.keyword).cast(pa.binary()),
        of_keyword.take(block.keyword).cast(pa.binary()),
        pa.array(DEVICES, pa.binary()).take(block.device),
    ]
    if block.week is not None:
        pieces += [
            pa.array([str(block.week)] * len(block.device), pa.binary()),
            pc.cast(pa.array(block.clicks), pa.string()).cast(pa.binary()),
            pc.cast(pa.array(block.conversions), pa.string()).cast(pa.binary()),
        ]
    pieces[-1] = pc.binary_join_element_wise(pieces[-1], b"\n", b"")
    lines = pc.binary_join_element_wise(*pieces, b",")
    return memoryview(lines.buffers()[2])


def _write_parquet(file: IO[bytes], blocks: Iterator[_Block], *, with_week: bool) -> None:
    types = [pa.int64(), *[pa.int8()] * _ATTRIBUTES, pa.string()]
    header = _HEADER
    if with_week:
        header, types = header + _WEEK_HEADER, [*types, pa.int8(), pa.int32(), pa.int32()]
    # no value is ever missing: a reader that knows it is a third quicker
    schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in zip(header, types, strict=True)])
    with pq.ParquetWriter(file, schema, compression="snappy", write_statistics=["entity_id"]) as writer:
        for block in blocks:
            columns = [pa.array(block.keywords[block.keyword])]
            columns += [pa.array(attribute[block.keyword]) for attribute in block.attributes]
            columns += [pa.array(DEVICES).take(block.device)]
            if block.week is not None:
                columns += [pa.array(np.full(len(block.device), block.week)), pa.array(block.clicks), pa.array(block.conversions)]
            writer.write_table(pa.table(columns, names=header).cast(schema))


def _check_rows(rows: int) -> None:
    if rows < 1:
        raise RequestError(f"a table of {rows} rows was asked for, but a table has at least one", next_step="Ask for 1 or more.")


def _unknown_format(name: str) -> RequestError:
    known = ", ".join(get_args(Format))
    return RequestError(f"{name!r} is none of the formats a table can have: {known}", next_step=f"Name one of {known}.")
