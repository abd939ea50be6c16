"""The commands under ``scoring models`` that change which releases are used and kept."""

from datetime import timedelta
from typing import Any

import click

from producers.display.terminal import console, json_option, open_bucket_here, print_json, say, warn_of_forced
from producers.durations import read_duration
from shared.errors import RequestError

alias_option = click.option("--alias", default="champion", show_default=True, help="The alias to move.")
reason_option = click.option("--reason", default="", help="Why; kept in the history and shown in the notice.")


class Duration(click.ParamType):
    """A duration like 30d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:  # noqa: ANN401 - click's own
        """Returns the duration; fails with click's error and an example."""
        if isinstance(value, timedelta):
            return value
        try:
            return read_duration(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


@click.command()
@click.argument("release")
@alias_option
@reason_option
@json_option
def promote(release: str, alias: str, reason: str, as_json: bool) -> None:
    """Point an alias to RELEASE, named as for `scoring score --model`.

    \b
    Example:
        scoring models promote v2 --reason "better on week 31"
        scoring models promote v2@20261123T101500Z-9bfad3 --alias challenger
    """
    from producers.releases.promoting import promote, stored_name, way_back
    from shared.catalog.aliases import resolve

    _, bucket = open_bucket_here()
    change = promote(bucket, release, alias, reason=reason)
    warn_of_forced(bucket, change.release if change else resolve(bucket, release))
    if as_json:
        print_json({"alias": alias, "release": change.release if change else resolve(bucket, release), "was": change and change.was})
    elif change is None:
        say(f"{alias} already points to {resolve(bucket, alias)}")
    else:
        say(f"{alias} points to {change.release} now; before, it pointed to {change.was or 'nothing'}")
        if back := way_back(stored_name(bucket, alias) or alias, change):
            say(back)


@click.command()
@alias_option
@reason_option
@json_option
def rollback(alias: str, reason: str, as_json: bool) -> None:
    """Point an alias to its previous release.

    Run it again to go back one more. The name of a definition, like v2, goes back to its next older release, until the next training.

    \b
    Example:
        scoring models rollback --reason "too many absurd rates on tablets"
        scoring models rollback --alias v2
    """
    from producers.releases.promoting import roll_back, stored_name, way_back

    _, bucket = open_bucket_here()
    change = roll_back(bucket, alias, reason=reason)
    if as_json:
        print_json({"alias": alias, "release": change.release, "was": change.was})
    else:
        say(f"{alias} points to {change.release} again; before, it pointed to {change.was}")
        say(way_back(stored_name(bucket, alias) or alias, change))


@click.command()
@click.argument("release")
@click.option("--reason", required=True, help="Why; kept in the store and shown in the notice.")
@click.option("--by", default="", help="Who decided it.  [default: you, as user@host]")
@json_option
def retire(release: str, reason: str, by: str, as_json: bool) -> None:
    """Take RELEASE out of `latest` for good.

    `v2` and `v2@latest` then point to the newest release that is not retired. The full id still works, with a warning. Aliases that point
    to the release must be moved first.

    \b
    Example:
        scoring models retire v2@20261123T101500Z-9bfad3 --reason "trained on one row"
    """
    from producers.releases.retiring import retire

    _, bucket = open_bucket_here()
    done = retire(bucket, release, reason=reason, by=by)
    if as_json:
        print_json({"release": done.release, "changed": done.changed, "latest": done.latest})
        return
    say(f"{done.release} is retired" if done.changed else f"{done.release} is retired already")
    say(done.words)
    say(f"Take it back into use with: scoring models unretire {done.release}")


@click.command()
@click.argument("release")
@reason_option
@click.option("--by", default="", help="Who decided it.  [default: you, as user@host]")
@json_option
def unretire(release: str, reason: str, by: str, as_json: bool) -> None:
    """Take a retired RELEASE back into use.

    `latest` points to it again if it is the newest.

    \b
    Example:
        scoring models unretire v2@20261123T101500Z-9bfad3
    """
    from producers.releases.retiring import unretire

    _, bucket = open_bucket_here()
    done = unretire(bucket, release, reason=reason, by=by)
    if as_json:
        print_json({"release": done.release, "changed": done.changed, "latest": done.latest})
        return
    say(f"{done.release} is in use again" if done.changed else f"{done.release} is not retired")
    say(done.words)


@click.command()
@click.argument("alias", default="champion")
@json_option
def history(alias: str, as_json: bool) -> None:
    """Show the history of an alias.

    Each change has its author and its reason; the newest comes first.

    \b
    Example:
        scoring models history champion
    """
    from producers.display import releases as display_releases
    from producers.releases.promoting import changes_of

    _, bucket = open_bucket_here()
    found = changes_of(bucket, alias)
    if as_json:
        print_json([change.encode() for change in found])
    else:
        display_releases.print_changes(console(), found)


@click.command()
@click.option(
    "--keep", type=click.IntRange(min=0), default=3, show_default=True, help="Keep this many releases of each definition, the newest."
)
@click.option("--older-than", type=Duration(), default="0d", help="Remove only releases that are older, like 30d.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing.")
@click.option("--yes", is_flag=True, help="Remove without asking.")
@json_option
def gc(keep: int, older_than: timedelta, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove the releases that nothing needs.

    A release is needed if an alias points to it or can be rolled back to it, if a published result or a revision was scored with it, if an
    open job uses or makes it, or if a failed or cancelled job needs it to be resumed (for 90 days, or as config/retention.yaml says).
    `scoring gc` removes revisions, and their releases are no longer needed then.
    Nothing is removed while config/schedule.yaml has a problem.

    \b
    Example:
        scoring models gc --dry-run
        scoring models gc --keep 5 --older-than 30d --yes
    """
    from producers.display import releases as display_releases
    from producers.durations import human_size
    from producers.releases import retention

    if as_json and not (yes or dry_run):
        raise RequestError("--json does not ask", next_step="Add --yes or --dry-run.")
    _, bucket = open_bucket_here()
    assessed = retention.assess_releases(bucket, keep=keep, older_than=older_than)
    unneeded = [release for release in assessed if not release.needed]
    if not as_json:
        display_releases.print_assessed(console(), assessed)
        say(f"{len(unneeded)} of {len(assessed)} to remove, {human_size(sum(release.size for release in unneeded))}")
    removed: list[retention.AssessedRelease] = []
    if unneeded and not dry_run and (yes or click.confirm("Remove them for ever?")):
        if not yes:  # the person may answer much later
            still = retention.assess_releases(bucket, keep=keep, older_than=older_than)
            unneeded = [now for now in still if not now.needed and now.release in {release.release for release in unneeded}]
        found = retention.remove_releases(bucket, unneeded)
        for release in unneeded:
            needed = found[release.release]
            if not needed:
                removed.append(release)
            elif not as_json:
                say(f"Kept {release.release}: {needed[0]}")
    if as_json:
        gone = [release.release for release in removed]
        releases = [release.encode() | {"removed": release.release in gone} for release in assessed]
        print_json({"removed": gone, "bytes": sum(release.size for release in removed), "releases": releases})
    elif removed:
        say(f"Removed {len(removed)} releases, {human_size(sum(release.size for release in removed))}")


COMMANDS = [promote, rollback, retire, unretire, history, gc]
