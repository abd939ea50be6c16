"""The checks of the workers: differences from this command, code that kills them, heartbeats."""

import contextlib
from collections.abc import Iterator

from producers.local_definitions import PACKAGE, definition_folder, definitions_here
from producers.operations.checks.examined import Examined
from producers.operations.checks.finding import Finding, error, ok, warning
from shared.digests import digest_source
from shared.queue import routes
from shared.queue.probe import Answer
from shared.queue.state import heartbeat
from shared.queue.state.crashing_releases import read_crashing_releases
from shared.queue.state.maintenance_crashes import read_left_out
from shared.settings import Settings
from shared.version import code_version

UPKEEP = {routes.SWEEP: "the sweep", routes.GC: "the daily removal"}


def check_differences(examined: Examined) -> Iterator[Finding]:
    """Checks that the workers have the same bucket, version, definitions and code as this command."""
    here = definitions_here(examined.settings)
    for queue, answer in examined.answers.items():
        subject = f"worker of {queue}"
        if examined.bucket is not None and answer.sees_bucket is False:
            text = f"{answer.host} has another bucket, {answer.bucket}; this command has {examined.bucket.url}"
            step = "Set BUCKET_URL here as the workers have it, or REDIS_URL (or SCORING_REDIS_PORT) to the Redis of your own workers."
            yield error(subject, text, step)
        if answer.version and answer.version != code_version():
            text = f"{answer.host} runs version {answer.version}; this command is {code_version()}"
            yield warning(subject, text, "Use the same checkout or image, and restart the workers.")
        if answer.definitions and (names := here ^ set(answer.definitions)):
            text = f"{answer.host} and this command do not have the same definitions: {', '.join(sorted(names))}"
            step = (
                "Set SCORING_DEFINITIONS here as the workers have it, and restart workers that were started before a definition was added."
            )
            yield warning(subject, text, step)
        if others := _other_code(examined.settings, answer):
            text = f"{answer.host} and this command have other code of the definitions: {', '.join(others)}"
            step = "Bring the same code to both; a release is refused where its code is another one than it was trained with."
            yield warning(subject, text, step)


def _other_code(settings: Settings, answer: Answer) -> list[str]:
    """The definitions whose code here differs from a worker's."""
    found = []
    for name, theirs in sorted(answer.sources.items()):
        folder = definition_folder(settings, name)
        with contextlib.suppress(OSError):  # unreadable code cannot be compared
            if folder is not None and digest_source(folder, PACKAGE) != theirs:
                found.append(name)
    return found


def check_left_out_definitions(examined: Examined) -> Iterator[Finding]:
    """Checks that no definition kills or hangs the process that imports it."""
    left_out = {name: (answer.host, what) for answer in examined.answers.values() for name, what in answer.left_out.items()}
    for name, (host, what) in sorted(left_out.items()):
        yield error(
            f"definition {name}",
            f"it {what} when it is imported, and is excluded on {host}",
            "Correct it or what it imports, and start the workers again.",
        )


def check_killers(examined: Examined) -> Iterator[Finding]:
    """Checks that no release kills or hangs the process that loads it."""
    if examined.client is None:
        return
    for killer in read_crashing_releases(examined.client):
        text = f"{killer.what} ({killer.at:%Y-%m-%d %H:%M} UTC)"
        yield warning(f"release {killer.release}", text, f"See: scoring jobs show {killer.job_id}")


def check_upkeep(examined: Examined) -> Iterator[Finding]:
    """Checks that no job or file kills or hangs the sweep or the daily removal."""
    if examined.client is None:
        return
    for step, name in UPKEEP.items():
        for deaths in read_left_out(examined.client, step):
            piece, memory = deaths.piece or name, f", the last one with {deaths.had}" if deaths.had else ""
            yield warning(
                f"left out by {name}" if deaths.piece else name,
                f"{piece} killed or hung its process {deaths.count} times in a row{memory} ({deaths.at:%Y-%m-%d %H:%M} UTC)",
                "Give the workers of the queue control more memory; it is tried again by itself, after a day at most.",
            )


def check_heartbeats(examined: Examined) -> Iterator[Finding]:
    """Checks that beat and the sweep were active recently."""
    if examined.client is None:
        return
    late = max(3 * examined.settings.sweep_seconds, 10)
    for subject, key, what in (("beat", heartbeat.BEAT, "celery beat"), ("sweep", heartbeat.SWEEP, "a worker for the queue control")):
        age = heartbeat.seconds_since(examined.client, key)
        text = "no sign of it is known" if age is None else f"last seen {age:,.0f} s ago"
        if age is None or age > late:
            yield error(subject, text, f"Start {what} (locally: scoring up).")
        else:
            yield ok(subject, text)
