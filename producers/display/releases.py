"""Prints releases in a terminal."""

from collections.abc import Sequence

from rich.console import Console

from producers.display.consoles import print_line
from producers.display.facts import origin, print_facts
from producers.display.listing import print_list
from producers.durations import ago, human_size
from producers.releases.finding import RANKING_METRIC, ShownRelease
from producers.releases.retention import AssessedRelease
from shared.catalog.aliases import Alias, latest_of
from shared.catalog.manifests import KEYS, REPORT, Estimate, ReleaseManifest, Search
from shared.catalog.paths import release_folder
from shared.catalog.table_audits import doubts

CANDIDATES_SHOWN = 12
WITH_TREES = ("v2", "v3")
"""Definitions whose releases of earlier versions do not say how their trees are evaluated."""


def print_releases(console: Console, releases: Sequence[ShownRelease], *, grouped: bool = False) -> None:
    """Prints one line per release with its evaluation table; if ``grouped``, the table is printed once, above them."""
    columns = ["release", "aliases", "trained", "log-loss per click", "click-weighted MAE", "size", *([] if grouped else ["judged on"])]
    if grouped:
        print_line(console, f"judged on {releases[0].judged_on}", style="bold")
    rows = [
        [
            release.manifest.release,
            ", ".join(_spoken(release)),
            ago(release.manifest.created),
            f"{release.figures[RANKING_METRIC]:.5f}",
            f"{release.figures['mae_by_click']:.5f}",
            human_size(release.size),
            *([] if grouped else [release.judged_on]),
        ]
        for release in releases
    ]
    print_list(console, columns, rows, whole=columns[:6])
    if grouped:
        console.print()


def print_changes(console: Console, changes: Sequence[Alias]) -> None:
    """Prints one line per change of an alias."""
    rows = [
        [f"{change.at:%Y-%m-%d %H:%M:%S}", change.how, change.release, change.was or "nothing", change.by, change.reason]
        for change in changes
    ]
    print_list(console, ("when", "how", "to", "from", "by", "why"), rows, whole=("when", "how", "to", "from", "by"))


def print_assessed(console: Console, judged: Sequence[AssessedRelease]) -> None:
    """Prints one line per release: that it will be removed, or why it stays."""
    rows = []
    for release in judged:
        broken = "" if release.whole else " (broken off)"
        verdict = f"kept: {'; '.join(release.needed)}" if release.needed else "to remove"
        rows.append([release.release, ago(release.created), human_size(release.size), verdict + broken])
    print_list(console, ("release", "trained", "size", ""), rows, whole=("release", "trained", "size"))


def print_release(console: Console, release: ShownRelease) -> None:
    """Prints all details of a release, with its metrics next to those of the naive predictors."""
    manifest = release.manifest
    facts = {
        "release": manifest.release,
        "aliases": ", ".join(_spoken(release)) or "none",
        **({"retired": release.retired} if release.retired else {}),
        "folder": release_folder(manifest.release),
        "signed": release.signed,
        "columns": f"{len(manifest.columns)}: {', '.join(_runs([column.name for column in manifest.columns]))}",
        **({"keys": ", ".join(manifest.keys)} if manifest.keys != KEYS else {}),
        **({"intervals": "yes, with --interval"} if manifest.interval else {}),
        **({"trees": trees} if (trees := _trees_in_words(manifest)) else {}),
        "files": ", ".join(f"{name} ({human_size(file.size)})" for name, file in manifest.files.items()),
    } | origin(manifest)
    facts |= doubts(manifest)
    if manifest.evaluation:
        facts["gate"] = manifest.evaluation.gate.reason
        facts["report"] = f"{release_folder(manifest.release)}/{REPORT} (get it: scoring models show {manifest.release} --report FILE)"
    print_facts(console, facts)
    for judged in manifest.metrics:
        print_metrics(console, manifest, judged)
    if manifest.search:
        print_search(console, manifest.search)


def _trees_in_words(manifest: ReleaseManifest) -> str:
    if manifest.trees:
        return manifest.trees.in_words
    return "how they are evaluated is decided when the release is loaded" if manifest.definition in WITH_TREES else ""


def _runs(names: Sequence[str]) -> list[str]:
    """Names, with consecutive numbers combined: ``att1 to att160``."""
    shown: list[str] = []
    start = 0
    for index, name in enumerate(names):
        stem = name.rstrip("0123456789")
        number = name[len(stem) :]
        if number and index + 1 < len(names) and names[index + 1] == f"{stem}{int(number) + 1}":
            continue
        first = names[start]
        shown += [f"{first} to {name}"] if index - start > 1 else names[start : index + 1]
        start = index + 1
    return shown


def print_metrics(console: Console, manifest: ReleaseManifest, judged: str) -> None:
    """Prints the metrics of a release on one of its tables, those of other predictors, and the differences."""
    found = manifest.evaluation
    compared = found if found is not None and found.judged_on == judged else None
    figures = ["log-loss per click", "click-weighted MAE", "calibration error"]
    against = [f"this release minus it ({compared.confidence * 100:g} % interval)"] if compared else []
    where = f"on the {judged} table{', trained on too' if judged == 'eval' and manifest.judged_on_seen else ''}"
    rows = []
    for predictor, metrics in manifest.metrics[judged].items():
        name = f"{predictor} (this release)" if predictor == manifest.definition else predictor
        cells = [f"{metrics[metric]:.5f}" for metric in (RANKING_METRIC, "mae_by_click", "calibration_error")]
        difference = compared.differences.get(predictor) if compared else None
        rows.append([name, *cells, *([_difference(difference)] if compared else [])])
    print_list(console, (where, *figures, *against), rows, whole=(where, *figures, *against))
    if compared and compared.not_compared:
        print_list(console, ("not compared with", "why not"), list(compared.not_compared.items()), whole=("not compared with",))


def _difference(difference: Estimate | None) -> str:
    """A difference in log-loss per click with its interval: below 0 the release is better."""
    if difference is None:
        return ""
    if difference.low is None or difference.high is None:
        return f"{difference.value:+.5f}"
    return f"{difference.value:+.5f} ({difference.low:+.5f} to {difference.high:+.5f})"


def print_search(console: Console, search: Search) -> None:
    """Prints how the parameters of a release were found, with the best candidates."""
    console.print()
    chosen = ", ".join(f"{name}={value}" for name, value in search.chosen.items())
    print_facts(console, {"found by": search.method, "folds": "; ".join(search.folds) or "its own", "chosen": chosen or "not recorded"})
    if not search.candidates:
        return
    rows = []
    for candidate in search.candidates[:CANDIDATES_SHOWN]:
        loss = "" if candidate.log_loss_per_click is None else f"{candidate.log_loss_per_click:.5f}"
        params = ", ".join(f"{name}={value}" for name, value in candidate.params.items())
        folds = " ".join(f"{fold:.5f}" for fold in candidate.folds)
        rows.append([str(candidate.number), candidate.state, loss, folds, f"{params}: {candidate.reason}" if candidate.reason else params])
    columns = ("candidate", "state", "log-loss per click", "on each fold", "parameters")
    print_list(console, columns, rows, whole=columns[:4])
    if len(search.candidates) > CANDIDATES_SHOWN:
        print_line(console, f"and {len(search.candidates) - CANDIDATES_SHOWN} more, see --json")


def _spoken(release: ShownRelease) -> list[str]:
    latest = latest_of(release.manifest.definition)
    return [*(["retired"] if release.retired else []), *("latest" if alias == latest else alias for alias in release.aliases)]
