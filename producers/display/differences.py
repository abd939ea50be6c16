"""Prints the differences between two results."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from producers.channels.changed_rows import ChangedRow
from producers.channels.compared_results import ComparedResults
from producers.channels.differences import DeviceDifference, Differences
from producers.display.consoles import print_prose
from producers.display.facts import print_facts
from producers.display.listing import print_list
from shared.catalog.manifests import ResultManifest
from shared.guard.checks import Weight
from shared.guard.verdict import ALL, RowProblem
from shared.guard.weights import Tally

TITLES = {
    RowProblem.MOVED: "Rows whose rate moved, the worst first by clicks x change",
    RowProblem.LOST: "Lost rows, the worst first by clicks x rate",
    RowProblem.NEW: "New rows, the worst first by clicks x rate",
    RowProblem.DOUBLED: "Rows with the key of an earlier row, the first ones",
}

BY_DEVICE = ("device", "rows before", "rows now", "mean before", "mean now", "change")


def print_differences(console: Console, compared: ComparedResults, found: Differences) -> None:
    """Prints which results are compared, the counts, the rates by device, and the rows whose change costs most."""
    before = {f"{name} before": value for name, value in _described(compared.base).items()}
    print_facts(console, _described(compared.result) | before)
    later = f", which is later than that of job {compared.result.job_id}" if compared.is_base_later else ""
    print_prose(console, f"Before is the result {compared.relation}{later}. {compared.note}".rstrip())
    console.print()
    counted = ("rows", "number", "clicks")[: 3 if found.has_clicks else 2]
    print_list(console, counted, [row[: len(counted)] for row in _counted(found)], whole=counted)
    console.print()
    print_list(console, BY_DEVICE, [_device(device) for device in found.devices], whole=BY_DEVICE)
    print_prose(console, _weights_in_words(found))
    for kind, title in TITLES.items():
        if found.top[kind]:
            console.print()
            _print_rows(console, title, found.top[kind])


def _described(result: ResultManifest) -> dict[str, str]:
    return {"job": result.job_id, "release": result.release, "table": f"{result.table.path}, {result.rows_scored:,} rows scored"}


def _counted(found: Differences) -> list[tuple[str, str, str]]:
    counts = found.counts
    rows = [
        ("lost", counts.lost),
        ("new", counts.new),
        ("same rate", counts.unchanged),
        ("moved", counts.moved),
        (f"  by more than {found.by_more_than * 100:g} %", counts.far),
    ]
    if found.knows_features:
        others = Tally(counts.moved.rows - counts.moved_alone.rows, counts.moved.clicks - counts.moved_alone.clicks)
        rows += [("  same features: the model changed", counts.moved_alone), ("  other features: the table changed", others)]
    doubled = f"{counts.doubled:,}" if not counts.doubled_before else f"{counts.doubled:,}, before {counts.doubled_before:,}"
    return [*((name, f"{tally.rows:,}", _number(tally.clicks)) for name, tally in rows), ("doubled", doubled, "")]


def _device(device: DeviceDifference) -> tuple[str, ...]:
    rows = (f"{device.rows_before:,}", f"{device.rows_now:,}")
    return (device.device, *rows, _rate(device.mean_before), _rate(device.mean_now), _change(device.mean_before, device.mean_now))


def _weights_in_words(found: Differences) -> str:
    by_rows = [device.device for device in found.devices if device.weight == Weight.ROWS]
    if not by_rows:
        weights = "Means are weighted by clicks."
    elif len(by_rows) == len(found.devices):
        weights = "Means are over rows, because no row has clicks in both tables."
    else:
        weights = f"Means are weighted by clicks; of {', '.join(by_rows)} they are over rows, which have no clicks."
    return weights if found.knows_features else f"{weights} It is unknown which rows have the same features in both tables."


def _print_rows(console: Console, title: str, rows: Sequence[ChangedRow]) -> None:
    """Prints rows of one kind; the file is named once if all rows are of the same."""
    files = {row.file for row in rows}
    only = next(iter(files)) if len(files) == 1 else None
    print_prose(console, f"{title}, of {only}:" if only else f"{title}:")
    cells = [_cells(row, names_file=only is None) for row in rows]
    there = [name for name in cells[0] if any(of_row[name] for of_row in cells)]
    print_list(console, there, [[of_row[name] for name in there] for of_row in cells], whole=[name for name in there if name != "file"])


def _cells(row: ChangedRow, *, names_file: bool) -> dict[str, str]:
    is_moved = row.what == RowProblem.MOVED
    return {
        "key": row.key,
        "device": "" if row.device == ALL else row.device,
        "before": "" if row.rate_before is None else _rate(row.rate_before),
        "now": "" if row.rate_now is None else _rate(row.rate_now),
        "change": _change(row.rate_before, row.rate_now) if is_moved else "",
        "clicks": "" if row.clicks is None else _number(row.clicks),
        "features": row.features or "",
        "line": "" if row.line is None else f"{row.line}",
        "file": row.file or "" if names_file else "",
    }


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _number(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")


def _change(before: float | None, now: float | None) -> str:
    if before is None or now is None:
        return "-"
    return f"{(now / before - 1) * 100:+,.1f} %" if before else ("0 %" if not now else "from 0")


def data_of(compared: ComparedResults, found: Differences) -> dict[str, Any]:
    """The differences as JSON values."""
    counts = found.counts
    tallies = {name: tally for name, tally in vars(counts).items() if isinstance(tally, Tally)}
    return {
        "result": _identity(compared.result),
        "before": _identity(compared.base) | {"relation": compared.relation, "is_later": compared.is_base_later},
        "rows": {name: tally.rows for name, tally in tallies.items()},
        "doubled": {"before": counts.doubled_before, "now": counts.doubled},
        "clicks": {name: tally.clicks for name, tally in tallies.items()} if found.has_clicks else None,
        "by_more_than": float(found.by_more_than),
        "knows_features": found.knows_features,
        "devices": [asdict(device) for device in found.devices],
        "top": {str(kind): [row._asdict() for row in rows] for kind, rows in found.top.items()},
    }


def _identity(result: ResultManifest) -> dict[str, Any]:
    return {
        "job_id": result.job_id,
        "release": result.release,
        "revision": result.revision,
        "table": result.table.path,
        "rows_scored": result.rows_scored,
    }
