"""The canonical csv text of an export: no titles, no totals, numbers with a point, missing values empty, known names of the outcomes."""

import io
import itertools
from collections.abc import Iterator
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from shared.exports.known_names import Concept
from shared.exports.reading import MOST_BYTES, read_export_bytes
from shared.exports.roles.inference import only_column
from shared.exports.table import ExportTable
from workers.tables.streams import Stream

MOST_GAPS = 1_000
_FORM = pa_csv.WriteOptions(quoting_style="needed")
_FORM_OF_ROWS = pa_csv.WriteOptions(quoting_style="needed", include_header=False)
_LABELS = {Concept.CLICKS: "Clicks", Concept.CONVERSIONS: "Conversions"}


def canonical_text(raw: Stream, path: str) -> Stream:
    """Reads an export whole, and returns its canonical text.

    Raises:
        TableError: it cannot be read without doubt.
    """
    export = read_export_bytes(raw.read(MOST_BYTES + 1), path)
    text = io.BytesIO()
    table = _with_labels(export)
    pa_csv.write_csv(table.slice(0, 0), text, _FORM)
    line = 2
    for start, end in _runs(export.lines):
        # rejects name lines: empty lines stand where the export has titles, totals and empty lines
        text.write(b"\n" * max(0, int(export.lines[start]) - line))
        before = text.tell()
        pa_csv.write_csv(table.slice(start, end - start), text, _FORM_OF_ROWS)
        line = max(line, int(export.lines[start])) + text.getbuffer()[before:].tobytes().count(b"\n")
    text.seek(0)
    return cast(Stream, text)


def _runs(lines: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yields the ranges of rows that stand on lines without a gap; a table with very many gaps is one range."""
    ends = np.flatnonzero(np.diff(lines) != 1) + 1
    ends = ends if len(ends) <= MOST_GAPS else ends[:0]
    yield from itertools.pairwise([0, *ends.tolist(), len(lines)])


def _with_labels(export: ExportTable) -> pa.Table:
    """Returns the table with its outcomes called Clicks and Conversions, whatever their language."""
    names = list(export.names)
    for concept, label in _LABELS.items():
        column = only_column(export, concept)
        if column is not None and label not in names:
            names[names.index(column)] = label
    return export.table.rename_columns(names)
