"""Formats predictions and rejects as compressed csv text."""

import csv
import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from isal import igzip

from workers.tables.rows import Reject
from workers.tables.schema import BOUNDS, RATE

REJECTS_HEADER = b"file,line,column,value,reason\n"
GZIP_LEVEL = 1

REJECTS_QUOTED = 3
"""How many rejects an error message quotes."""

WRITTEN_AT_ONCE = 8192
"""Rows that Arrow converts to text together; its default of 1024 takes a tenth longer."""


def output_header(keys: Sequence[str], *, interval: bool) -> bytes:
    """Returns the header line of a result."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([*keys, RATE, *(BOUNDS if interval else ())])
    return out.getvalue().encode()


def prediction_text(*columns: np.ndarray) -> bytes:
    """Returns the lines of a result without a header: keys, then rates, each as the shortest digits that parse back to the same double."""
    if any(column.dtype.kind not in "iuf" for column in columns):
        return _lines_with_text(columns)
    out = pa.BufferOutputStream()
    table = pa.table(list(columns), names=[str(place) for place in range(len(columns))])
    pa_csv.write_csv(table, out, pa_csv.WriteOptions(include_header=False, quoting_style="none", batch_size=WRITTEN_AT_ONCE))
    return out.getvalue().to_pybytes()


def _lines_with_text(columns: Sequence[np.ndarray]) -> bytes:
    """Does the same for text keys: Arrow's csv writer would either quote every text or fail on texts that need quotes."""
    cells = [pa.array(column).cast(pa.string()) if column.dtype.kind in "iuf" else _quoted(column) for column in columns]
    lines = pc.binary_join_element_wise(*cells, ",").to_pylist()
    return "".join(f"{line}\n" for line in lines).encode()


def _quoted(texts: np.ndarray) -> pa.Array:
    """Quotes the texts that contain a comma or a quote, as csv requires; the texts must not contain line breaks."""
    array = pa.array(texts, pa.string(), from_pandas=True)
    in_quotes = pc.binary_join_element_wise('"', pc.replace_substring(array, '"', '""'), '"', "")
    return pc.if_else(pc.match_substring_regex(array, '[,"]'), in_quotes, array)


def rejects_text(path: str, rejects: Sequence[Reject]) -> bytes:
    """Returns the lines ``file,line,column,value,reason`` without a header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows((path, reject.line, reject.column, reject.value.replace("\r", " "), reject.reason) for reject in rejects)
    return out.getvalue().encode()


def read_rejects(text: bytes) -> list[Reject]:
    """Parses what ``rejects_text`` wrote for one file."""
    records = csv.reader(io.StringIO(text.decode(), newline=""))
    return [Reject(line=int(line), column=column, value=value, reason=reason) for _, line, column, value, reason in records]


def compress(text: bytes) -> bytes:
    """Returns one gzip member without a timestamp: the same text gives the same bytes, and concatenated members are one gzip file."""
    compressed: bytes = igzip.compress(text, compresslevel=GZIP_LEVEL, mtime=0)
    return compressed


def decompress(data: bytes) -> bytes:
    """Unpacks a gzip file of one or more members."""
    text: bytes = igzip.decompress(data)
    return text
