"""What jobs, releases and results look like in a terminal, and where each is found in the bucket."""

import gzip
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich.console import Console

from producers.clearing import Judged
from producers.consoles import cell, print_line
from producers.durations import ago, human_size
from producers.job_names import find_job
from producers.listing import print_list
from producers.published import outcome_now
from producers.rejects import Rejected, count_reasons, job_behind, revision_of_gone_job
from shared.bucket.interface import Bucket
from shared.catalog.aliases import MANIFEST, Alias, latest_of, list_aliases, release_folder
from shared.catalog.manifests import KEYS, OUTPUTS, PREDICTIONS, REJECTS, REPORT, Estimate, ReleaseManifest, ResultManifest, Search
from shared.catalog.releases import FoundRelease, UnreadableRelease, list_releases, look_at_release, read_release
from shared.catalog.results import REVISIONS, FoundResult, UnreadableResult, list_results, read_result
from shared.catalog.retirements import retired_releases
from shared.catalog.table_audits import doubts
from shared.errors import RequestError
from shared.jobs.folder import JOBS, JobFolder, JobStatus, Outcome, UnreadableJob
from shared.jobs.messages import Job, ScoreJob
from shared.records import FileDigest
from shared.signatures import Signature

CANDIDATES_SHOWN = 12
JUDGED = "log_loss_per_click"
LONGEST_WHY = 160
"""Characters of the reason of a job in a list; ``jobs show`` has all of it."""

FILES_SHOWN = 3
"""Of a table that is a folder."""


@dataclass(frozen=True, kw_only=True)
class ShownRelease:
    """A release with the names that point to it."""

    manifest: ReleaseManifest
    aliases: list[str]
    signed: Signature
    retired: str = ""
    """Since when, by whom and why it is retired; empty where it is in use."""

    @property
    def figures(self) -> dict[str, float]:
        """Its own metrics on the evaluation table, or on the training table if there was no other."""
        return self.manifest.metrics[self.manifest.judged_on][self.manifest.definition]

    @property
    def judged(self) -> tuple[str, str]:
        """On which rows, in a form to compare: two releases with the same can be ranked."""
        table = self.manifest.tables.get(self.manifest.judged_on)
        return "train" if self.manifest.judged_on_seen else "eval", table.contents if table else ""

    @property
    def judged_on(self) -> str:
        """On which table, in words; figures on the table that it was trained on are called so."""
        table = self.manifest.tables.get(self.manifest.judged_on)
        name = spoken_table(table.path) if table else "a table that is not known"
        return f"{name} (trained on it)" if self.manifest.judged_on_seen else name

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.size for file in self.manifest.files.values())


def look_at_releases(bucket: Bucket) -> tuple[list[ShownRelease], list[UnreadableRelease]]:
    """Every release in the store, the newest first, and those whose manifest cannot be read."""
    by_release, retired = _aliases_by_release(bucket), retired_releases(bucket)
    found: list[ShownRelease] = []
    unreadable: list[UnreadableRelease] = []
    for release in list_releases(bucket):
        if isinstance(release, UnreadableRelease):
            unreadable.append(release)
        else:
            found.append(_shown_release(release, by_release, retired))
    return sorted(found, key=lambda release: release.manifest.created, reverse=True), unreadable


def find_releases(bucket: Bucket) -> list[ShownRelease]:
    """Every release in the store whose manifest can be read, the newest first."""
    return look_at_releases(bucket)[0]


def find_release(bucket: Bucket, release: str) -> ShownRelease:
    """One release by its id; raises ModelError when it is not there, or its manifest cannot be read."""
    return _shown_release(read_release(bucket, release), _aliases_by_release(bucket), retired_releases(bucket))


def _shown_release(found: FoundRelease, by_release: Mapping[str, list[str]], retired: Mapping[str, str]) -> ShownRelease:
    return ShownRelease(
        manifest=found.manifest, aliases=by_release.get(found.release, []), signed=found.signed, retired=retired.get(found.release, "")
    )


def _aliases_by_release(bucket: Bucket) -> dict[str, list[str]]:
    by_release: dict[str, list[str]] = {}
    for alias, release in sorted(list_aliases(bucket).items()):
        by_release.setdefault(release, []).append(alias)
    return by_release


def trained_by(bucket: Bucket, job_id: str, outcome: Outcome) -> ReleaseManifest | None:
    """The manifest of the release that a job trained; None when it was to score, or the release is gone or cannot be read."""
    if isinstance(JobFolder(bucket, job_id).job(), ScoreJob):
        return None
    found = look_at_release(bucket, outcome.release)
    return found.manifest if isinstance(found, FoundRelease) else None


def look_at_results(bucket: Bucket) -> tuple[list[FoundResult], list[UnreadableResult]]:
    """Every published result, the newest first, and those whose manifest cannot be read."""
    found: list[FoundResult] = []
    unreadable: list[UnreadableResult] = []
    for result in list_results(bucket):
        if isinstance(result, UnreadableResult):
            unreadable.append(result)
        else:
            found.append(result)
    return sorted(found, key=lambda result: result.manifest.finished, reverse=True), unreadable


def find_result(bucket: Bucket, wanted: str) -> tuple[str, ResultManifest]:
    """The folder and manifest of a result, by the id of its job or by its folder.

    Raises:
        RequestError: there is no such result, or the job has none yet, or the manifest cannot be read.
    """
    folder = wanted.strip("/").removeprefix(f"{OUTPUTS}/")
    published = read_result(bucket, f"{OUTPUTS}/{folder}")
    if published is not None:
        return published.folder, published.manifest
    wanted = find_job(bucket, wanted, scores=True)
    kept = revision_of_gone_job(bucket, wanted)
    if kept is not None:
        return kept.folder, kept.manifest
    status = job_behind(bucket, wanted).status()
    if status.state != "done" or status.outcome is None:
        raise RequestError(f"job {wanted} has no result: it is {status.state}", next_step=f"See it with: scoring jobs show {wanted}")
    revision = f"{status.outcome.result}/{REVISIONS}/{wanted}"
    found = read_result(bucket, revision)
    if found is None:
        raise RequestError(
            f"the revision of job {wanted} is no longer in the bucket {bucket.url}", next_step="List results with: scoring results list"
        )
    return found.folder, found.manifest


def release_behind(bucket: Bucket, manifest: ResultManifest) -> ReleaseManifest | None:
    """The manifest of the release that a result was scored with; None when it is no longer there, or its files are others."""
    found = look_at_release(bucket, manifest.release)
    return found.manifest if isinstance(found, FoundRelease) and found.manifest.files == manifest.release_files else None


def signature_of(bucket: Bucket, folder: str) -> Signature:
    """What the signature of the result in a folder is worth."""
    return bucket.signer.judge(bucket.read(f"{folder}/{MANIFEST}") or b"")


def first_lines(bucket: Bucket, folder: str, count: int) -> list[str]:
    """The header and the first ``count`` rows of a result."""
    with bucket.open(f"{folder}/{PREDICTIONS}") as raw, gzip.open(raw, "rt", encoding="utf-8") as lines:
        return [line.rstrip("\n") for line in itertools.islice(lines, count + 1)]


def print_jobs(console: Console, statuses: Sequence[JobStatus | UnreadableJob]) -> None:
    """One record a job: what was asked for, and why it ended so, shortened to about two lines."""
    rows = []
    for status in statuses:
        if isinstance(status, UnreadableJob):
            rows.append([status.job_id, "unreadable", "", "", _shortened(status.reason)])
            continue
        job = status.job
        reason = _without_own_path(status.reason, job)
        what = f"{_wish(job)}: {_shortened(reason)}" if reason else _wish(job)
        chunks = f"{status.chunks_done}/{status.chunks}" if status.chunks else ""
        rows.append([job.job_id, status.state, ago(status.since), chunks, what])
    print_list(console, ("job", "state", "since", "chunks", "what"), rows, whole=("job", "state", "since", "chunks"))


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_WHY else f"{text[: LONGEST_WHY - 3]}..."


def _without_own_path(reason: str, job: Job) -> str:
    """A reason without the folder into which the job's own table was brought: the name of the table says as much."""
    return re.sub(rf"{JOBS}/{re.escape(job.job_id)}/input/(train/|eval/)?", "", reason)


def _wish(job: Job) -> str:
    """What was asked for, on one line; a table that was brought along by its name alone."""
    if not isinstance(job, ScoreJob):
        return f"train {job.definition}"
    brought = f"{JOBS}/{job.job_id}/input/"
    if job.fixes and job.fixed_rows:
        return f"fix {job.fixes} with {job.fixed_rows.removeprefix(brought)}"
    return f"{job.table.removeprefix(brought)} with {job.model}"


def status_now(bucket: Bucket, status: JobStatus) -> JobStatus:
    """The status of a job for people, with what is true of its result by now."""
    return status if status.outcome is None else replace(status, outcome=outcome_now(bucket, status.job, status.outcome))


def print_job(console: Console, status: JobStatus) -> None:
    """All that is known of a job."""
    job = status.job
    facts = {"job": job.job_id, "state": status.state, "since": f"{status.since:%Y-%m-%d %H:%M:%S} UTC, {ago(status.since)}"}
    if isinstance(job, ScoreJob):
        facts |= {"table": job.table, "model": job.model, "chunks": f"{status.chunks_done} of {status.chunks or 'not yet known'}"}
        if job.fixes and job.fixed_rows:
            facts |= {"fixes": job.fixes, "fixed rows": job.fixed_rows}
    else:
        facts |= {"definition": job.definition, "train": job.train, "eval": job.eval or "none", "alias": job.alias or "none"}
        if job.config:
            facts |= {"config": job.config, "candidate folds": f"{status.chunks_done} of {status.chunks or 'not yet known'}"}
    if status.reason:
        facts["why" if status.final else "now"] = status.reason
    if status.outcome:
        facts |= outcome_facts(status.outcome)
    print_facts(console, facts)


def outcome_facts(outcome: Outcome) -> dict[str, str]:
    """What is worth knowing of how a job ended."""
    facts = {"release": outcome.release, "result": outcome.result} | outcome.facts | {"next": outcome.next_step}
    return {name: value for name, value in facts.items() if value}


def judged_alike(releases: Sequence[ShownRelease]) -> list[list[ShownRelease]]:
    """The releases in groups that were judged on the same rows, the best of each first; the groups in the order of the releases."""
    groups: dict[tuple[str, str], list[ShownRelease]] = {}
    for release in releases:
        groups.setdefault(release.judged, []).append(release)
    return [sorted(group, key=lambda release: release.figures[JUDGED]) for group in groups.values()]


def spoken_table(path: str) -> str:
    """The path of a table in the bucket; one that was brought along by its name alone."""
    return re.sub(rf"^{JOBS}/[^/]+/input/(train|eval)/", "", path)


def print_releases(console: Console, releases: Sequence[ShownRelease], *, grouped: bool = False) -> None:
    """One line a release, with the table it was judged on; said once above all of them where they are ``grouped`` by it."""
    columns = ["release", "aliases", "trained", "log-loss per click", "click-weighted MAE", "size", *([] if grouped else ["judged on"])]
    if grouped:
        print_line(console, f"judged on {releases[0].judged_on}", style="bold")
    rows = [
        [
            release.manifest.release,
            ", ".join(_spoken(release)),
            ago(release.manifest.created),
            f"{release.figures[JUDGED]:.5f}",
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
    """One line a change of an alias."""
    rows = [
        [f"{change.at:%Y-%m-%d %H:%M:%S}", change.how, change.release, change.was or "nothing", change.by, change.reason]
        for change in changes
    ]
    print_list(console, ("when", "how", "to", "from", "by", "why"), rows, whole=("when", "how", "to", "from", "by"))


def print_judged(console: Console, judged: Sequence[Judged]) -> None:
    """One line a release: whether it goes, or why it stays."""
    rows = []
    for release in judged:
        broken = "" if release.whole else " (broken off)"
        verdict = f"kept: {'; '.join(release.needed)}" if release.needed else "to remove"
        rows.append([release.release, ago(release.created), human_size(release.size), verdict + broken])
    print_list(console, ("release", "trained", "size", ""), rows, whole=("release", "trained", "size"))


def print_release(console: Console, release: ShownRelease) -> None:
    """All that is known of a release, its metrics beside those of the naive predictors."""
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
        "files": ", ".join(f"{name} ({human_size(file.size)})" for name, file in manifest.files.items()),
    } | _origin(manifest)
    facts |= doubts(manifest)
    if manifest.evaluation:
        facts["gate"] = manifest.evaluation.gate.reason
        facts["report"] = f"{release_folder(manifest.release)}/{REPORT} (get it: scoring models show {manifest.release} --report FILE)"
    print_facts(console, facts)
    for judged in manifest.metrics:
        print_metrics(console, manifest, judged)
    if manifest.search:
        print_search(console, manifest.search)


def _runs(names: Sequence[str]) -> list[str]:
    """Names, of which those that are numbered one after the other are taken together: ``att1 to att160``."""
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
    """The figures of a release on one of its tables beside those of the naive predictors and other releases, with the differences."""
    found = manifest.evaluation
    compared = found if found is not None and found.judged_on == judged else None
    figures = ["log-loss per click", "click-weighted MAE", "calibration error"]
    against = [f"this release minus it ({compared.confidence * 100:g} % interval)"] if compared else []
    where = f"on the {judged} table{', trained on too' if judged == 'eval' and manifest.judged_on_seen else ''}"
    rows = []
    for predictor, metrics in manifest.metrics[judged].items():
        name = f"{predictor} (this release)" if predictor == manifest.definition else predictor
        cells = [f"{metrics[metric]:.5f}" for metric in (JUDGED, "mae_by_click", "calibration_error")]
        difference = compared.differences.get(predictor) if compared else None
        rows.append([name, *cells, *([_difference(difference)] if compared else [])])
    print_list(console, (where, *figures, *against), rows, whole=(where, *figures, *against))
    if compared and compared.not_compared:
        print_list(console, ("not compared with", "why not"), list(compared.not_compared.items()), whole=("not compared with",))


def _difference(difference: Estimate | None) -> str:
    """A difference in log-loss per click with what it may be by chance: below 0 the release is better."""
    if difference is None:
        return ""
    if difference.low is None or difference.high is None:
        return f"{difference.value:+.5f}"
    return f"{difference.value:+.5f} ({difference.low:+.5f} to {difference.high:+.5f})"


def print_search(console: Console, search: Search) -> None:
    """How the parameters of a release were found: the best candidates, on one line each."""
    console.print()
    chosen = ", ".join(f"{name}={value}" for name, value in search.chosen.items())
    print_facts(console, {"found by": search.method, "folds": "; ".join(search.folds) or "its own", "chosen": chosen or "not told"})
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


def print_results(console: Console, results: Sequence[FoundResult]) -> None:
    """One record a result."""
    columns = ("result", "release", "finished", "rows", "rejected", "job")
    print_list(console, columns, [_result_cells(result) for result in results], whole=columns)


def _result_cells(result: FoundResult) -> list[str]:
    manifest = result.manifest
    return [
        result.folder.removeprefix(f"{OUTPUTS}/"),
        manifest.release,
        ago(manifest.finished),
        f"{manifest.rows_scored:,}",
        f"{manifest.rows_rejected:,}",
        manifest.job_id,
    ]


def print_result(console: Console, folder: str, manifest: ResultManifest, signed: Signature, release: ReleaseManifest | None) -> None:
    """All that is known of a result, and of the release that it was scored with."""
    facts = {
        "result": f"{folder}/{PREDICTIONS}",
        "release": manifest.release,
        "table": manifest.table.path,
        "its files": _digests(manifest.table.files),
        **({"fixes": manifest.fixes} if manifest.fixes else {}),
        **({"fixed rows": manifest.fixed_rows.sha256} if manifest.fixed_rows else {}),
        "rows in": f"{manifest.rows_in:,}",
        "scored": f"{manifest.rows_scored:,}",
        "rejected": f"{manifest.rows_rejected:,}" + (f" (see {folder}/{REJECTS})" if manifest.rejects else ""),
        "set to 0 or 1": f"{manifest.rows_clipped:,}",
        **({"repeated keys": manifest.repeated} if manifest.repeated else {}),
        "took": f"{manifest.seconds:.1f} s in {manifest.chunks} chunks, finished {manifest.finished:%Y-%m-%d %H:%M:%S} UTC",
        "rows per second": f"{manifest.rows_in / max(manifest.seconds, 1e-3):,.0f}",
        "sha256 of the text": manifest.text_sha256,
        "signed": signed,
        "job": manifest.job_id,
    } | {f"mean cr, {name}": f"{device.mean_cr:.5f} over {device.rows:,} rows" for name, device in manifest.devices.items()}
    print_facts(console, facts)
    console.print()
    if release is None:
        print_line(console, f"The release {manifest.release} is no longer there, or its files are others.")
    else:
        print_facts(console, {"scored with": release.release} | _origin(release))


def _origin(release: ReleaseManifest) -> dict[str, str]:
    """What a release was made of: code, tables, libraries."""
    facts = {
        "trained": f"{release.created:%Y-%m-%d %H:%M:%S} UTC by job {release.job_id} in {release.seconds:.1f} s",
        "code": f"{release.definition}, sha256 {release.definition_sha256}",
    }
    for name, table in release.tables.items():
        facts |= {f"{name} table": f"{table.path}, {table.rows:,} rows", f"{name} files": _digests(table.files)}
    return facts | {"libraries": ", ".join(f"{name} {version}" for name, version in release.libraries.items())}


def _digests(files: dict[str, FileDigest]) -> str:
    """The digest of each file of a table, the first ones of many."""
    shown = [f"{path.rpartition('/')[2]} sha256 {file.sha256}" for path, file in itertools.islice(files.items(), FILES_SHOWN)]
    return "; ".join(shown) + (f"; and {len(files) - FILES_SHOWN:,} more (--json names all)" if len(files) > FILES_SHOWN else "")


def print_rejects(console: Console, job_id: str, rejects: Sequence[Rejected], count: int, looked_at: str = "") -> None:
    """How many rejects have each reason, and the first ones; ``looked_at`` says in words how much of the table, unless all of it."""
    if not rejects:
        print_line(console, f"Job {job_id} has no rejects{f' so far ({looked_at} have been looked at)' if looked_at else ''}.")
        return
    reasons = [(f"{number:,}", column, reason) for column, reason, number in count_reasons(rejects)]
    print_list(console, ("rejects", "column", "reason"), reasons, whole=("rejects",))
    console.print()
    first = [(reject.file, str(reject.line), reject.column, reject.value, reject.reason) for reject in rejects[:count]]
    print_list(console, ("file", "line", "column", "value", "reason"), first)
    if len(rejects) > count:
        print_line(console, f"and {len(rejects) - count:,} more")
    if looked_at:
        console.print()
        print_line(console, f"Only {looked_at} have been looked at: there may be more.")
    console.print()
    print_line(console, f"Get the rows to mend with: scoring results rejects {job_id} --rows FILE")


def print_facts(console: Console, facts: dict[str, str]) -> None:
    """Names and values, one below the other; nothing is cut off or folded when it goes to a file."""
    width = max(map(len, facts))
    for name, value in facts.items():
        console.print(cell(f"{name:<{width}}  "), style="dim", end="")
        print_line(console, value)


def _spoken(release: ShownRelease) -> list[str]:
    latest = latest_of(release.manifest.definition)
    return [*(["retired"] if release.retired else []), *("latest" if alias == latest else alias for alias in release.aliases)]
