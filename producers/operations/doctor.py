"""``scoring doctor``: looks at everything a job needs, and says of each thing that is not well what to do."""

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import redis

from producers.enqueue.repeated_requests import definition_folder
from producers.local_definitions import PACKAGE, definitions_here
from producers.schedule.run_states import EntryLine, look_at_entry, read_entries
from producers.schedule.runs import ON_TIME
from shared.bucket.interface import Bucket
from shared.bucket.local import LocalBucket
from shared.bucket.opening import open_bucket
from shared.catalog.aliases import damaged_aliases, list_aliases, train_anew
from shared.catalog.releases import read_release
from shared.digests import digest_source
from shared.errors import ModelError, ScoringError
from shared.queue import heartbeat, progress, routes
from shared.queue.broker import make_app, send_canary
from shared.queue.clusters import JOIN, id_in_redis, read_claim
from shared.queue.killers import read_killers
from shared.queue.probe import Answer, Canary, answers, canary_file
from shared.queue.routes import QUEUE_CONTROL, QUEUES
from shared.queue.upkeep import read_left_out
from shared.settings import Settings
from shared.version import code_version

State = Literal["well", "warning", "ill"]

OLDEST_REDIS = (6, 2)
CANARY_SECONDS = 10.0
CLOCK_TRIES = 3
CLOCKS_APART_SECONDS = 1.0
"""Job ids begin with the time of their request, and the newest one is published."""
LITTLE_DISK, NO_DISK = 2 << 30, 200 << 20
FULL_MEMORY = 0.8
NOT_WELL = ("failed", "cancelled", "did not start")
OF_COMPOSE = {
    f"SCORING_{name}"
    for name in (
        "UID", "GID", "BUCKET", "WORKERS", "IMAGE_TAG", "NOTEBOOK_TOKEN", "NOTEBOOK_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT",
        "WORKER_CPUS", "WORKER_MEMORY", "CONTROL_MEMORY", "NOTEBOOK_MEMORY", "REDIS_MEMORY", "REDIS_MEMORY_LIMIT"
    )
}  # fmt: skip
"""docker-compose reads these itself; whoever types commands with the settings of ``.env`` has them, too."""
UPKEEP = {routes.SWEEP: "the sweep", routes.GC: "the daily removal"}
START_WORKER = "Start a worker for the queue control (locally: scoring up)."
START = "Start it (for a local stack: scoring up) or check REDIS_URL."


@dataclass(frozen=True, kw_only=True)
class Finding:
    """How one thing is."""

    subject: str
    state: State
    text: str
    next_step: str = ""


def examine(settings: Settings, *, tell_people: bool = False, canary_seconds: float = CANARY_SECONDS) -> Iterator[Finding]:
    """Look at everything, one thing after another; a thing that cannot be looked at is ill, and the others are looked at all the same."""
    yield from _settings()
    client = progress.connect(settings.broker_url)
    has_redis = True
    for finding in _of_redis(client):
        has_redis = has_redis and not (finding.subject == "Redis" and finding.state == "ill")
        yield finding
    bucket = None
    try:
        bucket = open_bucket(settings.bucket_url, settings.signer)
        yield from _of_bucket(bucket)
        if has_redis:
            yield _cluster(settings, bucket, client)
        yield from _schedule(bucket)
    except (ScoringError, OSError) as error:
        yield Finding(
            subject="bucket", state="ill", text=f"{settings.bucket_url}: {error}", next_step="Check BUCKET_URL and its credentials."
        )
    yield from _disk(settings, bucket)
    answered: dict[str, Answer] = {}
    if has_redis:
        try:
            canaries = {queue: Canary(tell_people=tell_people and queue == QUEUE_CONTROL) for queue in QUEUES}
            with _canary_files(bucket, canaries.values()) as are_there:
                yield from _workers(settings, client, canaries, answered, seconds=canary_seconds)
            yield from _differences(settings, bucket if are_there else None, answered)
            yield from _deadly_code(client, list(answered.values()))
            yield from _signs(settings, client)
        except redis.RedisError as error:
            yield Finding(subject="Redis", state="ill", text=f"it went away meanwhile: {error}", next_step=START)
    yield from _webhook(settings, answered.get(QUEUE_CONTROL), tell_people=tell_people)
    if bucket is not None:
        try:
            yield from _releases(bucket, list(answered.values()))
        except (ScoringError, OSError) as error:
            yield Finding(subject="releases", state="ill", text=f"they cannot be read: {error}", next_step="Check BUCKET_URL.")


def _settings() -> Iterator[Finding]:
    known = {f"SCORING_{name.upper()}" for name in Settings.model_fields} | OF_COMPOSE
    unknown = sorted(name for name in os.environ if name.startswith("SCORING_") and name.removesuffix("_FILE") not in known)
    if unknown:
        yield Finding(
            subject="settings", state="warning", text=f"nothing reads {', '.join(unknown)}", next_step="Check the name, or unset it."
        )
    else:
        yield Finding(subject="settings", state="well", text="every SCORING_ variable is known")


def _of_redis(client: redis.Redis) -> Iterator[Finding]:
    try:
        told: dict[str, Any] = client.info()
        apart, unsure = _clock_apart(client)
    except redis.RedisError as error:
        yield Finding(subject="Redis", state="ill", text=f"it does not answer: {error}", next_step=START)
        return
    version = told.get("valkey_version") or told.get("redis_version", "0")
    is_old = tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS
    yield Finding(
        subject="Redis",
        state="ill" if is_old else "well",
        text=f"{told.get('server_name', 'redis')} {version}",
        next_step="Use 6.2 or newer." if is_old else "",
    )
    policy = told.get("maxmemory_policy", "")
    yield Finding(
        subject="Redis policy",
        state="well" if policy == "noeviction" else "ill",
        text=f"maxmemory-policy {policy}",
        next_step="" if policy == "noeviction" else "Set maxmemory-policy noeviction: any other drops messages when memory is short.",
    )
    used, most = int(told.get("used_memory", 0)), int(told.get("maxmemory", 0))
    is_full = bool(most) and used > FULL_MEMORY * most
    yield Finding(
        subject="Redis memory",
        state="ill" if is_full else "well",
        text=f"{used / 1e6:,.0f} MB used, {f'limit {most / 1e6:,.0f} MB' if most else 'no limit'}",
        next_step="Raise maxmemory, or see what waits: scoring jobs list" if is_full else "",
    )
    is_kept = int(told.get("aof_enabled", 0)) == 1
    is_written = told.get("aof_last_write_status", "ok") == "ok"
    yield Finding(
        subject="Redis persistence",
        state="warning" if not is_kept else "well" if is_written else "ill",
        text="append-only file" if is_kept and is_written else "its last write failed" if is_kept else "nothing is kept over a restart",
        next_step=""
        if is_kept and is_written
        else "Free its disk."
        if is_kept
        else "Set appendonly yes; without it jobs go on by the sweep.",
    )
    is_apart = abs(apart) - unsure > CLOCKS_APART_SECONDS
    yield Finding(
        subject="clock",
        state="ill" if is_apart else "well",
        text=f"{abs(apart):.1f} s {'ahead of' if apart < 0 else 'behind'} that of Redis",
        next_step="Let both take their time from the network (NTP)." if is_apart else "",
    )


def _clock_apart(client: redis.Redis) -> tuple[float, float]:
    """By how many seconds the clock of Redis is ahead of ours, and how many of them may be the way there: of some tries the quickest."""
    tries = []
    for _ in range(CLOCK_TRIES):
        sent = time.time()
        seconds, micros = client.time()
        came = time.time()
        tries.append((came - sent, seconds + micros / 1e6 - (sent + came) / 2))
    took, apart = min(tries)
    return apart, took / 2


def _of_bucket(bucket: Bucket) -> Iterator[Finding]:
    place = f"doctor/{secrets.token_hex(8)}"
    began = time.monotonic()
    try:
        was_new = bucket.create(place, b"first")
        was_new_again = bucket.create(place, b"second")
        text = bucket.read(place)
    finally:
        bucket.delete(place)
    took = time.monotonic() - began
    is_gone = bucket.read(place) is None
    if not was_new or text not in (b"first", b"second") or not is_gone:
        yield Finding(
            subject="bucket", state="ill", text=f"{bucket.url} does not give back what was written", next_step="Check its permissions."
        )
    elif was_new_again or text != b"first":
        yield Finding(
            subject="bucket",
            state="ill",
            text=f"{bucket.url} writes over a file that was to be created only once",
            next_step="Use a store with conditional writes (If-None-Match): without them two finishes may both publish.",
        )
    else:
        yield Finding(subject="bucket", state="well", text=f"{bucket.url}: read, write and create once in {took * 1e3:,.0f} ms")


def _cluster(settings: Settings, bucket: Bucket, client: redis.Redis) -> Finding:
    """To which stack the bucket belongs; nothing is claimed by looking."""
    with contextlib.suppress(redis.RedisError):
        own = settings.cluster or id_in_redis(client)
        claim = read_claim(bucket, own)
        if not own:
            return Finding(subject="cluster", state="warning", text="no worker has named this stack yet", next_step=START_WORKER)
        if not claim.is_ours:
            return Finding(subject="cluster", state="warning", text=f"{claim.sentence}; this one is {own}", next_step=JOIN)
        others = f", beside {', '.join(claim.others)}, whose jobs are left alone" if claim.others else ""
        return Finding(subject="cluster", state="well", text=f"the bucket belongs to this stack, {own}{others}")
    return Finding(subject="cluster", state="warning", text="Redis went away meanwhile", next_step=START)


def _schedule(bucket: Bucket) -> Iterator[Finding]:
    entries, problems, digest = read_entries(bucket)
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        text = f"{problems[0].place}: {problems[0].wrong}{more}"
        yield Finding(subject="schedule", state="ill", text=text, next_step="See all with: scoring schedule check")
        return
    now = datetime.now(UTC)
    lines = [look_at_entry(bucket, entry, now) for entry in entries]
    bad = {line.entry.name: line.state for line in lines if line.state is not None and (line.state.state in NOT_WELL or _missed(line, now))}
    for name, state in bad.items():
        verb = "was " if state.state in ("cancelled", "not started") else ""
        text = ": ".join(filter(None, [f"the last run of {name} {verb}{state.state}", state.reason]))
        yield Finding(subject="schedule", state="warning", text=text, next_step="See: scoring schedule list")
    if not bad:
        yield Finding(subject="schedule", state="well", text=f"{len(entries)} entries" if digest else "there is none")


def _missed(line: EntryLine, now: datetime) -> bool:
    return line.state is not None and line.state.state == "not started" and line.last is not None and now - line.last.at > ON_TIME


def _disk(settings: Settings, bucket: Bucket | None) -> Iterator[Finding]:
    places = {"home": settings.home} | ({"bucket": bucket.root} if isinstance(bucket, LocalBucket) else {})
    for what, place in places.items():
        free = shutil.disk_usage(_nearest(place)).free
        state: State = "ill" if free < NO_DISK else "warning" if free < LITTLE_DISK else "well"
        yield Finding(
            subject=f"disk of the {what}",
            state=state,
            text=f"{free / 1e9:,.1f} GB free at {place}",
            next_step="" if state == "well" else "Free some: old jobs and releases may go.",
        )


def _nearest(place: Path) -> Path:
    """The place itself, or the folder above it that is there."""
    return next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())


@contextlib.contextmanager
def _canary_files(bucket: Bucket | None, canaries: Iterable[Canary]) -> Iterator[bool]:
    """Keep a file for each canary in the bucket, by which the workers see whether they have the same one; gives False where that fails."""
    if bucket is None:
        yield False
        return
    try:
        for canary in canaries:
            bucket.write(canary_file(canary), b"")
    except ScoringError:
        yield False
        return
    try:
        yield True
    finally:
        with contextlib.suppress(ScoringError):
            for canary in canaries:
                bucket.delete(canary_file(canary))


def _differences(settings: Settings, bucket: Bucket | None, answered: dict[str, Answer]) -> Iterator[Finding]:
    """What the workers have otherwise than this command: bucket, version, definitions and their code."""
    here = definitions_here(settings)
    for queue, answer in answered.items():
        subject = f"worker of {queue}"
        if bucket is not None and answer.sees_bucket is False:
            text = f"{answer.host} has another bucket, {answer.bucket}; this command has {bucket.url}"
            step = "Set BUCKET_URL here as the workers have it, or REDIS_URL (or SCORING_REDIS_PORT) to the Redis of your own workers."
            yield Finding(subject=subject, state="ill", text=text, next_step=step)
        if answer.version and answer.version != code_version():
            text = f"{answer.host} runs version {answer.version}; this command is {code_version()}"
            yield Finding(subject=subject, state="warning", text=text, next_step="Use the same checkout or image, and restart the workers.")
        if answer.definitions and (names := here ^ set(answer.definitions)):
            text = f"{answer.host} and this command do not have the same definitions: {', '.join(sorted(names))}"
            step = (
                "Set SCORING_DEFINITIONS here as the workers have it, and restart workers that were started before a definition was added."
            )
            yield Finding(subject=subject, state="warning", text=text, next_step=step)
        if others := _other_code(settings, answer):
            text = f"{answer.host} and this command have other code of the definitions: {', '.join(others)}"
            step = "Bring the same code to both; a release is refused where its code is another one than it was trained with."
            yield Finding(subject=subject, state="warning", text=text, next_step=step)


def _other_code(settings: Settings, answer: Answer) -> list[str]:
    """The definitions whose code is another one here than that of a worker."""
    found = []
    for name, theirs in sorted(answer.sources.items()):
        folder = definition_folder(settings, name)
        with contextlib.suppress(OSError):  # who cannot read the code here cannot say that it differs
            if folder is not None and digest_source(folder, PACKAGE) != theirs:
                found.append(name)
    return found


def _workers(
    settings: Settings, client: redis.Redis, canaries: dict[str, Canary], answered: dict[str, Answer], *, seconds: float
) -> Iterator[Finding]:
    app = make_app(settings)
    began = time.monotonic()
    try:
        for queue, canary in canaries.items():
            send_canary(app, queue, canary)
    except ScoringError as error:
        yield Finding(subject="workers", state="ill", text=error.message, next_step=error.next_step)
        return
    took: dict[str, float] = {}
    while len(answered) < len(QUEUES) and time.monotonic() - began < seconds:
        for queue in [queue for queue in QUEUES if queue not in answered]:
            found = answers(client, canaries[queue])
            if queue in found:
                answered[queue], took[queue] = found[queue], time.monotonic() - began
        time.sleep(0.02)
    for queue in QUEUES:
        if queue in answered:
            text = f"{answered[queue].host} took a message after {took[queue] * 1e3:,.0f} ms"
            yield Finding(subject=f"queue {queue}", state="well", text=text)
            continue
        waiting = int(client.llen(queue))
        yield Finding(
            subject=f"queue {queue}",
            state="warning" if waiting > 1 else "ill",
            text=f"nobody took a message within {seconds:.0f} s; {waiting:,} wait",
            next_step=f"Start a worker for the queue {queue} (locally: scoring up), or wait if its workers are busy.",
        )


def _deadly_code(client: redis.Redis, workers: list[Answer]) -> Iterator[Finding]:
    """Definitions, releases, and jobs or files in upkeep, that kill or hang the process that works on them."""
    left_out = {name: (answer.host, what) for answer in workers for name, what in answer.left_out.items()}
    for name, (host, what) in sorted(left_out.items()):
        yield Finding(
            subject=f"definition {name}",
            state="ill",
            text=f"it {what} when it is imported, and is left out on {host}",
            next_step="Correct it or what it imports, and start the workers again.",
        )
    for killer in read_killers(client):
        yield Finding(
            subject=f"release {killer.release}",
            state="warning",
            text=f"{killer.what} ({killer.at:%Y-%m-%d %H:%M} UTC)",
            next_step=f"See: scoring jobs show {killer.job_id}",
        )
    for step, name in UPKEEP.items():
        for deaths in read_left_out(client, step):
            piece, memory = deaths.piece or name, f", the last one with {deaths.had}" if deaths.had else ""
            yield Finding(
                subject=f"left out by {name}" if deaths.piece else name,
                state="warning",
                text=f"{piece} killed or hung its process {deaths.count} times in a row{memory} ({deaths.at:%Y-%m-%d %H:%M} UTC)",
                next_step="Give the workers of the queue control more memory; it is tried again by itself, after a day at most.",
            )


def _signs(settings: Settings, client: redis.Redis) -> Iterator[Finding]:
    late = max(3 * settings.sweep_seconds, 10)
    for subject, key in (("beat", heartbeat.BEAT), ("sweep", heartbeat.SWEEP)):
        age = heartbeat.seconds_since(client, key)
        state: State = "ill" if age is None or age > late else "well"
        text = "no sign of it is known" if age is None else f"last seen {age:,.0f} s ago"
        what = "celery beat" if subject == "beat" else "a worker for the queue control"
        yield Finding(subject=subject, state=state, text=text, next_step="" if state == "well" else f"Start {what} (locally: scoring up).")


def _webhook(settings: Settings, answer: Answer | None, *, tell_people: bool) -> Iterator[Finding]:
    if not settings.webhook_url.get_secret_value():
        yield Finding(subject="webhook", state="warning", text="none is set here: notices are only logged", next_step="Set WEBHOOK_URL.")
    elif not tell_people:
        yield Finding(subject="webhook", state="well", text="one is set; --send tries it")
    elif answer is None or answer.webhook is None:
        yield Finding(subject="webhook", state="ill", text="no worker tried it", next_step="Start a worker for the queue control.")
    elif answer.webhook:
        yield Finding(subject="webhook", state="ill", text=answer.webhook, next_step="Check the WEBHOOK_URL of the workers.")
    else:
        yield Finding(subject="webhook", state="well", text="it took a message: look whether it is to be read there")


def _releases(bucket: Bucket, workers: list[Answer]) -> Iterator[Finding]:
    have: dict[str, set[str]] = {}
    for answer in workers:
        for name, version in answer.libraries.items():
            have.setdefault(name, set()).add(version)
    for name, versions in have.items():
        if len(versions) > 1:
            yield Finding(
                subject="workers",
                state="ill",
                text=f"they have different versions of {name}: {', '.join(sorted(versions))}",
                next_step="Give all workers the same image.",
            )
    for alias, damaged in damaged_aliases(bucket).items():
        yield Finding(subject=f"model {alias}", state="ill", text=damaged.message, next_step=damaged.next_step)
    for alias, release in sorted(list_aliases(bucket).items()):
        try:
            manifest = read_release(bucket, release).manifest
        except ModelError as error:
            yield Finding(
                subject=f"model {alias}", state="ill", text=f"{release}: {error.message}", next_step=f"See: scoring models show {release}"
            )
            continue
        if not workers:
            text, next_step = f"{release}; no worker told what it has", "Ask again when a worker answers."
            yield Finding(subject=f"model {alias}", state="warning", text=text, next_step=next_step)
            continue
        others = {
            f"{name} {version}, the workers have {', '.join(sorted(have[name]))}"
            for name, version in manifest.libraries.items()
            if name in have and version not in have[name]
        }
        missing = [] if any(manifest.definition in answer.definitions for answer in workers) else [manifest.definition]
        if missing:
            text, next_step = (
                f"no worker has the definition {missing[0]}",
                "Set SCORING_DEFINITIONS for the workers, or put it in the image.",
            )
            yield Finding(subject=f"model {alias}", state="ill", text=f"{release}: {text}", next_step=next_step)
        elif {answer.sources.get(manifest.definition, manifest.definition_sha256) for answer in workers} != {manifest.definition_sha256}:
            text = f"{release}: the code of the definition {manifest.definition} was changed since it was trained"
            yield Finding(subject=f"model {alias}", state="ill", text=text, next_step=train_anew(release, manifest.tables, alias=alias))
        elif others:
            text, next_step = f"was trained with {'; '.join(sorted(others))}", train_anew(release, manifest.tables, alias=alias)
            yield Finding(subject=f"model {alias}", state="warning", text=f"{release} {text}", next_step=next_step)
        else:
            yield Finding(subject=f"model {alias}", state="well", text=f"{release}, with the libraries of the workers")
