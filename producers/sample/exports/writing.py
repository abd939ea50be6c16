"""Writes made-up exports."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np

from producers.sample.exports.accounts import Account, make_account
from producers.sample.exports.platforms import (
    COLUMNS,
    DEVICES,
    FOOTER,
    MATCH_TYPES,
    NAMES,
    NUMBER_FORMS,
    TITLES,
    TOTALS,
    Language,
    NumberForm,
    Platform,
)
from producers.sample.exports.shapes import SHAPES, Shape
from producers.sample.exports.workbook import write_workbook
from producers.sample.hashing import Integers
from shared.errors import RequestError

DAY = date(2026, 5, 1)
_SHARE_BOUNDS = 0.1, 0.9
_FIRST_ID = 10**16

Cell = str | int | float | date | None


def write_exports(out: Path, platform: Platform, language: Language, rows: int, seed: int) -> list[Path]:
    """Writes an account as exports of a platform, one file for each of its shapes, and ``truth.csv`` with the true rates.

    Raises:
        RequestError: ``rows`` is below 1, or the folder cannot be written.
    """
    if rows < 1:
        raise RequestError(f"an export of {rows} rows was asked for, but an export has at least one", next_step="Ask for 1 or more.")
    account = make_account(rows, seed)
    contents = {f"{platform}.{language}.{shape.ending}": export_bytes(account, platform, language, shape) for shape in SHAPES[platform]}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in {**contents, "truth.csv": _truth(account, language)}.items():
            (out / name).write_bytes(content)
    except OSError as error:
        raise RequestError(
            f"{out} cannot be written: {error.strerror or error}", next_step="Name another folder with --out DIR."
        ) from error
    return [out / name for name in [*contents, "truth.csv"]]


def _truth(account: Account, language: Language) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["term", "device", "clicks", "conversions", "cr"])
    devices = [DEVICES[language][number] for number in account.device]
    writer.writerows(zip(account.term, devices, account.clicks, account.conversions, account.cr, strict=True))
    return text.getvalue().encode()


def export_bytes(account: Account, platform: Platform, language: Language, shape: Shape) -> bytes:
    """Returns an account as an export of a platform."""
    lines = list(_lines(account, platform, language, shape))
    if shape.is_workbook:
        return write_workbook(lines)
    text = io.StringIO(newline="")
    if shape.has_separator_line:
        text.write(f"sep={shape.separator}\r\n")
    csv.writer(text, delimiter=shape.separator, lineterminator="\r\n").writerows(lines)
    content = text.getvalue()
    # the code pages of Windows have no narrow space
    return (content.replace("\u202f", "\u00a0") if shape.encoding == "cp1252" else content).encode(shape.encoding)


def _lines(account: Account, platform: Platform, language: Language, shape: Shape) -> Iterator[Sequence[Cell]]:
    columns, names = COLUMNS[platform], list(NAMES[platform][language])
    if shape.keyword_marks:
        kept = [place for place, name in enumerate(columns) if name != "match_type"]
        columns, names = tuple(columns[place] for place in kept), [names[place] for place in kept]
        names[0] = {"en": "Keyword", "de": "Keyword", "fr": "Mot clé", "es": "Palabra clave"}[language]
    cells = _Cells(account, language, shape)
    if shape.has_titles:
        yield from ([title.format(rows=len(account.term))] for title in TITLES[platform][language])
    yield [*names]
    for row in range(len(account.term)):
        yield [cells.cell(name, row) for name in columns]
    if shape.has_totals:
        for label, factor in zip(TOTALS[language], (1, 3), strict=True):
            yield [label, *(cells.total(name, factor) for name in columns[1:])]
    if platform == "microsoft-ads" and shape.has_titles:
        yield []
        yield [FOOTER]


class _Cells:
    """The cells of an export."""

    def __init__(self, account: Account, language: Language, shape: Shape) -> None:
        self._account, self._shape, self._language = account, shape, language
        self._form: NumberForm = NUMBER_FORMS[language]
        self._of: dict[str, Callable[[int], Cell]] = {
            "term": self._term,
            "keyword": lambda row: account.term[row].rpartition(" ")[0],
            "match_type": lambda row: MATCH_TYPES[language][account.match_type[row]],
            "device": lambda row: DEVICES[language][account.device[row]],
            "campaign": account.campaign.__getitem__,
            "ad_group": account.ad_group.__getitem__,
            "currency": lambda _: "USD" if language == "en" else "EUR",
            "date": lambda _: DAY if shape.is_workbook else DAY.isoformat(),
            "id": lambda row: str(_FIRST_ID + len(account.campaign[row])),
            "share": self._share,
            "clicks": lambda row: self._whole(account.clicks[row]),
            "impressions": lambda row: self._whole(account.impressions[row]),
            "cost": lambda row: self._money(account.cost_cents[row]),
            "value": lambda row: self._money(account.value_cents[row]),
            "conversions": lambda row: self._decimal(float(account.conversions[row])),
            "cpc": partial(self._ratio, self._money, account.cost_cents, account.clicks),
            "cost_per_conversion": partial(self._ratio, self._money, account.cost_cents, account.conversions),
            "ctr": partial(self._ratio, self._percent, account.clicks, account.impressions),
            "conversion_rate": partial(self._ratio, self._percent, account.conversions, account.clicks),
            "acos": partial(self._ratio, self._percent, account.cost_cents, account.value_cents),
        }

    def cell(self, name: str, row: int) -> Cell:
        return self._of[name](row)

    def total(self, name: str, factor: int) -> Cell:
        """The cell of a row of totals that counts ``factor`` times the rows."""
        if name in ("clicks", "impressions"):
            return self._whole(factor * getattr(self._account, name).sum())
        if name in ("cost", "value"):
            return self._money(factor * getattr(self._account, f"{name}_cents").sum())
        if name == "conversions":
            return self._decimal(float(factor * self._account.conversions.sum()))
        return self._of["currency"](0) if name == "currency" else self._missing

    @property
    def _missing(self) -> str | None:
        return (self._shape.missing.strip() if self._shape.is_workbook else self._shape.missing) or None

    def _term(self, row: int) -> Cell:
        term = self._account.term[row]
        return (f"[{term}]", f'"{term}"', term)[self._account.match_type[row]] if self._shape.keyword_marks else term

    def _share(self, row: int) -> Cell:
        low, high = _SHARE_BOUNDS
        share = float(self._account.share[row])
        if share < low:
            return f"< {self._text_percent(low, 0)}"
        return f"> {self._text_percent(high, 0)}" if share > high else self._percent(share)

    def _whole(self, number: np.int64) -> Cell:
        return int(number) if self._shape.is_workbook else f"{number:,}".replace(",", self._form.thousands)

    def _decimal(self, number: float) -> Cell:
        return number if self._shape.is_workbook else self._text(number, 2)

    def _money(self, cents: np.int64 | float) -> Cell:
        if self._shape.is_workbook:
            return round(float(cents) / 100, 2)
        text = self._text(float(cents) / 100, 2)
        return self._form.money.format(text) if self._shape.currency == "sign" else text

    def _percent(self, share: float) -> Cell:
        return round(share, 4) if self._shape.is_workbook else self._text_percent(share, 2)

    def _text_percent(self, share: float, decimals: int) -> str:
        return f"{self._text(100 * share, decimals)}{self._form.percent}"

    def _ratio(self, shown: Callable[[float], Cell], above: Integers, below: Integers, row: int) -> Cell:
        return shown(float(above[row]) / float(below[row])) if below[row] else self._missing

    def _text(self, number: float, decimals: int) -> str:
        marks = {",": self._form.thousands, ".": self._form.decimal}
        return "".join(marks.get(char, char) for char in f"{number:,.{decimals}f}")
