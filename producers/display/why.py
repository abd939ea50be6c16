"""Prints the explanation of a rate."""

from rich.console import Console

from producers.display.consoles import print_line
from producers.display.facts import print_facts
from producers.display.listing import print_list
from shared.guard.explanation import ExplainedRow, Explanation, RowState, Split


def print_explanation(console: Console, found: Explanation) -> None:
    """Prints where a rate comes from, the rate before, and the parts of the change."""
    facts = {**found.keys, **_facts(found.now)}
    if found.before is not None:
        facts |= {f"before: {name}": value for name, value in _facts(found.before).items()}
    if found.change is not None and found.before is not None:
        facts |= {"change": _change(found.change) + (_times(found.now.rate, found.before.rate) if found.change else "")}
    print_facts(console, facts)
    console.print()
    if found.split is None:
        print_line(console, f"The change is not split: {found.why_not}.")
    else:
        _print_split(console, found.split)


def _facts(row: ExplainedRow) -> dict[str, str]:
    where = "" if row.file is None or row.line is None else f"{row.file}, line {row.line:,}"
    chunk = "" if row.chunk is None else f", chunk {row.chunk}"
    interval = "" if row.low is None or row.high is None else f" ({row.low!r} to {row.high!r})"
    return {
        "rate": f"{row.rate!r}{interval}" if row.state == RowState.SCORED else _absence(row),
        "release": row.release,
        "job": row.job_id + (", whose result is held: decide with scoring results approve or refuse" if row.is_held else ""),
        "finished": f"{row.finished:%Y-%m-%d %H:%M:%S} UTC",
        **({} if row.state == RowState.ABSENT else {"row": f"{where}{chunk}" or f"unknown, in {row.table}"}),
        **({"clicks": f"{row.clicks:g}"} if row.clicks is not None else {}),
    }


def _absence(row: ExplainedRow) -> str:
    return f"none: rejected, {row.reason}" if row.state == RowState.REJECTED else f"none: not in the table {row.table}"


def _print_split(console: Console, split: Split) -> None:
    if not (split.columns or any(split.parts)):
        print_line(console, "The rate did not change.")
        return
    rows = [("model", "the old row under both releases", "", "", _change(split.model))]
    rows += [("history", name, "", "", _change(value)) for name, value in split.reasons.items() if value]
    rows += [("row", column.column, column.before, column.now, _change(column.change)) for column in split.columns]
    rows += [("row", name, "", "", _change(value)) for name, value in split.rests.items()]
    print_list(console, ("part", "what", "before", "now", "change"), rows, whole=("part", "change"))
    how = f"Columns: {split.method}. " if split.columns else ""
    print_line(console, f"{how}The parts add up to the change.")


def _change(value: float) -> str:
    return f"{value:+.6g}" if value else "0"


def _times(now: float | None, before: float | None) -> str:
    return f" ({now / before:.3g} times the rate before)" if now is not None and before else ""
