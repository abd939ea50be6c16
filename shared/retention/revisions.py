"""Selects the revisions of a place that stay, by the rules of ``restic forget``: a revision stays if any rule keeps it."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from shared.retention.config import KeptRevisions


def kept_revisions(made: Mapping[str, datetime], rules: KeptRevisions, now: datetime) -> dict[str, str]:
    """Maps each kept revision to the rule that keeps it. ``made`` holds the request times; the newest revision always stays."""
    names = sorted(made, reverse=True)
    kept = dict.fromkeys(names[:1], "the newest of its place")
    for name in names[: rules.keep_last]:
        kept.setdefault(name, f"one of the last {rules.keep_last}")
    for name in names:
        if rules.keep_within and now - made[name] < rules.keep_within:
            kept.setdefault(name, f"younger than {_days(rules.keep_within)}")
    for name in _newest_of_each(names, made, "%Y-%m-%d", rules.keep_daily):
        kept.setdefault(name, f"the newest of its day, one of {rules.keep_daily}")
    for name in _newest_of_each(names, made, "%G-%V", rules.keep_weekly):
        kept.setdefault(name, f"the newest of its week, one of {rules.keep_weekly}")
    return kept


def _newest_of_each(names: list[str], made: Mapping[str, datetime], period: str, count: int) -> list[str]:
    """The newest of each of the last ``count`` periods that have one; ``names`` starts with the newest."""
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(f"{made[name]:{period}}", name)
    return list(found.values())[:count]


def _days(length: timedelta) -> str:
    return f"{length / timedelta(days=1):g} d"
