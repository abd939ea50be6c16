"""Prints the comparison of two releases."""

from dataclasses import asdict
from typing import Any

from rich.console import Console

from producers.display import facts
from producers.display.consoles import print_prose
from producers.display.listing import print_list
from producers.releases.comparing import Comparison
from shared.catalog.keyword_losses import spoken_difference
from shared.catalog.manifests import MetricValues

FIGURES = {"log_loss_per_click": "log-loss per click", "mae_by_click": "click-weighted MAE", "calibration_error": "calibration error"}
IDS_FIT = 110
"""In a narrower terminal (characters) the ids of two releases are printed above the table, not as column headings."""
FIRST_IS = "the first is"
"""The heading of the differences; lower is better in all of them."""

KINDS = {"device": "device", "clicks": "clicks of the row", "history": "keyword"}


def print_comparison(console: Console, found: Comparison) -> None:
    """Prints the two releases side by side, and whether the difference is more than chance."""
    names = (found.one, found.other)
    heads = names
    if console.width < IDS_FIT:
        heads = ("one", "other")
        facts.print_facts(console, dict(zip(heads, names, strict=True)))
    rows = [[words, *_side_by_side(found.metrics, name)] for name, words in FIGURES.items()]
    print_list(console, ["", *heads, FIRST_IS], rows, whole=["", *heads, FIRST_IS])
    for kind, slices in found.slices.items():
        console.print()
        rows = [[name, f"{both[0]['clicks']:,.0f}", *_side_by_side(both, "log_loss_per_click")] for name, both in slices.items()]
        columns = [f"log-loss by {KINDS.get(kind, kind)}", "clicks", *heads, FIRST_IS]
        print_list(console, columns, rows, whole=columns)
    console.print()
    print_prose(console, found.verdict)


def _side_by_side(both: tuple[MetricValues, MetricValues], name: str) -> list[str]:
    one, other = (metrics[name] for metrics in both)
    return [f"{one:.5f}", f"{other:.5f}", spoken_difference(one - other)]


def data_of(found: Comparison) -> dict[str, Any]:
    """The comparison as JSON values."""
    names = (found.one, found.other)
    return {
        "releases": list(names),
        "table": found.table.encode(),
        "confidence": found.confidence,
        "difference": asdict(found.difference),
        "metrics": dict(zip(names, found.metrics, strict=True)),
        "slices": {kind: {name: dict(zip(names, both, strict=True)) for name, both in of.items()} for kind, of in found.slices.items()},
        "verdict": found.verdict,
    }
