"""The shapes of an export: encoding, separator, titles, totals, and the signs for what is missing."""

from dataclasses import dataclass
from typing import Literal

from producers.sample.exports.platforms import Platform


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One way in which a platform writes a report."""

    ending: str
    """The end of the file's name, with its format: ``csv``, ``utf-16.csv``, ``xlsx``."""
    encoding: str = "utf-8"
    separator: str = ","
    has_titles: bool = True
    has_totals: bool = True
    has_separator_line: bool = False
    currency: Literal["none", "sign"] = "none"
    missing: str = " --"
    keyword_marks: bool = False
    """True for a report of keywords with the marks of their match types and no column for them."""

    @property
    def is_workbook(self) -> bool:
        """True for an Excel workbook, which stores numbers and dates as such."""
        return self.ending.endswith("xlsx")


SHAPES: dict[Platform, tuple[Shape, ...]] = {
    "google-ads": (
        Shape(ending="csv"),
        Shape(ending="utf-16.csv", encoding="utf-16", separator="\t"),
        Shape(ending="semicolons.csv", encoding="utf-8-sig", separator=";", has_separator_line=True, currency="sign", missing="--"),
        Shape(ending="keywords.csv", keyword_marks=True),
        Shape(ending="xlsx"),
    ),
    "microsoft-ads": (
        Shape(ending="csv", encoding="utf-8-sig", missing=""),
        Shape(ending="tsv", separator="\t", has_titles=False, missing="-"),
        Shape(ending="xlsx", missing=""),
    ),
    "amazon-sp": (
        Shape(ending="csv", encoding="cp1252", has_totals=False, currency="sign", missing=""),
        Shape(ending="bars.txt", separator="|", has_totals=False, missing=""),
        Shape(ending="xlsx", has_totals=False, missing=""),
    ),
}
"""The shapes of each platform; the first is the usual one."""
