"""The check of the schedule and of the last run of each entry."""

from collections.abc import Iterator
from datetime import UTC, datetime

from producers.operations.checks.examined import Examined
from producers.operations.checks.finding import Finding, error, ok, warning
from producers.schedule.run_states import EntryLine, RunPhase, inspect_entry, read_entries
from producers.schedule.runs import ON_TIME
from shared.jobs.states import JobState

UNSUCCESSFUL = (JobState.FAILED, JobState.CANCELLED, RunPhase.GIVEN_UP)


def check_schedule(examined: Examined) -> Iterator[Finding]:
    """Checks that the schedule is valid, and that the last run of each entry was neither missed nor unsuccessful."""
    if examined.bucket is None:
        return
    entries, problems, digest = read_entries(examined.bucket)
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        yield error("schedule", f"{problems[0].place}: {problems[0].wrong}{more}", "See all with: scoring schedule check")
        return
    now = datetime.now(UTC)
    lines = [inspect_entry(examined.bucket, entry, now) for entry in entries]
    texts = [text for line in lines if (text := _bad_run(line, now))]
    for text in texts:
        yield warning("schedule", text, "See: scoring schedule list")
    if not texts:
        yield ok("schedule", f"{len(entries)} entries" if digest else "there is none")


def _bad_run(line: EntryLine, now: datetime) -> str:
    """Describes the problem of an entry's last run; empty when there is none."""
    state = line.state
    if state is None or not (state.state in UNSUCCESSFUL or was_missed(line, now)):
        return ""
    verb = "was " if state.state in (JobState.CANCELLED, RunPhase.PENDING) else ""
    return ": ".join(filter(None, [f"the last run of {line.entry.name} {verb}{state.state}", state.reason]))


def was_missed(line: EntryLine, now: datetime) -> bool:
    """Returns True when the last run of an entry was due but was not started."""
    return line.state is not None and line.state.state == RunPhase.PENDING and line.last is not None and now - line.last.at > ON_TIME
