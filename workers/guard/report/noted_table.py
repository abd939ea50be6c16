"""A table whose rows may have a note, on a line of its own below the row, so that the columns stay narrow on a phone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from model_store.report.html import Markup, element


@dataclass(frozen=True, kw_only=True)
class NotedRow:
    """The cells of a row, and the note below it; empty for none."""

    cells: Sequence[str]
    note: str = ""


def noted_table(caption: str, names: Sequence[str], rows: Sequence[NotedRow]) -> Markup:
    """Draws the table; the first cell of each row is its heading."""
    head = element("thead", element("tr", *(element("th", name, scope="col") for name in names)))
    body = element("tbody", *(part for row in rows for part in _parts(row)))
    return element("div", element("table", element("caption", caption), head, body), class_="card", tabindex=0)


def _parts(row: NotedRow) -> Iterator[Markup]:
    heading, *cells = row.cells
    yield element("tr", element("th", heading, scope="row"), *(element("td", cell) for cell in cells))
    if row.note:
        yield element("tr", element("td", row.note, colspan=len(row.cells)), class_="note")
