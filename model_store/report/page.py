"""The report of a release: one self-contained HTML page, made from the manifest alone, so that its numbers are those of the manifest.

Every name in it is escaped.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from model_store.report.blocks import facts, figure, key_figures, page, sentence, table
from model_store.report.charts import Line, Row, bar_chart, calibration_chart, curve_chart, interval_chart
from model_store.report.html import Markup, element
from shared.catalog.aliases import CHAMPION
from shared.catalog.manifests import (
    CalibrationBin,
    CandidateState,
    Estimate,
    Evaluation,
    MetricValues,
    ReleaseManifest,
    Search,
    TableSummary,
)
from shared.catalog.table_audits import doubts

FEW = 12
"""Maximum number of columns shown."""

KINDS = {"device": "by device", "clicks": "by clicks of the row", "history": "by what is known of the keyword"}


def make_report(manifest: ReleaseManifest) -> str:
    """Returns the page; raises ValueError for a manifest without an evaluation."""
    found = manifest.evaluation
    if found is None:
        raise ValueError(f"the manifest of {manifest.release} has no evaluation")
    blocks = [*_header(manifest, found), *_charts(manifest, found), *_figures(manifest, found), *_data(manifest, found)]
    return page(f"Report of {manifest.release}", *blocks)


def _header(manifest: ReleaseManifest, found: Evaluation) -> Iterable[Markup]:
    figures, summary = manifest.metrics[found.judged_on][manifest.definition], found.summaries[found.judged_on]
    yield element("h1", manifest.release)
    yield element("p", f"Trained {manifest.created:%Y-%m-%d %H:%M} UTC in {manifest.seconds:.1f} s. {_judged_on(manifest)}", class_="soft")
    yield element("p", sentence(found.gate.reason), class_=f"verdict {'yes' if found.gate.promotes else 'no'}", role="note")
    for words in [*(f"trained with --force, although {why}" for why in manifest.forced), *manifest.warnings]:
        yield element("p", sentence(words), class_="verdict no", role="note")
    champion = found.differences.get(found.gate.champion or "")
    closest = max((name for name in found.differences if "@" not in name), key=lambda name: found.differences[name].value)
    rival, difference = ("the champion", champion) if champion else (closest, found.differences[closest])
    numbers = [
        ("log-loss per click", f"{figures['log_loss_per_click']:.5f}", "in nats, smaller is better"),
        (f"against {rival}", f"{difference.value:+.5f}", _interval(difference, found)),
        ("calibration error", _percent(figures["calibration_error"], 2), "of conversions per click"),
        ("conversions per click", _percent(figures["rate"], 2), f"predicted: {_percent(figures['predicted_rate'], 2)}"),
        ("clicks", f"{summary.clicks:,.0f}", f"of {summary.keywords:,} keywords"),
    ]
    yield key_figures(numbers)


def _judged_on(manifest: ReleaseManifest) -> str:
    if not manifest.judged_on_seen:
        return "All figures are of the evaluation table, which it has not seen in training."
    if manifest.judged_on == "eval":
        return (
            "The evaluation table is one that it was trained on: all figures are of rows it has seen, "
            "and a release looks better there than it is."
        )
    return "There was no evaluation table: all figures are of the training table itself, and a release looks better there than it is."


def _charts(manifest: ReleaseManifest, found: Evaluation) -> Iterable[Markup]:
    level = f"{found.confidence * 100:g} %"
    charts = [
        figure(
            "Better or worse than others",
            f"Log-loss per click of this release minus that of the other, on the same rows, with {level} intervals. "
            "An arrow points to what lies far beyond the scale.",
            interval_chart(
                [_difference_row(name, difference, found) for name, difference in _nearest_first(found)],
                alt=f"Differences in log-loss per click with {level} intervals",
                unit=_signed,
                left="this release is better",
                right="the other is better",
            ),
        ),
        figure(
            "Calibration",
            f"The clicks in ten equal parts by their prediction: what was predicted and what happened, with {level} intervals.",
            calibration_chart(
                [
                    Row(name="", value=part.happened.value, low=part.happened.low, high=part.happened.high, words=_bin_words(part))
                    for part in found.calibration
                ],
                [part.predicted for part in found.calibration],
                alt="True conversions per click over predicted ones; on the dashed line both are the same",
                unit=lambda value: f"{value * 100:.4g} %",
            ),
        ),
    ]
    if found.gains:
        charts.append(_gain_figure(manifest, found))
    for kind, slices in found.slices.items():
        charts.append(
            figure(
                f"Too high or too low, {KINDS.get(kind, kind)}",
                f"Predicted minus true conversions per click, in percentage points, with {level} intervals.",
                interval_chart(
                    [
                        Row(
                            name=name,
                            value=of.residual.value * 100,
                            low=None if of.residual.low is None else of.residual.low * 100,
                            high=None if of.residual.high is None else of.residual.high * 100,
                            words=f"{of.residual.value * 100:+.2f}  ({of.clicks:,.0f} clicks)",
                        )
                        for name, of in slices.items()
                    ],
                    alt=f"Predicted minus true conversions per click, {KINDS.get(kind, kind)}",
                    unit=_signed,
                    left="too low",
                    right="too high",
                ),
            )
        )
    if found.importance and found.importance.columns:
        charts.append(
            figure(
                "Most important columns",
                f"{found.importance.what[:1].upper()}{found.importance.what[1:]}.",
                bar_chart(list(found.importance.columns.items())[:FEW], alt=f"Columns by their {found.importance.what}", unit=_short),
            )
        )
    yield element("h2", "At a glance")
    yield element("div", *charts, class_="charts")


def _gain_figure(manifest: ReleaseManifest, found: Evaluation) -> Markup:
    def points(shares: Sequence[float]) -> list[tuple[float, float]]:
        return [(place / (len(shares) - 1), share) for place, share in enumerate(shares)]

    own = found.gains[manifest.definition]
    lines = [Line(name="at random", points=[(0, 0), (0.7, 0.7), (1, 1)], style="chance", label_at=1, below=True)]
    if found.gate.champion in found.gains:
        lines.append(Line(name=CHAMPION, points=points(found.gains[found.gate.champion or ""]), style="other", label_at=8, below=True))
    lines.append(Line(name="this release", points=points(own), style="own", label_at=7))
    tenth = own[2]
    return figure(
        "Gain",
        "Clicks in order of their prediction, the highest first: the first tenth of the clicks holds "
        f"{_percent(tenth, 1)} of the conversions, a lift of {tenth / 0.1:.2f}.",
        curve_chart(
            lines,
            alt="Share of the conversions over the share of the clicks, the highest predictions first",
            unit=lambda value: _percent(value, 0),
            below="share of the clicks, highest predictions first",
            upward="share of the conversions",
        ),
    )


def _figures(manifest: ReleaseManifest, found: Evaluation) -> Iterable[Markup]:
    yield element("h2", "Figures")
    for name_of_table, predictors in sorted(manifest.metrics.items()):
        rows = [
            [
                _named(name, manifest, found),
                *(_five(metrics[column]) for column in ("log_loss_per_click", "mae_by_click", "calibration_error")),
            ]
            for name, metrics in predictors.items()
        ]
        seen = "it was trained on, where every model looks better than it is"
        evaluated = f"On the evaluation table, which {seen}" if manifest.judged_on_seen else "On the evaluation table"
        words = evaluated if name_of_table == "eval" else f"On the table {seen}"
        yield table(words, ["predictor", "log-loss per click", "click-weighted MAE", "calibration error"], rows, 0)
    rows = [[_named(name, manifest, found), f"{of.value:+.5f}", _interval(of, found)] for name, of in _nearest_first(found)]
    caption = (
        f"Log-loss per click of this release minus that of others on the same rows; {found.confidence * 100:g} % intervals from "
        f"{found.resamples:,} resamples of whole keywords"
    )
    yield table(caption, ["compared with", "difference", "interval"], rows)
    if found.not_compared:
        yield facts(found.not_compared, "Not compared with, and why")
    for kind, slices in found.slices.items():
        rows = []
        for name, of in slices.items():
            own = of.metrics[manifest.definition]
            other = of.metrics.get(found.gate.champion or "")
            rows.append([name, f"{of.clicks:,.0f}", _percent(own["rate"], 2), *_pair(own, other)])
        names = ["clicks", "true rate", "log-loss", "of the champion", "calibration error"]
        yield table(f"On the same rows, {KINDS.get(kind, kind)}", [kind, *names], rows)


def _pair(own: MetricValues, other: MetricValues | None) -> list[str]:
    champion = _five(other["log_loss_per_click"]) if other else "–"
    return [_five(own["log_loss_per_click"]), champion, _five(own["calibration_error"])]


def _data(manifest: ReleaseManifest, found: Evaluation) -> Iterable[Markup]:
    yield element("h2", "Data and origin")
    names = list(found.summaries)
    described = [_described(found.summaries[name]) for name in names]
    named = dict.fromkeys(what for of in described for what in of)
    rows = [[what, *(of.get(what, "–") for of in described)] for what in named]
    yield table("What is in the tables", ["", *names], rows)
    few = [column.name for column in manifest.columns[:FEW]]
    origin = {
        f"{name} table": f"{of.path}, {of.rows:,} rows used, {of.rejected:,} not, sha256 {of.contents}"
        for name, of in manifest.tables.items()
    }
    origin |= doubts(manifest)
    origin |= _found_by(manifest.search) if manifest.search else {}
    origin |= {
        "job": manifest.job_id,
        "definition": f"{manifest.definition}, sha256 of its code {manifest.definition_sha256}",
        "columns": f"{len(manifest.columns)}: {', '.join(few)}{', ...' if len(manifest.columns) > FEW else ''}",
        "libraries": ", ".join(f"{name} {version}" for name, version in manifest.libraries.items()),
    }
    yield facts(origin)


def _found_by(search: Search) -> dict[str, str]:
    """Describes how the parameters were found, and what they are."""
    states = Counter(candidate.state for candidate in search.candidates)
    others = "".join(f", {states[state]} {state}" for state in (CandidateState.STOPPED, CandidateState.FAILED) if states[state])
    tried = f"{search.method}, {len(search.candidates)} candidates{others}" if search.candidates else search.method
    chosen = ", ".join(f"{name}={value}" for name, value in search.chosen.items())
    return {"found by": tried, "folds": "; ".join(search.folds) or "its own", "chosen": chosen or "not recorded"}


def _described(summary: TableSummary) -> dict[str, str]:
    devices = {f"clicks on {name}": f"{clicks:,.0f}" for name, clicks in summary.device_clicks.items()}
    return {
        "rows": f"{summary.rows:,}",
        "keywords": f"{summary.keywords:,}",
        "of them not in training": f"{summary.cold_keywords:,} ({_percent(summary.cold_clicks / summary.clicks, 1)} of the clicks)",
        "clicks": f"{summary.clicks:,.0f}",
        "conversions": f"{summary.conversions:,.0f}",
        "conversions per click": _percent(summary.conversions / summary.clicks, 2),
        **devices,
    }


def _nearest_first(found: Evaluation) -> list[tuple[str, Estimate]]:
    return sorted(found.differences.items(), key=lambda item: abs(item[1].value))


def _difference_row(name: str, difference: Estimate, found: Evaluation) -> Row:
    shown = f"{CHAMPION} {name.partition('@')[0]}" if name == found.gate.champion else name
    return Row(name=shown, value=difference.value, low=difference.low, high=difference.high, words=f"{difference.value:+.5f}")


def _named(name: str, manifest: ReleaseManifest, found: Evaluation) -> str:
    if name == manifest.definition:
        return f"this release ({name})"
    return f"{name} ({CHAMPION})" if name == found.gate.champion else name


def _interval(difference: Estimate, found: Evaluation) -> str:
    if difference.low is None or difference.high is None:
        return "too few keywords for an interval"
    return f"{difference.low:+.5f} to {difference.high:+.5f}"


def _bin_words(part: CalibrationBin) -> str:
    return f"predicted {_percent(part.predicted, 2)}, happened {_percent(part.happened.value, 2)}, {part.clicks:,.0f} clicks"


def _five(value: float) -> str:
    return f"{value:.5f}"


def _percent(share: float, digits: int) -> str:
    return f"{share * 100:.{digits}f} %"


def _signed(value: float) -> str:
    return "0" if abs(value) < 1e-12 else f"{value:+.4g}"


def _short(value: float) -> str:
    return f"{value:+.4f}" if value < 0 else f"{value:.4f}"
