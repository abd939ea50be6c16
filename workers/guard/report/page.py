"""The page ``guard.html``: why a result is held or warned of, in numbers and charts; every text of a table is escaped."""

from collections.abc import Iterator
from pathlib import Path

from model_store.report.blocks import facts, figure, key_figures, page, sentence, table
from model_store.report.html import Markup, element
from shared.catalog.manifests import ResultManifest
from shared.guard.verdict import ALL, GuardVerdict, WorstRow, worst_in_words
from shared.text.plain import plain
from workers.guard.checks.words import percent, rate, relative_change
from workers.guard.measures.rate_bins import quantile
from workers.guard.report.check_table import check_table
from workers.guard.report.distribution_chart import distribution_chart
from workers.guard.report.noted_table import NotedRow, noted_table
from workers.guard.report.picture import Picture

STYLE = Path(__file__).with_name("guard.css")
NOTHING = "–"


def make_page(picture: Picture) -> str:
    """Returns the page; the same picture gives the same text."""
    blocks = [*_header(picture), *_numbers(picture), *_distributions(picture), *_explanations(picture), *_origin(picture)]
    title = f"Job {picture.verdict.job_id} on {picture.verdict.channel}"
    return page(title, *blocks, more_style=STYLE.read_text(encoding="utf-8"))


def _header(picture: Picture) -> Iterator[Markup]:
    verdict = picture.verdict
    is_held = bool(picture.held_because)
    yield element("h1", f"Held back from {verdict.channel}" if is_held else f"On {verdict.channel}, with warnings")
    rows = f"{picture.manifest.rows_scored:,} rows of {picture.manifest.table.path}"
    yield element("p", f"Job {verdict.job_id}: {rows}, judged {verdict.at:%Y-%m-%d %H:%M:%S} UTC.", class_="soft")
    for words in picture.held_because or worst_in_words(verdict):
        yield element("p", sentence(plain(words)), class_="verdict no", role="note")
    yield element("h2", "Decide" if is_held else "If this is wrong")
    for command, effect in _commands(verdict, is_held=is_held):
        yield element("p", effect)
        head, option, rest = command.partition("--")
        yield element("pre", head, element("span", f"{option}{rest}") if option else None)


def _commands(verdict: GuardVerdict, *, is_held: bool) -> list[tuple[str, str]]:
    if is_held:
        return [
            (f"scoring results approve {verdict.job_id} --reason TEXT", f"Publish this result on {verdict.channel}:"),
            (f"scoring results refuse {verdict.job_id} --reason TEXT", f"Keep what {verdict.channel} shows:"),
        ]
    return [
        (f"scoring results diff {verdict.job_id}", "See the rows that changed:"),
        (f"scoring results rollback {verdict.channel} --reason TEXT", "Go back to the result before, and hold later ones:"),
    ]


def _numbers(picture: Picture) -> Iterator[Markup]:
    keys, moved, manifest = picture.measures.keys, picture.measures.rates.moved, picture.manifest
    yield element("h2", "At a glance")
    if picture.base is None:
        yield key_figures([("rows", f"{manifest.rows_scored:,}", "there is nothing to compare them with"), _doubled(picture)])
        return
    before = picture.base.rows_scored
    yield key_figures(
        [
            ("rows", f"{manifest.rows_scored:,}", f"{before:,} before{_changed(before, manifest.rows_scored)}"),
            ("keys lost", f"{keys.lost.rows:,}", _share(keys.lost.rows, keys.old.rows, "of those before")),
            ("keys new", f"{keys.appeared.rows:,}", _share(keys.appeared.rows, keys.new.rows, "of those now")),
            _doubled(picture),
            ("rates changed", f"{moved.moved.rows:,}", _share(moved.moved.rows, moved.all.rows, "of the keys of both")),
        ]
    )


def _doubled(picture: Picture) -> tuple[str, str, str]:
    return ("keys doubled", f"{picture.measures.doubled:,}", "rows with the key of an earlier row")


def _changed(before: int, now: int) -> str:
    return f", {_signed(before, now)}" if before and before != now else ""


def _share(part: int, whole: int, of_what: str) -> str:
    return f"{percent(part / whole)} {of_what}" if whole else of_what


def _distributions(picture: Picture) -> Iterator[Markup]:
    rates = picture.measures.rates
    figures, rows = [], []
    for code, name in enumerate(picture.groups.names):
        old, new = rates.old.histogram([code]), rates.new.histogram([code])
        if old.any() or new.any():
            words = f"{int(old.sum()):,} rows before, {int(new.sum()):,} rows now."
            figures.append(figure(f"Rates: {name}", words, distribution_chart(old, new, alt=f"Distribution of cr before and now: {name}")))
            rows.append([name, *_means(picture, code)])
    yield element("h2", "Rates before and now")
    yield element("p", _compared_with(picture), class_="soft")
    yield element("div", *figures, class_="charts")
    names = ["", "mean before", "mean now", "change", "99 % before", "99 % now"]
    yield table("Mean rate, by clicks where both tables have them, and the rate that 99 % of the rows stay below", names, rows)


def _compared_with(picture: Picture) -> str:
    if picture.base is None:
        return "There is no result before that these rates could be compared with."
    words = f"Before is the result of job {picture.base.job_id}, which {picture.verdict.channel} showed."
    difference = picture.verdict.release_difference
    if difference is None or not difference.is_excused:
        return words
    return f"{words} The release changed: the checks compare with the rates that the new release is expected to give, not with these."


def _means(picture: Picture, code: int) -> list[str]:
    """Returns mean and 99th percentile of the rates of a device, before and now."""
    by_clicks, sides = picture.is_weighted(code), (picture.measures.rates.old, picture.measures.rates.new)
    before, now = (side.mean([code], by_clicks=by_clicks and side.clicks([code]) > 0) if side.rows([code]) else None for side in sides)
    highs = (quantile(side.histogram([code]), 0.99) if side.rows([code]) else None for side in sides)
    changed = NOTHING if before is None or now is None else _signed(before, now)
    return [_rate(before), _rate(now), changed, *map(_rate, highs)]


def _signed(before: float, now: float) -> str:
    share = relative_change(before, now)
    return f"{'+' if share > 0 else ''}{percent(share)}"


def _explanations(picture: Picture) -> Iterator[Markup]:
    yield element("h2", "Checks")
    yield check_table(picture.verdict)
    if picture.verdict.worst:
        yield element("h2", "Worst rows")
        names = ["keyword", "what", "cr before", "cr now", "clicks"]
        yield noted_table("The rows whose change costs most, by clicks × change", names, [_worst(row) for row in picture.verdict.worst])
    if picture.columns:
        yield element("h2", "Columns whose values changed most")
        rows = [[plain(column.name), f"{column.psi:.3g}", column.before, column.now] for column in picture.columns]
        yield table(
            "Population stability index (PSI) above chance: 0.1 is a change, 0.25 a large one", ["column", "PSI", "before", "now"], rows
        )


def _worst(row: WorstRow) -> NotedRow:
    clicks = NOTHING if row.clicks is None else f"{row.clicks:,.1f}".removesuffix(".0")
    place = "" if row.file is None else plain(row.file)
    line = "" if row.line is None else f"line {row.line:,}"
    heading = plain(row.key) if row.device == ALL else f"{plain(row.key)}, {row.device}"
    return NotedRow(
        cells=[heading, row.problem, _rate(row.rate_before), _rate(row.rate_now), clicks], note=", ".join(filter(None, [place, line]))
    )


def _rate(value: float | None) -> str:
    return NOTHING if value is None else rate(value)


def _origin(picture: Picture) -> Iterator[Markup]:
    verdict, manifest = picture.verdict, picture.manifest
    yield element("h2", "Where it comes from")
    found = {
        "job": f"{manifest.job_id}, finished {manifest.finished:%Y-%m-%d %H:%M:%S} UTC",
        "release": manifest.release,
        "table": _table_in_words(manifest),
        "result": manifest.revision,
        "before": "no result" if verdict.base is None else f"job {verdict.base.job_id}, {verdict.base.revision}",
        "release before": NOTHING if verdict.base is None else verdict.base.release,
        "table before": NOTHING if picture.base is None else _table_in_words(picture.base),
        "guard": f"mode {verdict.mode}, limits of {verdict.config.source}{_version(verdict.config.sha256)}",
    }
    if verdict.release_difference is not None:
        found["new release"] = verdict.release_difference.sentence
    yield facts({name: plain(words) for name, words in found.items()})


def _table_in_words(manifest: ResultManifest) -> str:
    counted = f"{manifest.rows_in:,} rows, {manifest.rows_rejected:,} rejected"
    return f"{manifest.table.path}, {counted}, sha256 {manifest.table.contents}"


def _version(sha256: str | None) -> str:
    return "" if sha256 is None else f", sha256 {sha256}"
