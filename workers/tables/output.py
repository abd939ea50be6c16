"""The text of predictions and rejects, compressed."""

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
"""How many rejects an error quotes."""

WRITTEN_AT_ONCE = 8192
"""Rows that Arrow turns into text together; its own 1024 take a tenth longer."""


def output_header(keys: Sequence[str], *, interval: bool) -> bytes:
    """The first line of a result."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([*keys, RATE, *(BOUNDS if interval else ())])
    return out.getvalue().encode()


def prediction_text(*columns: np.ndarray) -> bytes:
    """The lines of a result without a header: keys, then rates, each as the shortest digits that read back to the same double."""
    if any(column.dtype.kind not in "iuf" for column in columns):
        return _lines_with_text(columns)
    out = pa.BufferOutputStream()
    table = pa.table(list(columns), names=[str(place) for place in range(len(columns))])
    pa_csv.write_csv(table, out, pa_csv.WriteOptions(include_header=False, quoting_style="none", batch_size=WRITTEN_AT_ONCE))
    return out.getvalue().to_pybytes()


def _lines_with_text(columns: Sequence[np.ndarray]) -> bytes:
    """The same where a key is text: Arrow's writer would put quotes around every text, or refuse what needs them."""
    cells = [pa.array(column).cast(pa.string()) if column.dtype.kind in "iuf" else _quoted(column) for column in columns]
    lines = pc.binary_join_element_wise(*cells, ",").to_pylist()
    return "".join(f"{line}\n" for line in lines).encode()


def _quoted(texts: np.ndarray) -> pa.Array:
    """Texts as a csv file has them: in quotes where they hold a comma or a quote; no line break is in them."""
    array = pa.array(texts, pa.string(), from_pandas=True)
    in_quotes = pc.binary_join_element_wise('"', pc.replace_substring(array, '"', '""'), '"', "")
    return pc.if_else(pc.match_substring_regex(array, '[,"]'), in_quotes, array)


def rejects_text(path: str, rejects: Sequence[Reject]) -> bytes:
    """The lines ``file,line,column,value,reason`` without a header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows((path, reject.line, reject.column, reject.value.replace("\r", " "), reject.reason) for reject in rejects)
    return out.getvalue().encode()


def read_rejects(text: bytes) -> list[Reject]:
    """What ``rejects_text`` wrote of one file."""
    records = csv.reader(io.StringIO(text.decode(), newline=""))
    return [Reject(line=int(line), column=column, value=value, reason=reason) for _, line, column, value, reason in records]


def compress(text: bytes) -> bytes:
    """One gzip member without a time in it: the same text gives the same bytes; members put end to end are one gzip file."""
    compressed: bytes = igzip.compress(text, compresslevel=GZIP_LEVEL, mtime=0)
    return compressed


def decompress(data: bytes) -> bytes:
    """The text of a gzip file of one or more members."""
    text: bytes = igzip.decompress(data)
    return text
