"""The doctor prints for each problem what to do, and no problem hides another."""

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import redis

from model_store.definitions import PACKAGE_FOLDER, digest_source, load_definition
from producers.local_definitions import definitions_here
from producers.operations.checks import queues
from producers.operations.checks.examined import Examined
from producers.operations.checks.finding import Finding, State
from producers.operations.checks.queues import probe_files
from producers.operations.checks.releases import check_aliases, check_libraries
from producers.operations.checks.schedule import was_missed
from producers.operations.checks.workers import check_differences
from producers.operations.doctor import examine
from producers.schedule.run_states import Since, find_entry, inspect_entry
from producers.schedule.schedule_file import SCHEDULE
from shared.bucket.local import LocalBucket
from shared.catalog.aliases import point_alias
from shared.queue import routes
from shared.queue.client import connect_to_redis
from shared.queue.probe import Answer, Probe, read_answers, write_answer
from shared.queue.state import heartbeat
from shared.queue.state.crashing_releases import CrashingRelease, record_crashing_release
from shared.queue.state.maintenance_crashes import MAX_CRASHES, begin
from shared.records import decode
from shared.settings import Settings
from shared.version import code_version
from tests.conftest import REPOSITORY
from tests.handmade import publish_handmade

pytestmark = pytest.mark.server


def look(redis_url: str, place: object, **more: object) -> dict[str, Finding]:
    settings = Settings(redis_url=redis_url, bucket_url=str(place), **more)
    return {finding.subject: finding for finding in examine(settings, probe_seconds=0.1)}


def test_without_workers_every_queue_is_an_error_and_says_what_to_start(redis_url, tmp_path):
    found = look(redis_url, tmp_path)
    for queue in ("control", "score", "train"):
        assert found[f"queue {queue}"].state == State.ERROR
        assert f"a worker for the queue {queue}" in found[f"queue {queue}"].next_step
    assert found["beat"].state == found["sweep"].state == State.ERROR
    assert found["bucket"].state == found["clock"].state == found["Redis policy"].state == State.OK
    assert all(finding.next_step for finding in found.values() if finding.state != State.OK)


def test_a_finding_prints_the_state_words_that_programs_read():
    assert json.dumps(list(State)) == '["well", "warning", "ill"]'


def test_a_redis_that_drops_messages_or_forgets_is_found(redis_url, tmp_path):
    client = redis.Redis.from_url(redis_url)
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        found = look(redis_url, tmp_path)
    finally:
        client.config_set("maxmemory-policy", "noeviction")
    assert found["Redis policy"].state == State.ERROR
    assert "noeviction" in found["Redis policy"].next_step
    assert found["Redis persistence"].state == State.WARNING


@pytest.mark.parametrize(("ahead", "state"), [(-1.6, State.ERROR), (0.3, State.OK), (1.6, State.ERROR)])
def test_a_clock_that_is_off_by_more_than_a_second_is_found(redis_url, tmp_path, monkeypatch, ahead, state):
    really = redis.Redis.time

    def shifted(self):
        seconds, micros = really(self)
        now = seconds + micros / 1e6 + ahead
        return int(now), int(now % 1 * 1e6)

    monkeypatch.setattr(redis.Redis, "time", shifted)
    assert look(redis_url, tmp_path)["clock"].state == state


def test_without_redis_the_bucket_and_the_disk_are_still_checked(no_redis_url, tmp_path):
    found = look(no_redis_url, tmp_path)
    assert found["Redis"].state == State.ERROR
    assert found["bucket"].state == State.OK
    assert "disk of the home" in found
    assert "queue score" not in found


def test_without_redis_the_webhook_and_the_releases_are_still_checked(no_redis_url, tmp_path):
    bucket = LocalBucket(tmp_path)
    point_alias(bucket, "champion", publish_handmade(bucket))
    found = look(no_redis_url, tmp_path)
    assert found["webhook"].state == State.WARNING
    assert (found["model champion"].state, found["model champion"].next_step) == (State.WARNING, "Ask again when a worker answers.")
    manifest = next(place for place in (tmp_path / "model").rglob("manifest.json"))
    manifest.write_text("{")
    assert look(no_redis_url, tmp_path)["model champion"].state == State.ERROR


def test_a_damaged_alias_is_named_and_the_others_are_checked(no_redis_url, tmp_path):
    bucket = LocalBucket(tmp_path)
    publish_handmade(bucket)
    bucket.write("model/aliases/champion.json", b"")
    found = look(no_redis_url, tmp_path)
    assert found["model champion"].state == State.ERROR
    assert found["model champion"].text.startswith("the alias champion cannot be read: model/aliases/champion.json: ")
    assert found["model champion"].next_step.endswith("scoring models promote RELEASE --alias champion")
    assert found["model v1.latest"].state == State.WARNING


def test_a_bucket_that_writes_over_is_an_error(redis_url, tmp_path, monkeypatch):
    def write_over(self: LocalBucket, path: str, data: bytes) -> bool:
        self.write(path, data)
        return True

    monkeypatch.setattr(LocalBucket, "create", write_over)
    found = look(redis_url, tmp_path)
    assert found["bucket"].state == State.ERROR
    assert "created only once" in found["bucket"].text


def test_a_bucket_that_cannot_be_written_is_an_error(redis_url, tmp_path):
    (tmp_path / "file").write_text("no folder")
    found = look(redis_url, tmp_path / "file" / "bucket")
    assert found["bucket"].state == State.ERROR
    assert "BUCKET_URL" in found["bucket"].next_step


def test_the_doctor_leaves_nothing_in_the_bucket(redis_url, tmp_path):
    look(redis_url, tmp_path / "bucket")
    assert [path for path in (tmp_path / "bucket").rglob("*") if path.is_file()] == []


def test_a_variable_that_nothing_reads_is_named(redis_url, tmp_path, monkeypatch):
    monkeypatch.setenv("SCORING_SWEP_SECONDS", "3")
    assert "SCORING_SWEP_SECONDS" in look(redis_url, tmp_path)["settings"].text


def test_what_docker_compose_reads_is_known(redis_url, tmp_path, monkeypatch):
    files = [(REPOSITORY / name).read_text() for name in ("docker-compose.yml", ".env.example")]
    names = {name for text in files for name in re.findall(r"SCORING_\w+", text)}
    assert {"SCORING_UID", "SCORING_GID", "SCORING_NOTEBOOK_TOKEN", "SCORING_IMAGE_TAG"} <= names
    for name in names - {f"SCORING_{name.upper()}" for name in Settings.model_fields}:
        monkeypatch.setenv(name, "1")
    assert look(redis_url, tmp_path)["settings"].state == State.OK


def test_a_run_that_was_missed_is_a_warning(redis_url, tmp_path):
    bucket = LocalBucket(tmp_path)
    entry = {"name": "daily", "cron": "0 6 * * *", "time_zone": "UTC", "score": "data/predict/input/today", "model": "v1"}
    bucket.write(SCHEDULE, json.dumps([entry]).encode())
    assert look(redis_url, tmp_path)["schedule"].text == "1 entries"
    timing = find_entry(bucket, "daily").timing
    bucket.write(f"schedule/daily/{timing}.json", Since(since=datetime.now(UTC) - timedelta(days=3)).to_json())
    last = inspect_entry(bucket, find_entry(bucket, "daily"), datetime.now(UTC)).last
    [moment_later, hours_later] = [
        was_missed(inspect_entry(bucket, last.entry, last.at + wait), last.at + wait) for wait in (timedelta(minutes=1), timedelta(hours=1))
    ]
    assert (moment_later, hours_later) == (False, True)
    if datetime.now(UTC) - last.at > timedelta(minutes=4):
        found = look(redis_url, tmp_path)["schedule"]
        assert (found.state, found.text) == (State.WARNING, "the last run of daily was not started")


def test_a_heartbeat_is_ok_while_it_is_new(redis_url, tmp_path):
    client = connect_to_redis(redis_url)
    heartbeat.update_heartbeat(client, heartbeat.BEAT)
    heartbeat.update_heartbeat(client, heartbeat.SWEEP)
    client.expire(heartbeat.SWEEP, heartbeat.KEPT_SECONDS - 1000)
    found = look(redis_url, tmp_path)
    assert found["beat"].state == State.OK
    assert found["sweep"].state == State.ERROR
    assert "1,00" in found["sweep"].text


def test_libraries_and_definitions_of_the_workers_are_compared_with_the_releases(tmp_path):
    bucket = LocalBucket(tmp_path)
    release = publish_handmade(bucket)
    from model_store.store import library_versions

    def worker(**other: object) -> Answer:
        return Answer(**{"host": "one", "libraries": library_versions(), "definitions": ["v1"]} | other)

    def states(*workers: Answer) -> dict[str, Finding]:
        examined = Examined(
            settings=Settings(), bucket=bucket, answers={f"queue {number}": worker for number, worker in enumerate(workers)}
        )
        return {finding.subject: finding for check in (check_libraries, check_aliases) for finding in check(examined)}

    same = states(worker())
    assert {finding.state for finding in same.values()} == {State.OK}
    assert release in next(iter(same.values())).text
    old = states(worker(libraries=library_versions() | {"scikit-learn": "0.1"}))
    assert {finding.state for finding in old.values()} == {State.WARNING}
    assert "the workers have 0.1" in next(iter(old.values())).text
    without = states(worker(definitions=["v9"]))
    assert "SCORING_DEFINITIONS" in next(iter(without.values())).next_step
    source = load_definition("v1").source_sha256
    same, changed = worker(sources={"v1": source}), worker(sources={"v1": "0" * 64})
    assert {finding.state for finding in states(worker(), same).values()} == {State.OK}
    for workers in ([worker(), changed], [same, changed]):
        [found] = states(*workers).values()
        assert (found.state, found.text) == (State.ERROR, f"{release}: the code of the definition v1 was changed since it was trained")
        assert found.next_step == "Train it again: scoring train v1 --train data/train/train.csv --again"
    point_alias(bucket, "challenger", release)
    steps = {name: finding.next_step for name, finding in states(changed).items()}
    assert steps["model challenger"] == "Train it again: scoring train v1 --train data/train/train.csv --alias challenger --again"
    assert "--alias" not in steps["model v1.latest"]
    mixed = states(worker(), worker(libraries=library_versions() | {"numpy": "0.1"}))
    assert mixed["workers"].state == State.ERROR


def differences(folder, answer):
    examined = Examined(settings=Settings(), bucket=LocalBucket(folder), answers={"score": answer})
    return [(finding.state, finding.text) for finding in check_differences(examined)]


def test_workers_with_another_bucket_version_or_definitions_are_found(tmp_path):
    here = {"host": "one", "libraries": {}, "definitions": sorted(definitions_here(Settings())), "version": code_version()}
    same = Answer(**here, bucket=str(tmp_path), sees_bucket=True)
    assert differences(tmp_path, same) == []
    [(state, text)] = differences(tmp_path, Answer(**here, bucket="/other", sees_bucket=False))
    assert (state, text) == (State.ERROR, f"one has another bucket, /other; this command has {tmp_path}")
    [(state, text)] = differences(tmp_path, Answer(**here | {"version": "0.0.9-12345678"}))
    assert (state, "one runs version 0.0.9-12345678" in text) == (State.WARNING, True)
    [(state, text)] = differences(tmp_path, Answer(**here | {"definitions": ["v1", "v2", "v3", "v9"]}))
    assert (state, "v9" in text) == (State.WARNING, True)


def test_a_definition_of_the_same_name_with_other_code_than_that_of_the_workers_is_named(tmp_path):
    for name in ("mine", "same"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.py").write_text("weights = 1\n")
    settings = Settings(definitions=tmp_path)
    sources = {name: digest_source(tmp_path / name) for name in ("mine", "same")} | {"v1": load_definition("v1").source_sha256}
    answer = Answer(host="one", libraries={}, definitions=sorted(definitions_here(settings)), sources=sources | {"only-theirs": "0" * 64})

    def found():
        return [finding.text for finding in check_differences(Examined(settings=settings, answers={"score": answer}))]

    assert found() == []
    (tmp_path / "mine" / "model.py").write_text("weights = 2\n")
    assert found() == ["one and this command have other code of the definitions: mine"]
    (tmp_path / "model_template.py").write_text("")  # belongs to the code of both
    assert found() == ["one and this command have other code of the definitions: mine, same"]


def test_an_answer_of_an_earlier_version_is_no_difference(tmp_path):
    assert differences(tmp_path, Answer(host="", libraries={}, definitions=[])) == []


def test_the_worker_says_whether_it_has_the_bucket_of_the_command(redis_url, tmp_path):
    program = "import json, sys; from workers.tasks.probe import answer_probe; answer_probe(*json.loads(sys.argv[1]))"
    client, seen = connect_to_redis(redis_url), {}
    for asker in ("same", "other"):
        asked = Probe()
        with probe_files(LocalBucket(tmp_path / asker), [asked]) as are_there:
            assert are_there
            subprocess.run(
                [sys.executable, "-c", program, json.dumps([asked.encode(), "control"])],
                cwd=REPOSITORY, env=os.environ | {"REDIS_URL": redis_url, "BUCKET_URL": str(tmp_path / "same")}, timeout=120, check=True,
            )  # fmt: skip
        seen[asker] = read_answers(client, asked)["control"].sees_bucket
    assert seen == {"same": True, "other": False}
    assert not LocalBucket(tmp_path / "same").files("doctor"), "nothing is left of it"


def test_a_schedule_with_a_problem_is_an_error(redis_url, tmp_path):
    assert look(redis_url, tmp_path)["schedule"].text == "there is none"
    bucket = LocalBucket(tmp_path)
    entry = {"name": "daily", "cron": "61 * * * *", "time_zone": "UTC", "score": "data/predict/input/today", "model": "v1"}
    bucket.write(SCHEDULE, json.dumps([entry]).encode())  # JSON is YAML
    found = look(redis_url, tmp_path)["schedule"]
    assert found.state == State.ERROR
    assert "scoring schedule check" in found.next_step


def test_an_answer_is_of_one_canary_alone_and_has_an_end(redis_url):
    client = connect_to_redis(redis_url)
    one, other = Probe(), Probe()
    write_answer(client, one, "score", Answer(host="here", libraries={}, definitions=[]))
    assert read_answers(client, one)["score"].host == "here"
    assert read_answers(client, other) == {}
    assert all(0 < client.ttl(key) <= 60 for key in client.scan_iter("scoring:canary:*"))


def test_the_canary_of_a_queue_that_uses_models_tells_the_state_of_their_code(redis_url, tmp_path):
    shutil.copytree(PACKAGE_FOLDER / "v1", tmp_path / "own1")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.py").write_text("import no_such_library")
    probes = {queue: Probe() for queue in ("control", "score", "train")}
    program = "import json, sys; from workers.tasks.probe import answer_probe; [answer_probe(*words) for words in json.loads(sys.argv[1])]"
    words = json.dumps([[probe.encode(), queue] for queue, probe in probes.items()])
    environment = os.environ | {"REDIS_URL": redis_url, "BUCKET_URL": str(tmp_path / "bucket"), "SCORING_DEFINITIONS": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program, words], cwd=REPOSITORY, env=environment, timeout=120, check=True)
    client = connect_to_redis(redis_url)
    answers = {queue: read_answers(client, probe)[queue] for queue, probe in probes.items()}
    assert {"own1", "broken"} < set(answers["control"].definitions)
    assert answers["control"].sources == {}
    assert answers["score"].sources == answers["train"].sources
    assert answers["score"].sources["own1"] == digest_source(tmp_path / "own1")
    assert "broken" not in answers["score"].sources


def test_an_answer_of_an_earlier_version_says_nothing_of_sources():
    earlier = {"format": 1, "host": "here", "libraries": {}, "definitions": ["v1"], "webhook": None}
    assert decode(Answer, earlier).sources == {}
    assert Answer(host="here", libraries={}, definitions=["v1"]).encode() == earlier


def test_definitions_and_releases_that_kill_are_named(redis_url, tmp_path, monkeypatch):
    killer = CrashingRelease(
        release="v9@20261123T101500Z-9bfad3", at=datetime(2026, 11, 23, 10, tzinfo=UTC), job_id="a-job", what="it kills"
    )
    record_crashing_release(redis.Redis.from_url(redis_url), killer)
    given = Answer(host="one", libraries={}, definitions=["v1", "v9"], left_out={"v9": "kills its process (SIGABRT)"})
    monkeypatch.setattr(queues, "read_answers", lambda *_: dict.fromkeys(("control", "score", "train"), given))
    settings = Settings(redis_url=redis_url, bucket_url=str(tmp_path))
    found = {finding.subject: finding for finding in examine(settings, probe_seconds=60)}  # as long as it takes to send them
    definition, release = found["definition v9"], found[f"release {killer.release}"]
    assert (definition.state, definition.text) == (
        State.ERROR,
        "it kills its process (SIGABRT) when it is imported, and is excluded on one",
    )
    assert (release.state, release.text) == (State.WARNING, "it kills (2026-11-23 10:00 UTC)")
    assert release.next_step == "See: scoring jobs show a-job"


def test_what_the_sweep_and_the_daily_removal_leave_out_is_named(redis_url, tmp_path):
    client, now = redis.Redis.from_url(redis_url), datetime(2026, 11, 23, 10, tzinfo=UTC)
    for step, piece in ((routes.SWEEP, "a-job"), (routes.GC, "revisions to v1/2026")):
        for _ in range(MAX_CRASHES):
            begin(client, step, now, "2.1 GB").may_enter(piece)
        begin(client, step, now, "2.1 GB")
    found = look(redis_url, tmp_path)
    assert {subject: finding.text for subject, finding in found.items() if subject.startswith("left out by")} == {
        "left out by the sweep": "a-job killed or hung its process 3 times in a row, the last one with 2.1 GB (2026-11-23 10:00 UTC)",
        "left out by the daily removal": "revisions to v1/2026 killed or hung its process 3 times in a row, "
        "the last one with 2.1 GB (2026-11-23 10:00 UTC)",
    }
    assert {found[f"left out by {name}"].state for name in ("the sweep", "the daily removal")} == {State.WARNING}


def test_a_worker_that_left_nothing_out_answers_as_earlier_versions_do():
    given = Answer(host="one", libraries={}, definitions=["v1"])
    assert b"left_out" not in given.to_json()
    assert decode(Answer, given.to_json()) == given
