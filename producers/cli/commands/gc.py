"""The command ``scoring gc``: removes old files, in two steps."""

from typing import TYPE_CHECKING, Any

import click

from producers.display.terminal import json_option, open_bucket_here, print_json, say

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from shared.retention.assessments import Assessment
    from shared.retention.removal import Removed
    from shared.retention.tombstones import Marks
    from shared.settings import Settings


@click.group(invoke_without_command=True)
@click.option("--dry-run", is_flag=True, help="Show what would be removed and what stays, and change nothing.")
@json_option
@click.pass_context
def gc(context: click.Context, dry_run: bool, as_json: bool) -> None:
    """Remove old files by the rules of config/retention.yaml in the bucket.

    Removal takes two steps: a file that is due gets a tombstone, which `scoring gc undo` removes; the first run a day later removes the
    file. Beat does the same every day. Nothing is removed that an open job, a fix, an alias or a published result needs. Without
    config/retention.yaml only slices and parts are removed, a day after the end of their job. `scoring models gc` removes releases.

    \b
    Example:
        scoring gc --dry-run
        scoring gc
        scoring gc undo
    """
    if context.invoked_subcommand is not None:
        return
    from shared.retention.config import read_retention
    from shared.retention.removal import Removed, remove_due
    from shared.retention.survey import survey
    from shared.retention.tombstones import mark, read_marks

    settings, bucket = open_bucket_here()
    rules, now = read_retention(bucket), _now(settings)
    removed = Removed() if dry_run else remove_due(bucket, rules, now)
    things, marks = survey(bucket, rules, now), read_marks(bucket, now)
    if not dry_run:
        mark(bucket, [thing for thing in things if marks.is_new(thing)], now)
        marks = read_marks(bucket, now)
    if as_json:
        print_json(_as_json(things, marks, removed))
    else:
        _print(things, marks, removed, dry_run=dry_run)


@gc.command()
@click.argument("what", required=False)
@json_option
def undo(what: str | None, as_json: bool) -> None:
    """Remove tombstones, so that their files stay.

    Removes all tombstones, or only those of WHAT: a job, a path, or a tombstone's id. The files stay for at least a week; change
    config/retention.yaml to keep them longer.

    \b
    Example:
        scoring gc undo
        scoring gc undo 20261123t101500000z-score-9bfad3
    """
    from shared.retention.tombstones import TAKEN_BACK_FOR, undo

    settings, bucket = open_bucket_here()
    now = _now(settings)
    taken = undo(bucket, what, now)
    if as_json:
        print_json({"taken_back": [thing.encode() for thing in taken.things], "removal_had_begun": taken.begun})
        return
    for thing in taken.things:
        say(f"stays  {thing.kind}  {thing.name}")
    until = f", and stay until {now + TAKEN_BACK_FOR:%Y-%m-%d} at least" if taken.things else ""
    say(f"{len(taken.things):,} things were taken back{until}")
    if taken.begun:
        say(f"The removal of {len(taken.begun):,} of them had begun, they may be gone: {', '.join(taken.begun[:5])}")


def _now(settings: "Settings") -> "datetime":
    """The time of the Redis server, as in the workers' daily removal; the local time when Redis does not answer."""
    from datetime import UTC, datetime

    import redis

    from shared.queue.client import connect_to_redis
    from shared.queue.state.heartbeat import time_of

    try:
        with connect_to_redis(settings.broker_url) as client:
            return time_of(client)
    except redis.RedisError:
        return datetime.now(UTC)


def _state(thing: "Assessment", marks: "Marks") -> tuple[str, str]:
    """The state of a thing (stays or goes) and the reason."""
    if thing.key in marks.taken_back:
        return "stays", f"taken back, stays until {marks.taken_back[thing.key]:%Y-%m-%d}"
    if not thing.is_removed:
        return "stays", thing.reason
    due = marks.due.get(thing.key)
    return "goes", thing.reason if due is None else f"{thing.reason}; is removed after {due:%Y-%m-%d %H:%M} UTC"


def _as_json(things: "Iterable[Assessment]", marks: "Marks", removed: "Removed") -> dict[str, Any]:
    shown = []
    for thing in things:
        state, reason = _state(thing, marks)
        due = marks.due.get(thing.key) if state == "goes" else None
        shown.append({"kind": thing.kind, "name": thing.name, "bytes": thing.size, "state": state, "reason": reason, "removed_after": due})
    gone = [{"kind": thing.kind, "name": thing.name, "bytes": thing.size, "reason": thing.reason} for thing in removed.things]
    return {"things": shown, "removed": gone, "kinds": _by_kind(things, marks)}


def _by_kind(things: "Iterable[Assessment]", marks: "Marks") -> dict[str, dict[str, int]]:
    """Kind -> the number and bytes of things that go and stay."""
    kinds: dict[str, dict[str, int]] = {}
    for thing in things:
        state, _ = _state(thing, marks)
        counts = kinds.setdefault(str(thing.kind), {"goes": 0, "goes_bytes": 0, "stays": 0, "stays_bytes": 0})
        counts[state] += 1
        counts[f"{state}_bytes"] += thing.size
    return kinds


def _print(things: "list[Assessment]", marks: "Marks", removed: "Removed", *, dry_run: bool) -> None:
    from producers.durations import human_size

    for thing in removed.things:
        say(f"gone   {thing.kind:<10} {human_size(thing.size):>9}  {thing.name}: {thing.reason}")
    for thing in removed.spared:
        say(f"spared {thing.kind:<10} {human_size(thing.size):>9}  {thing.name}: {thing.reason}")
    for thing in things:
        state, reason = _state(thing, marks)
        say(f"{state:<6} {thing.kind:<10} {human_size(thing.size):>9}  {thing.name}: {reason}")
    say(f"\n{'kind':<12}{'go':>8}{'bytes':>11}{'stay':>9}{'bytes':>11}")
    kinds = _by_kind(things, marks)
    for kind, counts in kinds.items():
        going, staying = human_size(counts["goes_bytes"]), human_size(counts["stays_bytes"])
        say(f"{kind:<12}{counts['goes']:>8,}{going:>11}{counts['stays']:>9,}{staying:>11}")
    count = sum(counts["goes"] for counts in kinds.values())
    if not things:
        say("There is nothing that could go.")
    elif dry_run:
        say(f"{count:,} things would go; nothing was changed.")
    else:
        say(f"{len(removed.things):,} things were removed; {count:,} have a tombstone. Take it back with: scoring gc undo")
