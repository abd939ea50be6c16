"""Two stacks on one bucket leave each other's jobs alone, and the bucket of one that is gone goes to the other without a person."""

import os
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import redis
import structlog

from producers.operations.checks.examined import Examined
from producers.operations.checks.finding import Finding, State
from producers.operations.checks.storage import check_stack
from shared.bucket.interface import FileInfo
from shared.bucket.local import LocalBucket
from shared.jobs.folder import OPEN, JobFolder, Outcome, open_jobs
from shared.queue.state import stacks
from shared.queue.state.stacks import KEY, OWNER, SILENT_SECONDS, STACKS, OwnStack, id_in_redis, read_claim
from shared.settings import Settings
from tests.conftest import own_server
from tests.handmade import TABLE, make_job, publish_handmade, row, write_table
from workers.recovery import sweep as recovery_sweep
from workers.recovery.sweep import Rules, Traffic, Turn, sweep

pytestmark = pytest.mark.server

IDLE = Traffic(waiting_since=lambda _: None, are_leased=lambda names: [False] * len(names))


@pytest.fixture(scope="module")
def second_server(tmp_path_factory):
    """Another server, as a second stack has it."""
    with own_server(tmp_path_factory.mktemp("second")) as url:
        yield url


@pytest.fixture
def other_url(second_server):
    redis.Redis.from_url(second_server).flushall()
    return second_server


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    return LocalBucket(tmp_path / "bucket")


class Stack:
    """A process of a stack, whose clock the test moves."""

    def __init__(self, bucket, url, name=""):
        self.client = redis.Redis.from_url(url)
        self.now = 0.0
        self.own_stack = OwnStack(bucket, self.client, name, clock=lambda: self.now)
        self.bucket, self.url, self.name = bucket, url, name

    def look(self):
        """A look that asks the storage again."""
        self.now += 1000
        return self.own_stack.claim()

    @property
    def id(self):
        return self.look().own

    def sends(self) -> list[str]:
        """The jobs that a sweep of this stack sends."""
        self.look()
        rules = Rules(grace=timedelta(0), deadline=timedelta(days=1))
        return [missing.messages[0].job_id for missing in sweep(self.bucket, IDLE, rules, stack=self.own_stack)]

    def again(self):
        """The same stack after all its processes were started again."""
        return Stack(self.bucket, self.url, self.name)


@pytest.fixture
def first(bucket, redis_url):
    return Stack(bucket, redis_url)


@pytest.fixture
def second(bucket, other_url):
    return Stack(bucket, other_url)


def put(stack, minute) -> str:
    """A job that was put into a stack, of which no message is on its way."""
    folder = make_job(stack.bucket, minute=minute)
    job = folder.job().model_copy(update={"created": datetime.now(UTC)})
    stack.bucket.delete(folder.file("job.json"))
    assert folder.create(job, stack.id)
    return folder.job_id


def let_go_by(bucket, stack, seconds=SILENT_SECONDS + 60):
    """Nothing is seen of a stack for so long."""
    place = bucket.place(f"{STACKS}/{stack.own_stack.claim().own}.json")
    info = place.stat()
    os.utime(place, (info.st_atime, info.st_mtime - seconds))


def test_the_first_stack_gets_a_bucket_and_a_second_sees_that(bucket, first, second):
    claim = first.look()
    assert claim.is_ours
    assert claim.owner == claim.own == id_in_redis(first.client)
    theirs = second.look()
    assert not theirs.is_ours
    assert (theirs.owner, theirs.own) == (claim.own, id_in_redis(second.client))
    assert theirs.own != claim.own
    assert first.look().is_ours
    assert b'"cluster"' in bucket.read(OWNER)


def test_each_of_two_stacks_sends_its_own_jobs_and_no_other(bucket, first, second):
    publish_handmade(bucket)
    write_table(bucket, [row(0)], TABLE)
    first.look()
    own, theirs = put(first, 1), put(second, 2)
    with structlog.testing.capture_logs() as logged:
        assert first.sends() == [own]
        assert second.sends() == [theirs]
    said = [line for line in logged if line["event"] == "jobs of another stack skipped"]
    assert [(line["jobs"], line["cluster"]) for line in said] == [(1, first.id), (1, second.id)]
    assert all("SCORING_CLUSTER" in line["to_do"] for line in said)


def test_a_second_stack_neither_fails_nor_publishes_nor_tells_of_jobs_of_the_first(bucket, first, second):
    first.look()
    late, ended = put(first, 1), put(first, 2)
    JobFolder(bucket, ended).write_outcome(Outcome(state="failed", at=datetime.now(UTC)))
    with_no_release = {info.path: info.stamp for folder in (late, ended) for info in bucket.files(f"jobs/{folder}")}
    second.look()
    assert list(sweep(bucket, IDLE, Rules(grace=timedelta(0), deadline=timedelta(0)), stack=second.own_stack)) == []
    assert {info.path: info.stamp for folder in (late, ended) for info in bucket.files(f"jobs/{folder}")} == with_no_release
    assert open_jobs(bucket) == sorted([late, ended])


def test_a_job_of_an_earlier_version_is_that_of_the_stack_that_has_the_bucket(bucket, first, second):
    first.look()
    job_id = make_job(bucket).job_id
    assert bucket.read(f"{OPEN}/{job_id}") == b""
    assert second.sends() == []
    assert first.sends() == [job_id]


def test_stacks_of_one_name_are_one_stack(bucket, redis_url, other_url):
    blue, green = Stack(bucket, redis_url, "shop"), Stack(bucket, other_url, "shop")
    assert blue.look().is_ours
    assert green.look().is_ours
    job_id = put(blue, 1)
    assert green.sends() == blue.sends() == [job_id]
    assert id_in_redis(green.client) == "shop", "for processes that ask for jobs without this setting"


def test_an_emptied_redis_gets_its_name_back_from_any_process_that_lives(bucket, first):
    own = first.id
    first.client.flushall()
    assert first.id == own
    assert first.client.get(KEY).decode() == own
    assert 0 < first.client.ttl(KEY) <= stacks.KEPT_SECONDS


def test_a_stack_that_lost_its_redis_and_all_processes_goes_on_by_itself_after_a_while(bucket, first):
    job_id = put(first, 1)
    before = first.id
    first.client.flushall()
    new = first.again()
    assert new.id != before
    assert new.sends() == [], "it could be that of another stack"
    let_go_by(bucket, first)
    assert new.sends() == [job_id]
    assert new.look().is_ours
    assert read_claim(bucket, new.id).owner == new.id


def test_a_stack_that_comes_back_finds_its_jobs_untouched_by_one_that_took_the_bucket(bucket, first, second):
    first.look()
    second.look()
    let_go_by(bucket, first)
    assert second.look().is_ours
    job_id = put(first, 1)  # it is there again
    assert second.sends() == []
    assert first.sends() == [job_id]


def test_the_jobs_of_a_stack_that_is_gone_are_done_by_the_one_that_has_the_bucket(bucket, first, second):
    first.look()
    job_id = put(second, 1)
    assert first.sends() == []
    let_go_by(bucket, second)
    assert first.sends() == [job_id]


def test_an_emptied_redis_that_a_new_process_names_keeps_no_job_waiting_for_a_stack_that_is_silent(bucket, first):
    publish_handmade(bucket)
    write_table(bucket, [row(0)], TABLE)
    job_id, before = put(first, 1), first.id
    first.client.flushall()
    new = first.again()  # it knows no name, and comes first
    assert new.id != before
    assert new.sends() == []
    assert first.id == new.id
    assert new.sends() == [job_id]
    assert not bucket.exists(f"{STACKS}/{before}.json")


def test_a_clock_that_is_off_decides_nothing(bucket, first, second, monkeypatch):
    first.look()
    monkeypatch.setattr(stacks.time, "time", lambda: 0.0)
    assert not second.look().is_ours


def test_without_redis_nothing_is_left_alone(bucket, no_redis_url):
    lone = Stack(bucket, no_redis_url)
    job_id = make_job(bucket).job_id
    assert lone.own_stack.own_jobs([job_id]) == [job_id]
    assert lone.look().is_ours
    assert not bucket.exists(OWNER)


def test_a_damaged_claim_is_made_again(bucket, first):
    bucket.write(OWNER, b"{")
    assert first.look().is_ours


@pytest.mark.parametrize("planted", [b"{", b"../../etc/passwd", b"", b"\xff\xfe", b"x" * 100])
def test_what_somebody_puts_into_redis_as_a_name_leads_nowhere(bucket, first, planted):
    first.client.set(KEY, planted)
    first.look()
    assert {info.path for info in bucket.files(STACKS)} <= {f"{STACKS}/{first.own_stack.claim().own}.json"}


def test_many_looks_cost_no_request(bucket, first, monkeypatch):
    first.look()
    for name in ("read", "write", "files", "stat"):
        monkeypatch.setattr(bucket, name, lambda *_: pytest.fail("it was asked"))
    for _ in range(100):
        assert first.own_stack.claim().is_ours
        assert first.own_stack.own_jobs([]) == []


def test_jobs_of_a_stack_that_came_since_the_last_look_are_left_alone(bucket, first, second):
    of_first = put(first, 1)
    of_second = put(second, 2)
    assert first.own_stack.own_jobs([of_first, of_second]) == [of_first]


def test_two_requests_tell_which_jobs_are_ours_however_many_there_are(bucket, first, monkeypatch):
    first.look()
    asked = []
    for name in ("read", "write", "files", "stat"):
        done = getattr(bucket, name)
        monkeypatch.setattr(bucket, name, lambda path, *more, name=name, done=done: (asked.append(name), done(path, *more))[1])
    names = [f"job-{number}" for number in range(1000)]
    assert first.own_stack.own_jobs(names) == names
    assert sorted(asked) == ["files", "read"]


def test_doctor_says_whose_the_bucket_is_and_claims_nothing(bucket, first, second):
    def check(client) -> Finding:
        [found] = check_stack(Examined(settings=Settings(), bucket=bucket, client=client))
        return found

    assert check(first.client).state == State.WARNING, "no worker has named it"
    assert not bucket.exists(OWNER)
    first.look()
    assert check(first.client).state == State.OK
    second.look()
    found = check(second.client)
    assert found.state == State.WARNING
    assert found.text.startswith(f"the bucket belongs to another stack, {first.id}, seen ")
    assert "SCORING_CLUSTER" in found.next_step


class CountingStore(LocalBucket):
    """Has open jobs of a stack and counts its requests, which take 20 ms of a clock of its own, as many at a time as threads ask."""

    is_remote = True

    def __init__(self, root, owner, count):
        super().__init__(root)
        self.requests = 0
        self.looked_at = set()
        self.owner = owner.encode()
        self.marks = [FileInfo(path=f"{OPEN}/job-{number:05d}", size=9, stamp="", modified=0.0) for number in range(count)]

    def now(self):
        return self.requests * 0.02 / recovery_sweep.STORE_THREADS

    def files(self, folder):
        self.requests += 1
        return self.marks if folder == OPEN else super().files(folder)

    def read(self, path):
        self.requests += 1
        if not path.startswith(f"{OPEN}/"):
            return super().read(path)
        self.looked_at.add(path)
        return self.owner


def test_with_a_second_stack_and_ten_thousand_open_jobs_a_sweep_ends_in_its_time_and_the_next_goes_on(
    bucket, first, second, redis_url, monkeypatch
):
    """The marks of all open jobs were read one after the other before the time was looked at: 2,006 requests for 2,000 jobs."""
    first.look()
    store = CountingStore(bucket.root, second.id, 10_000)
    monkeypatch.setattr(recovery_sweep, "time", SimpleNamespace(monotonic=store.now))
    stack, turn = Stack(store, redis_url), Turn(seconds=recovery_sweep.SWEEP_SECONDS)
    rules = Rules(grace=timedelta(0), deadline=timedelta(days=1))
    allowed = recovery_sweep.SWEEP_SECONDS * recovery_sweep.STORE_THREADS / 0.02
    sweeps = 0
    while sweeps == 0 or turn.after:
        before = store.requests
        assert list(sweep(store, IDLE, rules, turn, stack.own_stack)) == []
        assert store.requests - before <= allowed + 2 * recovery_sweep.STORE_THREADS + 10
        sweeps += 1
        assert sweeps < 20
    assert len(store.looked_at) == 10_000
    assert sweeps > 3
