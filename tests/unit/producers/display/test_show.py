"""What there is in the bucket is found, and what is printed of it holds the facts."""

import hashlib
import io
import json
from datetime import timedelta

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from producers.cli import root
from producers.display import jobs, results
from producers.display import releases as display_releases
from producers.releases import finding
from producers.releases.signing import sign_release
from producers.results import finding as results_finding
from shared.bucket.local import LocalBucket
from shared.catalog.aliases import point_alias
from shared.catalog.manifests import Candidate, CandidateState, ReleaseManifest, Search, TableFingerprint
from shared.catalog.paths import MANIFEST, release_folder
from shared.errors import ModelError, RequestError
from shared.jobs.folder import JobFolder, Outcome, UnreadableJob
from shared.jobs.messages import TrainJob
from shared.records import FileDigest, decode_long
from shared.signatures import Signer
from tests.handmade import METRICS, NOON, PLACE, TABLE, make_job, plan, publish_handmade, row, run_job, write_table
from tests.trainings import make_training, manifest_of, train, write_training_tables

FOLDER = f"data/predict/output/v1/{PLACE}"


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    return LocalBucket(tmp_path / "bucket")


@pytest.fixture
def release(bucket) -> str:
    write_table(bucket, [row(number) for number in range(40)])
    return publish_handmade(bucket)


@pytest.fixture
def done(bucket, release) -> JobFolder:
    """A job with a result."""
    folder = make_job(bucket, chunk_rows=7)
    assert run_job(folder).state == "done"
    return folder


def scoring(bucket: LocalBucket, *arguments: str, key: str = "", **more: str) -> Result:
    """Runs a command on this bucket; fails the test when it fails."""
    environment = {"BUCKET_URL": bucket.url, "SCORING_STORE_KEY": key} | more
    done = CliRunner().invoke(root.scoring, list(arguments), env=environment, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def printed(write, *arguments: object) -> str:
    """What a print function of ``show`` writes to a file."""
    text = io.StringIO()
    write(Console(file=text, width=220), *arguments)
    return text.getvalue()


def printed_result(bucket: LocalBucket) -> str:
    folder, manifest = results_finding.find_result(bucket, FOLDER)
    return printed(
        results.print_result, folder, manifest, results_finding.signature_of(bucket, folder), finding.release_of_result(bucket, manifest)
    )


def fact(text: str, name: str) -> str:
    """The value that is printed beside a name."""
    [value] = [line[len(name) :].strip() for line in text.splitlines() if line.startswith(f"{name}  ") or line.strip() == name]
    return value


def publish_judged(bucket: LocalBucket, hour: int, **figures: float) -> str:
    """Publishes a release made at this hour whose log-loss per click on each of these tables is that."""
    release = publish_handmade(bucket, made=NOON.replace(hour=hour))
    path = f"{release_folder(release)}/{MANIFEST}"
    manifest = decode_long(ReleaseManifest, bucket.read(path) or b"")
    metrics = {table: {"v1": {**dict.fromkeys(METRICS, 0.5), finding.RANKING_METRIC: figure}} for table, figure in figures.items()}
    bucket.write(path, manifest.model_copy(update={"metrics": metrics}).to_json())
    return release


# --- releases


def test_the_newest_release_comes_first_whenever_it_was_published(bucket):
    by_hour = {hour: publish_handmade(bucket, made=NOON.replace(hour=hour)) for hour in (14, 3, 23, 9)}
    assert [found.manifest.release for found in finding.find_releases(bucket)] == [by_hour[hour] for hour in (23, 14, 9, 3)]


def test_the_best_release_comes_first_on_request(bucket):
    middling, worst, best = (publish_judged(bucket, hour, train=0.9, eval=figure) for hour, figure in ((1, 0.3), (2, 0.4), (3, 0.2)))
    assert scoring(bucket, "models", "list", "--best-first", "--quiet").stdout.split() == [best, middling, worst]
    assert scoring(bucket, "models", "list", "--quiet").stdout.split() == [best, worst, middling]
    listed = json.loads(scoring(bucket, "models", "list", "--best-first", "--json").stdout)
    assert [release["release"] for release in listed] == [best, middling, worst]


def test_releases_judged_on_different_tables_are_not_ranked_among_each_other(bucket):
    in_sample, worse, best = publish_judged(bucket, 1, train=0.1), publish_judged(bucket, 2, eval=0.3), publish_judged(bucket, 3, eval=0.2)
    other = publish_judged(bucket, 4, eval=0.25)
    path = f"{release_folder(other)}/{MANIFEST}"
    manifest = decode_long(ReleaseManifest, bucket.read(path) or b"")
    elsewhere = TableFingerprint(path="data/eval.csv", files={"data/eval.csv": FileDigest(sha256="a" * 64, size=1)}, rows=1, rejected=0)
    bucket.write(path, manifest.model_copy(update={"tables": manifest.tables | {"eval": elsewhere}}).to_json())
    assert scoring(bucket, "models", "list", "--best-first", "--quiet").stdout.split() == [other, best, worse, in_sample]
    said = scoring(bucket, "models", "list", "--best-first").stdout
    assert said.count("judged on") == 3
    assert "judged on data/eval.csv\n" in said
    assert "judged on data/train/train.csv (trained on it)\n" in said


def test_a_release_whose_evaluation_table_is_its_training_table_is_not_ranked_among_those_judged_on_it_honestly(bucket):
    honest, seen = publish_judged(bucket, 1, train=0.1, eval=0.3), publish_judged(bucket, 2, train=0.1, eval=0.2)
    for release, trained_on in ((honest, "b"), (seen, "a")):
        path = f"{release_folder(release)}/{MANIFEST}"
        manifest = decode_long(ReleaseManifest, bucket.read(path) or b"")
        tables = {
            name: TableFingerprint(path=f"data/{name}.csv", files={name: FileDigest(sha256=of * 64, size=1)}, rows=1, rejected=0)
            for name, of in (("train", trained_on), ("eval", "a"))
        }
        bucket.write(path, manifest.model_copy(update={"tables": tables}).to_json())
    said = scoring(bucket, "models", "list", "--best-first").stdout
    assert "judged on data/eval.csv\n" in said
    assert "judged on data/eval.csv (trained on it)\n" in said
    assert scoring(bucket, "models", "list").stdout.count("(trained on it)") == 1
    assert "on the eval table, trained on too" in printed(display_releases.print_release, finding.find_release(bucket, seen))
    assert "trained on too" not in printed(display_releases.print_release, finding.find_release(bucket, honest))


def test_each_release_comes_with_the_names_that_point_to_it(bucket):
    older, newer = publish_handmade(bucket), publish_handmade(bucket, made=NOON + timedelta(hours=1))
    for alias, release in (("v1.latest", newer), ("champion", older), ("safe", older)):
        point_alias(bucket, alias, release)
    assert [found.aliases for found in finding.find_releases(bucket)] == [["v1.latest"], ["champion", "safe"]]
    shown = printed(display_releases.print_releases, finding.find_releases(bucket)).splitlines()
    assert [line.split()[0] for line in shown] == ["release", newer, older]
    assert shown[1].split()[1] == "latest"
    assert "champion, safe" in shown[2]


def test_a_release_without_its_manifest_is_not_listed(bucket, release):
    half = publish_handmade(bucket, made=NOON + timedelta(hours=1))
    bucket.delete(f"{release_folder(half)}/{MANIFEST}")
    assert [found.manifest.release for found in finding.find_releases(bucket)] == [release]


def test_one_release_is_found_by_its_id_and_another_is_said_to_be_missing(bucket, release):
    assert finding.find_release(bucket, release).manifest.release == release
    with pytest.raises(ModelError, match="there is no release v1@20200101T000000Z-abcdef"):
        finding.find_release(bucket, "v1@20200101T000000Z-abcdef")


def test_a_release_is_printed_with_its_origin_columns_files_and_metrics(bucket):
    release = publish_judged(bucket, 12, train=0.125, eval=0.375)
    point_alias(bucket, "champion", release)
    [found] = finding.find_releases(bucket)
    text = printed(display_releases.print_release, found)
    assert fact(text, "release") == release
    assert "champion" in fact(text, "aliases").split(", ")
    assert fact(text, "trained").startswith("2026-11-23 12:00:00 UTC by job 20261123t120000z-train-handmade")
    assert fact(text, "folder") == release_folder(release)
    assert fact(text, "columns").startswith("6: computer, smartphone, att1")
    assert found.manifest.model_file in fact(text, "files")
    assert "numpy" in fact(text, "libraries")
    assert "0.12500" in text.partition("on the train table")[2].partition("on the eval table")[0]
    assert "0.37500" in text.partition("on the eval table")[2]


def test_a_followed_training_ends_with_its_figures_beside_all_others_with_intervals(bucket):
    write_training_tables(bucket, rows=2000)
    rival = train(make_training(bucket)).release
    folder = make_training(bucket, minute=1)
    outcome = train(folder)
    evaluation = manifest_of(bucket, outcome).evaluation
    for command in (("jobs", "show", folder.job_id, "--follow"), ("models", "show", outcome.release)):
        said = scoring(bucket, *command, COLUMNS="200").stdout.partition("on the eval table")[2]
        assert "this release minus it (95 % interval)" in said
        for name in (rival, "always zero", "mean of all", "mean of the device", "mean of the keyword"):
            found = evaluation.differences[name]
            [line] = [line for line in said.splitlines() if line.startswith(f"{name}  ")]
            assert line.rstrip().endswith(f"{found.value:+.5f} ({found.low:+.5f} to {found.high:+.5f})")
        figures = manifest_of(bucket, outcome).metrics["eval"]["v1"]
        shown = "  ".join(f"{figures[name]:.5f}" for name in ("log_loss_per_click", "mae_by_click", "calibration_error"))
        [own] = [line for line in said.splitlines() if line.startswith("v1 (this release)")]
        assert own.split()[3:] == shown.split()
    assert "on the eval table" not in scoring(bucket, "jobs", "show", folder.job_id, "--follow", "--json").stdout


def test_all_columns_of_a_release_are_named_numbered_ones_together():
    names = ["computer", *(f"att{number}" for number in range(1, 161)), "length", "x1", "x2", "7"]
    assert display_releases._runs(names) == ["computer", "att1 to att160", "length", "x1", "x2", "7"]


# --- results


def test_a_result_is_found_by_its_job_and_by_its_folder(bucket, done):
    by_job = results_finding.find_result(bucket, done.job_id)
    assert by_job[0] == f"{FOLDER}/revisions/{done.job_id}"
    for name in (f"v1/{PLACE}", FOLDER, f"{FOLDER}/", f"/v1/{PLACE}/"):
        folder, manifest = results_finding.find_result(bucket, name)
        assert folder == FOLDER
        assert manifest == by_job[1]
    assert by_job[1].job_id == done.job_id


def test_a_folder_means_the_newest_result_and_a_job_its_own(bucket, done):
    write_table(bucket, [row(number) for number in range(5)])
    newer = make_job(bucket, minute=1)
    assert run_job(newer).state == "done"
    assert results_finding.find_result(bucket, FOLDER)[1].job_id == newer.job_id
    assert results_finding.find_result(bucket, done.job_id)[1].rows_scored == 40
    assert [len(results_finding.first_lines(bucket, results_finding.find_result(bucket, job.job_id)[0], 100)) for job in (done, newer)] == [
        41,
        6,
    ]


def test_the_first_lines_are_the_header_and_as_many_rows(bucket, done):
    for count, lines in ((0, 1), (5, 6), (1000, 41)):
        first = results_finding.first_lines(bucket, FOLDER, count)
        assert first[0] == "entity_id,device,cr"
        assert len(first) == lines
    assert scoring(bucket, "results", "head", done.job_id, "-n", "2").stdout.splitlines() == results_finding.first_lines(bucket, FOLDER, 2)


def test_a_job_that_has_no_result_yet_says_what_it_does_instead(bucket, release):
    waiting = make_job(bucket)
    with pytest.raises(RequestError, match=f"job {waiting.job_id} has no result: it is queued"):
        results_finding.find_result(bucket, waiting.job_id)
    waiting.cancel()
    with pytest.raises(RequestError, match="has no result: it is cancelled"):
        results_finding.find_result(bucket, waiting.job_id)


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ("v1/2020/01/01", RequestError),
        ("20200101t000000z-score-aaaaaa", RequestError),
        ("No Job", RequestError),
        ("../../..", RequestError),
    ],
)
def test_a_result_that_is_not_there_is_refused_with_a_next_step(bucket, done, wanted, error):
    with pytest.raises(error) as raised:
        results_finding.find_result(bucket, wanted)
    assert raised.value.next_step


def test_results_are_listed_once_each_by_definition_and_place(bucket, done):
    folders = [FOLDER]
    for minute, place in ((1, "2026/11/24"), (2, "2026/11/03")):
        job = make_job(bucket, minute=minute)
        moved = JobFolder(bucket, job.job_id.replace("score", "moved"))
        moved.create(job.job().model_copy(update={"job_id": moved.job_id, "place": place}))
        assert run_job(moved).state == "done"
        folders.append(f"data/predict/output/v1/{place}")
    assert sorted(found.folder for found in results_finding.inspect_results(bucket)[0]) == sorted(folders)


def test_a_result_is_printed_with_its_counts_and_means(bucket, done):
    text = printed_result(bucket)
    manifest = results_finding.find_result(bucket, FOLDER)[1]
    assert fact(text, "result") == f"{FOLDER}/prediction_output.csv.gz"
    assert (fact(text, "rows in"), fact(text, "scored"), fact(text, "rejected")) == ("40", "40", "0")
    assert fact(text, "release") == manifest.release
    assert fact(text, "table") == TABLE
    assert fact(text, "took").partition(" in ")[2].startswith("6 chunks, finished ")
    assert fact(text, "sha256 of the text") == manifest.text_sha256
    assert fact(text, "job") == done.job_id
    assert fact(text, "mean cr, Tablet") == f"{manifest.devices['Tablet'].mean_cr:.5f} over 13 rows"


def test_a_result_leads_to_its_table_its_release_and_what_that_was_made_of(bucket, done):
    table = f"prediction_input.csv sha256 {hashlib.sha256(bucket.read(TABLE)).hexdigest()}"
    release = finding.find_release(bucket, "v1@20261123T120000Z-de27fa").manifest
    origin = {
        "tables": {
            name: TableFingerprint(
                path=f"data/{name}.csv", files={f"data/{name}.csv": FileDigest(sha256=digit * 64, size=1)}, rows=7, rejected=0
            )
            for name, digit in (("train", "a"), ("eval", "b"))
        }
    }
    release = release.model_copy(update=origin)
    bucket.write(f"{release_folder(release.release)}/{MANIFEST}", release.to_json())
    text = printed_result(bucket)
    assert fact(text, "its files") == table
    assert fact(text, "scored with") == release.release
    assert fact(text, "code") == f"v1, sha256 {release.definition_sha256}"
    assert fact(text, "train table") == "data/train.csv, 7 rows"
    assert fact(text, "train files") == f"train.csv sha256 {'a' * 64}"
    assert fact(text, "eval files") == f"eval.csv sha256 {'b' * 64}"
    assert f"numpy {release.libraries['numpy']}" in fact(text, "libraries")
    shown = json.loads(scoring(bucket, "results", "show", f"v1/{PLACE}", "--json").stdout)
    assert shown["table"]["files"][TABLE]["sha256"] in table
    assert shown["release_manifest"] == release.encode()


def test_a_result_whose_release_is_gone_or_another_says_so(bucket, done):
    _, manifest = results_finding.find_result(bucket, FOLDER)
    path = f"{release_folder(manifest.release)}/{MANIFEST}"
    text = bucket.read(path)
    bucket.write(path, text.replace(next(iter(manifest.release_files.values())).sha256.encode(), b"0" * 64))
    assert f"The release {manifest.release} is no longer there, or its files are others." in printed_result(bucket)
    bucket.delete(path)
    assert f"The release {manifest.release} is no longer there, or its files are others." in printed_result(bucket)
    assert json.loads(scoring(bucket, "results", "show", f"v1/{PLACE}", "--json").stdout)["release_manifest"] is None


def test_a_result_with_rejects_says_where_they_are(bucket, release):
    write_table(bucket, [row(0), "7,0,0,0,x,Tablet"])
    assert run_job(make_job(bucket, max_reject_share=1.0)).state == "done"
    text = printed_result(bucket)
    assert fact(text, "rejected") == f"1 (see {FOLDER}/rejects.csv.gz)"
    assert bucket.exists(f"{FOLDER}/rejects.csv.gz")


def test_the_list_of_results_shows_folder_counts_and_job(bucket, done):
    [line] = printed(results.print_results, results_finding.inspect_results(bucket)[0]).splitlines()[1:]
    assert line.split()[0] == f"v1/{PLACE}"
    assert line.split()[-1] == done.job_id
    assert line.split()[-3:-1] == ["40", "0"]


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b'{"format": 1, "later": true}'])
def test_one_damaged_manifest_is_named_and_the_other_commands_go_on(bucket, done, content):
    broken = publish_handmade(bucket, made=NOON + timedelta(hours=1))
    paths = [f"{release_folder(broken)}/{MANIFEST}", "data/predict/output/v1/2020/01/01/manifest.json"]
    for path in paths:
        bucket.write(path, content)
    whole = done.outcome().release
    for command, path, shown in ((("models", "list"), paths[0], whole), (("results", "list"), paths[1], done.job_id)):
        said = scoring(bucket, *command)
        assert said.stderr.startswith(f"Warning: {path} cannot be read and is left out: ")
        assert shown in said.stdout
        listed = json.loads(scoring(bucket, *command, "--json").stdout)
        assert [(entry["path"], bool(entry["unreadable"])) for entry in listed if "unreadable" in entry] == [(path, True)]
        assert len(listed) == 2
    said = scoring(bucket, "models", "show", whole)
    assert whole in said.stdout
    compared = CliRunner().invoke(root.scoring, ["models", "compare", whole, whole], env={"BUCKET_URL": bucket.url})
    assert "not both judged on" in str(compared.exception), "as it would be without the damaged one"
    for stderr in (said.stderr, compared.stderr):
        assert stderr.startswith(f"Warning: {paths[0]} cannot be read and is left out: ")
    assert scoring(bucket, "models", "list", "--quiet").stdout.split() == [whole]
    assert done.job_id in scoring(bucket, "jobs", "list").stdout
    with pytest.raises(ModelError, match=paths[0]):
        finding.find_release(bucket, broken)


# --- jobs


def test_the_list_of_jobs_shows_state_progress_and_reason_of_each(bucket, done):
    running = make_job(bucket, minute=1, chunk_rows=7)
    plan(running)
    running.write_stage("cuts the table")
    cancelled = make_job(bucket, minute=2)
    cancelled.cancel()
    shown = scoring(bucket, "jobs", "list").stdout.splitlines()[1:]
    assert [line.split()[0] for line in shown] == [cancelled.job_id, running.job_id, done.job_id]
    assert [line.split()[1] for line in shown] == ["cancelled", "running", "done"]
    assert "cancelled on request" in shown[0]
    assert "0/6" in shown[1]
    assert "cuts the table" in shown[1]
    assert f"{TABLE} with v1" in shown[2]
    assert "6/6" in shown[2]
    assert len(scoring(bucket, "jobs", "list", "--limit", "2").stdout.splitlines()) == 3


def test_a_done_job_is_printed_with_its_result(bucket, done):
    text = printed(jobs.print_job, done.status())
    outcome = done.outcome()
    assert fact(text, "job") == done.job_id
    assert fact(text, "state") == "done"
    assert fact(text, "chunks") == "6 of 6"
    assert fact(text, "release") == outcome.release
    assert fact(text, "result") == FOLDER
    assert fact(text, "scored") == "40"


def test_a_failed_job_is_printed_with_why_and_what_next(bucket, release):
    folder = make_job(bucket)
    folder.write_outcome(Outcome(state="failed", at=NOON, reason="the table is gone", next_step="Bring it back.", exit_code=3))
    text = printed(jobs.print_job, folder.status())
    assert (fact(text, "state"), fact(text, "why"), fact(text, "next")) == ("failed", "the table is gone", "Bring it back.")
    assert fact(text, "chunks") == "0 of not yet known"


def test_a_training_job_is_printed_with_its_tables(bucket):
    job = TrainJob(job_id="20261123t120000z-train-aaaaaa", created=NOON, definition="v2", train="data/train/train.csv")
    folder = JobFolder(bucket, job.job_id)
    folder.create(job)
    text = printed(jobs.print_job, folder.status())
    assert (fact(text, "definition"), fact(text, "train")) == ("v2", "data/train/train.csv")
    assert (fact(text, "eval"), fact(text, "alias")) == ("none", "none")
    assert fact(text, "now") == "waits for a worker"
    assert "train v2" in scoring(bucket, "jobs", "list").stdout


def test_a_search_is_printed_with_its_candidates_the_best_first(bucket):
    release = publish_judged(bucket, 12, train=0.125)
    path = f"{release_folder(release)}/{MANIFEST}"
    manifest = decode_long(ReleaseManifest, bucket.read(path) or b"")
    assert b'"search"' not in manifest.to_json(), "manifests of an earlier version and without a search are alike"
    losses = {"loss": 0.25, "folds": [0.25]}
    tried = [
        Candidate(number=number, params={"a": number}, state=CandidateState.TRIED, log_loss_per_click=losses["loss"], folds=losses["folds"])
        for number in range(2, 20)
    ]
    best = Candidate(number=1, params={"a": 1}, state=CandidateState.CHOSEN, log_loss_per_click=0.125, folds=[0.0625, 0.1875])
    failed = Candidate(
        number=20, params={"a": 20}, state=CandidateState.FAILED, log_loss_per_click=None, folds=[], reason="it killed its worker 3 times"
    )
    search = Search(
        method="grid",
        config={},
        folds=["week 2 after week 1", "week 3 after weeks 1 to 2"],
        candidates=[best, failed, *tried],
        chosen={"a": 1},
    )
    bucket.write(path, manifest.model_copy(update={"search": search}).to_json())
    [found] = finding.find_releases(bucket)
    text = printed(display_releases.print_release, found)
    assert (fact(text, "found by"), fact(text, "chosen")) == ("grid", "a=1")
    assert fact(text, "folds") == "week 2 after week 1; week 3 after weeks 1 to 2"
    rows = [line.split() for line in text.partition("on each fold")[2].splitlines()[1:]]
    assert rows[0] == ["1", "chosen", "0.12500", "0.06250", "0.18750", "a=1"]
    assert " ".join(rows[1]) == "20 failed a=20: it killed its worker 3 times"
    assert "and 8 more, see --json" in text


@pytest.mark.parametrize("name", ["[/week]", "[bold]", "[red]x[/red]"])
def test_brackets_in_a_path_are_shown_as_they_are(bucket, release, name):
    folder = make_job(bucket, table=f"data/predict/input/{name}/table.csv")
    assert f"{name}/table.csv" in printed(jobs.print_jobs, [folder.status()])
    assert f"{name}/table.csv" in printed(jobs.print_job, folder.status())


@pytest.mark.parametrize("width", [80, 100, 132])
def test_no_id_is_folded_in_a_narrow_terminal(bucket, release, width):
    stamp = "20261123t120000123z"
    scored = JobFolder(bucket, f"{stamp}-score-9bfad3")
    job = make_job(bucket).job().model_copy(update={"job_id": scored.job_id, "place": f"{PLACE}/keywords"})
    scored.create(job)
    run_job(scored)
    brought = JobFolder(bucket, f"{stamp}-score-9bfad4")
    rows = f"jobs/{brought.job_id}/input/corrected.csv"
    brought.create(job.model_copy(update={"job_id": brought.job_id, "fixes": scored.job_id, "fixed_rows": rows}))
    brought.fail(RequestError("the reason is long " * 40))
    point_alias(bucket, "champion", release)
    text = io.StringIO()
    console = Console(file=text, width=width)
    jobs.print_jobs(console, [folder.status() for folder in (brought, scored)])
    results.print_results(console, results_finding.inspect_results(bucket)[0])
    display_releases.print_releases(console, finding.find_releases(bucket))
    said = text.getvalue()
    assert said.count(brought.job_id) == 1
    assert said.count(scored.job_id) == 3
    assert f"v1/{PLACE}/keywords" in said
    assert said.count(release) == 2
    assert "champion" in said
    assert len(said.splitlines()) <= 18
    assert max(map(len, said.splitlines())) <= width


def test_a_damaged_job_is_listed_with_what_is_wrong_with_it():
    lines = printed(jobs.print_jobs, [UnreadableJob(job_id="job-1", reason="its file is [red]damaged")])
    assert "job-1" in lines
    assert "unreadable" in lines
    assert "its file is [red]damaged" in lines


def test_a_long_line_is_not_folded_when_it_goes_to_a_file(bucket, release):
    table = f"data/predict/input/{'long/' * 60}table.csv"
    assert fact(printed(jobs.print_job, make_job(bucket, table=table).status()), "table") == table


@pytest.mark.parametrize("name", ["20261123t130000z-score-aaaaaa", "notes", "My Notes"])
def test_a_job_folder_without_a_request_is_left_out_of_the_list(bucket, done, name):
    bucket.write(f"jobs/{name}/parts/0000000.csv.gz", b"left over")
    listed = json.loads(scoring(bucket, "jobs", "list", "--json").stdout)
    assert [status["job"]["job_id"] for status in listed] == [done.job_id]
    assert name not in scoring(bucket, "jobs", "list").stdout


def test_a_job_folder_without_a_request_does_not_take_a_place_in_a_short_list(bucket, done):
    bucket.write("jobs/20261123t130000z-score-aaaaaa/parts/0000000.csv.gz", b"left over")
    assert done.job_id in scoring(bucket, "jobs", "list", "--limit", "1").stdout


# --- nothing there


@pytest.mark.parametrize(("what", "name"), [("jobs", "job"), ("models", "release"), ("results", "result")])
def test_a_list_of_nothing_is_empty_names_the_bucket_and_does_not_make_it(bucket, what, name):
    assert json.loads(scoring(bucket, what, "list", "--json").stdout) == []
    said = scoring(bucket, what, "list").stdout.splitlines()
    assert [line.partition(f" yet in the bucket {bucket.url}")[0] for line in said] == [f"There is no {name}"]
    assert not bucket.root.exists()


def test_an_empty_bucket_holds_no_release_and_no_result(bucket):
    assert finding.find_releases(bucket) == []
    assert results_finding.inspect_results(bucket)[0] == []


# --- signatures


def test_what_a_signature_is_worth_is_said_of_releases_and_results(bucket):
    keys = ours, theirs = "a key that is ours alone", "the key of a stranger"
    bucket.signer = Signer((ours.encode(),))
    write_table(bucket, [row(number) for number in range(40)])
    release = publish_handmade(bucket)
    folder = make_job(bucket)
    run_job(folder)
    for command in (("models", "show", release), ("results", "show", folder.job_id), ("results", "show", FOLDER)):
        said = {key: fact(scoring(bucket, *command, key=key).stdout, "signed") for key in ("", *keys)}
        assert said == {
            "": "not checked: SCORING_STORE_KEY is not set",
            ours: "yes",
            theirs: "no: changed since, or by another key",
        }
        assert json.loads(scoring(bucket, *command, "--json", key=ours).stdout)["signed"] == "yes"


def test_a_release_from_before_the_key_is_signed_by_a_command(bucket):
    releases = [publish_handmade(bucket, made=NOON.replace(hour=hour)) for hour in (1, 2)]
    key = "a key that is long enough"
    assert fact(scoring(bucket, "models", "show", releases[0], key=key).stdout, "signed") == "no"
    assert scoring(bucket, "models", "sign", *releases, key=key).stdout.splitlines() == [
        f"Signed {releases[0]}",
        f"Signed {releases[1]}",
        "A job that failed because its release was not signed goes on with: scoring jobs resume JOB",
    ]
    assert fact(scoring(bucket, "models", "show", releases[0], key=key).stdout, "signed") == "yes"
    assert json.loads(scoring(bucket, "models", "sign", releases[1], "--json", key=key).stdout) == [releases[1]]


@pytest.mark.parametrize("name", ["v1", "v1@latest", "champion"])
def test_a_release_is_signed_by_any_of_its_names(bucket, name):
    release, key = publish_handmade(bucket), "a key that is long enough"
    point_alias(bucket, "champion", release)
    assert json.loads(scoring(bucket, "models", "sign", name, "--json", key=key).stdout) == [release]
    assert fact(scoring(bucket, "models", "show", release, key=key).stdout, "signed") == "yes"


def test_a_release_that_cannot_be_signed_is_to_be_trained_again_and_not_answered_with_the_same(bucket):
    release = publish_handmade(bucket)
    bucket.write(f"{release_folder(release)}/{MANIFEST}", b"{}")
    bucket.signer = Signer((b"a key that is long enough",))
    with pytest.raises(ModelError) as refused:
        sign_release(bucket, release)
    assert refused.value.next_step == "Train it again: scoring train v1 --again"


def test_the_two_commands_of_a_held_result_are_one_line_of_its_job():
    outcome = Outcome(state="held", at=NOON, next_step="Publish it with: approve\nOr keep what live shows with: refuse")
    assert jobs.outcome_facts(outcome)["next"] == "Publish it with: approve; or keep what live shows with: refuse"
