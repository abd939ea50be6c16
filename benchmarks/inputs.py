"""The tables to score: the same generated rows in every format, as ``scoring sample`` makes them."""

from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from producers.sample.formats import Format
from producers.sample.tables import write_table

COMPARED = (*get_args(Format), "folder")
LARGE_GROUPS = "pandas.parquet"
FORMATS = (*COMPARED, LARGE_GROUPS)
ROWS_IN_LARGE_GROUP = 1 << 20
FILES_IN_FOLDER = 8
SEED = 1


def make_table(folder: Path, rows: int, name: str) -> Path:
    """Writes a table in this format; ``folder`` is a folder of csv files, ``pandas.parquet`` a csv table converted by pandas."""
    if name == LARGE_GROUPS:
        return _with_large_groups(folder, rows)
    if name != "folder":
        return write_table(folder / f"table-{rows}.{name}", rows, SEED).path
    whole = write_table(folder / f".table-{rows}.csv", rows, SEED).path
    target = folder / f"table-{rows}"
    target.mkdir()
    with whole.open("rb") as lines:
        header = lines.readline()
        for number in range(FILES_IN_FOLDER):
            with (target / f"{number:02d}.csv").open("wb") as out:
                out.write(header)
                for _ in range(rows * number // FILES_IN_FOLDER, rows * (number + 1) // FILES_IN_FOLDER):
                    out.write(lines.readline())
    whole.unlink()
    return target


def _with_large_groups(folder: Path, rows: int) -> Path:
    """Writes Parquet as pandas and Arrow convert csv: numbers of eight bytes, 1,048,576 rows per row group."""
    whole = write_table(folder / f".table-{rows}.csv", rows, SEED).path
    target = folder / f"table-{rows}.{LARGE_GROUPS}"
    held: list[pa.RecordBatch] = []
    with pa_csv.open_csv(whole) as batches, pq.ParquetWriter(target, batches.schema) as out:
        for batch in batches:
            held.append(batch)
            if sum(batch.num_rows for batch in held) >= ROWS_IN_LARGE_GROUP:
                table = pa.Table.from_batches(held)
                out.write_table(table.slice(0, ROWS_IN_LARGE_GROUP), row_group_size=ROWS_IN_LARGE_GROUP)
                held = table.slice(ROWS_IN_LARGE_GROUP).to_batches()
        if held:
            out.write_table(pa.Table.from_batches(held), row_group_size=ROWS_IN_LARGE_GROUP)
    whole.unlink()
    return target


def make_training_table(folder: Path, rows: int) -> Path:
    """Writes a training table."""
    return write_table(folder / f"train-{rows}.csv", rows, SEED, week=1).path
