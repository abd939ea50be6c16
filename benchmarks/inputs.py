"""The tables to be scored: the same made-up rows in every format, as ``scoring sample`` makes them."""

from pathlib import Path
from typing import get_args

from producers.sample import Format, write_table

FORMATS = (*get_args(Format), "folder")
FILES_IN_FOLDER = 8
SEED = 1


def make_table(folder: Path, rows: int, name: str) -> Path:
    """A table of so many rows in this format; ``folder`` is one of csv files."""
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


def make_training_table(folder: Path, rows: int) -> Path:
    """A table to train on."""
    return write_table(folder / f"train-{rows}.csv", rows, SEED, week=1).path
