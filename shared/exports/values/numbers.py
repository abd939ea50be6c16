"""Reads the numbers of a column: decimal mark, thousands, percentages, currencies, and bounds like ``< 10%``."""

import functools
import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shared.exports.options import DecimalMark
from shared.exports.values.cells import with_plain_spaces

_CODES = (
    "EUR|USD|GBP|CHF|JPY|SEK|NOK|DKK|PLN|CZK|HUF|RON|BGN|TRY|INR|CAD|AUD|NZD|SGD|HKD|MXN|BRL|ARS|CLP|COP|PEN|ZAR|AED|SAR|ILS|KRW|CNY|TWD|"
    "THB|MYR|IDR|PHP|VND|RUB|UAH"
)
_CURRENCY = rf"US\$|CA\$|A\$|R\$|MX\$|[$€£¥₹₽₺₩]|kr\.?|zł|Kč|Ft|{_CODES}"
_NUMBER = (
    r"^(?P<bound>[<>])?\s*(?P<open>\()?(?P<sign>[-−+])?\s*"
    rf"(?P<before>{_CURRENCY})?\s*(?P<inner>[-−])?(?P<body>[.,]?\d(?:[\d.,'’ ]*\d)?)(?P<exponent>[eE][-+]?\d+)?\s*"
    rf"(?P<after>%|{_CURRENCY})?(?P<close>\))?$"
)
_WHOLE = r"(?:\d+|[1-9]\d{0,2}(?:THOUSAND\d{3})+|[1-9]\d{0,2}(?:[ ]\d{3})+|[1-9]\d{0,2}(?:['’]\d{3})+)"
_VALID: dict[DecimalMark, str] = {
    ".": rf"^(?:{_WHOLE.replace('THOUSAND', ',')}(?:\.\d+)?|\.\d+)$",
    ",": rf"^(?:{_WHOLE.replace('THOUSAND', '[.]')}(?:,\d+)?|,\d+)$",
}
_TO_REMOVE: dict[DecimalMark, str] = {".": "[,'’ ]", ",": "[.'’ ]"}
_THREE_DECIMALS: dict[DecimalMark, str] = {".": r"^[1-9]\d{0,2}\.\d{3}$", ",": r"^[1-9]\d{0,2},\d{3}$"}
_FRACTION: dict[DecimalMark, str] = {".": r"\.(?P<digits>\d+)$", ",": r",(?P<digits>\d+)$"}
_ID = r"^(?:0\d+|\d{16,})$"
_FEW_OTHERS = 3
_LOOKED_AT_FIRST = 200
_LOOSE = re.compile(_NUMBER)


@dataclass(frozen=True, kw_only=True, eq=False)
class NumberTexts:
    """The distinct texts of a column, divided into the parts of numbers."""

    distinct: pa.Array
    places: pa.ChunkedArray
    """The place of each cell among the distinct texts; null is a missing value."""

    @functools.cached_property
    def parts(self) -> pa.Array:
        """The parts of each distinct text; null is a text that is not a number."""
        return pc.extract_regex(with_plain_spaces(self.distinct), pattern=_NUMBER)

    @functools.cached_property
    def is_number(self) -> pa.Array:
        """Which distinct texts are numbers, whatever their decimal mark."""
        return pc.is_valid(self.parts)

    @property
    def are_numbers(self) -> bool:
        """True if every text is a number, and there is one."""
        return len(self.distinct) > 0 and self._begin_as_numbers and bool(pc.all(self.is_number).as_py())

    @functools.cached_property
    def _begin_as_numbers(self) -> bool:
        return all(map(_LOOSE.match, with_plain_spaces(self.distinct[:_LOOKED_AT_FIRST]).to_pylist()))

    @property
    def are_ids(self) -> bool:
        """True if a text has a leading zero or more digits than a double holds."""
        return bool(pc.any(pc.match_substring_regex(self.distinct, _ID)).as_py())

    @functools.cached_property
    def _body(self) -> pa.Array:
        return pc.struct_field(self.parts, "body")

    @functools.cached_property
    def _valid(self) -> dict[str, pa.Array]:
        return {mark: pc.match_substring_regex(self._body, pattern) for mark, pattern in _VALID.items()}

    def valid(self, mark: DecimalMark) -> pa.Array:
        """Which distinct texts are numbers under a decimal mark; null for those that are no numbers at all."""
        return self._valid[mark]

    def evidence(self, mark: DecimalMark) -> pa.Array:
        """Which distinct texts are numbers under this decimal mark only."""
        other: DecimalMark = "," if mark == "." else "."
        return pc.fill_null(pc.and_(self.valid(mark), pc.invert(self.valid(other))), False)

    def ambiguous(self, mark: DecimalMark) -> pa.Array:
        """Which distinct texts hold this mark and are numbers under both: ``1,234``."""
        marked = pc.match_substring(self._body, mark)
        return pc.fill_null(pc.and_(pc.and_(self.valid("."), self.valid(",")), marked), False)

    def values(self, mark: DecimalMark) -> pa.Array:
        """The number of each distinct text, null where there is none."""
        if mark not in self._values:
            self._values[mark] = self._read(mark)
        return self._values[mark]

    @functools.cached_property
    def _values(self) -> dict[str, pa.Array]:
        return {}

    def _read(self, mark: DecimalMark) -> pa.Array:
        valid = pc.fill_null(self.valid(mark), False)
        body = pc.replace_substring_regex(self._body, _TO_REMOVE[mark], "")
        body = pc.replace_substring(body, mark, ".") if mark == "," else body
        text = pc.binary_join_element_wise(body, pc.struct_field(self.parts, "exponent"), "", null_handling="skip")
        numbers = pc.cast(pc.if_else(valid, text, pa.scalar(None, pa.string())), pa.float64())
        after = pc.struct_field(self.parts, "after")
        percent = pc.fill_null(pc.equal(after, "%"), False)
        numbers = pc.if_else(percent, pc.divide(numbers, 100.0), numbers)
        bound = pc.fill_null(pc.struct_field(self.parts, "bound"), "")
        numbers = pc.if_else(pc.equal(bound, "<"), pc.divide(numbers, 2.0), numbers)
        above = pc.and_(pc.equal(bound, ">"), percent)
        numbers = pc.if_else(above, pc.divide(pc.add(numbers, 1.0), 2.0), numbers)
        return pc.if_else(self._is_negative, pc.negate(numbers), numbers)

    @property
    def _is_negative(self) -> pa.Array:
        minus = pa.array(["-", "−"])
        signs = [pc.is_in(pc.fill_null(pc.struct_field(self.parts, name), ""), value_set=minus) for name in ("sign", "inner")]
        return pc.or_(pc.or_(*signs), pc.equal(pc.fill_null(pc.struct_field(self.parts, "open"), ""), "("))

    def wrong_form(self, mark: DecimalMark) -> tuple[int, str] | None:
        """Returns the place of a distinct number whose form contradicts the others, and the reason; None if there is none."""
        percent = pc.fill_null(pc.equal(pc.struct_field(self.parts, "after"), "%"), False)
        plain = pc.and_(pc.and_(self.is_number, pc.invert(percent)), pc.fill_null(pc.not_equal(self.values(mark), 0.0), False))
        if pc.any(percent).as_py() and pc.any(plain).as_py():
            minority = plain if pc.sum(plain).as_py() <= pc.sum(percent).as_py() else percent
            return int(pc.index(minority, True).as_py()), "some of its values have a percent sign and others do not"
        currencies = pc.coalesce(pc.struct_field(self.parts, "before"), pc.if_else(percent, None, pc.struct_field(self.parts, "after")))
        named = pc.unique(pc.drop_null(pc.if_else(pc.equal(currencies, ""), pa.scalar(None, pa.string()), currencies))).to_pylist()
        if len(named) > 1:
            return int(pc.index(currencies, named[1]).as_py()), f"its values are of more than one currency: {', '.join(sorted(named))}"
        return self._thousands_in_disguise(mark)

    def _thousands_in_disguise(self, mark: DecimalMark) -> tuple[int, str] | None:
        """Returns a number of three decimals among numbers of two: ``1.234`` in a column of ``12.50`` is perhaps 1,234."""
        three = pc.fill_null(pc.match_substring_regex(self._body, _THREE_DECIMALS[mark]), False)
        if not pc.any(three).as_py():
            return None
        digits = pc.struct_field(pc.extract_regex(self._body, pattern=_FRACTION[mark]), "digits")
        lengths = pc.binary_length(pc.drop_null(pc.if_else(three, pa.scalar(None, pa.string()), digits)))
        if len(lengths) < _FEW_OTHERS or not pc.all(pc.equal(lengths, 2)).as_py():
            return None
        return int(pc.index(three, True).as_py()), "it has three decimals and the others have two: is its mark that of thousands?"

    def cells(self, of_distinct: pa.Array) -> pa.ChunkedArray:
        """Spreads a value for each distinct text to the cells."""
        return pa.chunked_array([of_distinct.take(chunk) for chunk in self.places.chunks], of_distinct.type)

    def row_of(self, place: int) -> int:
        """Returns the first row with a distinct text."""
        return int(pc.index(self.places, pa.scalar(place, pa.int32())).as_py())


def number_texts(texts: pa.ChunkedArray) -> NumberTexts:
    """Divides the cleaned texts of a column."""
    encoded = texts.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return NumberTexts(distinct=encoded.dictionary, places=pa.chunked_array([encoded.indices]))


def as_whole_numbers(numbers: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns the numbers as int64 if all of them are whole and small enough, else as they are."""
    values = pc.drop_null(numbers).to_numpy()
    if len(values) and np.all(np.abs(values) < 2**53) and np.all(values == np.rint(values)):
        return pc.cast(numbers, pa.int64())
    return numbers
