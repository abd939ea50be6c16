"""Retires a release or restores it, for a person, and sends a notice."""

from dataclasses import dataclass
from datetime import UTC, datetime

from producers.authorship import LONGEST_REASON, check_reason, who
from producers.releases.promoting import whole_releases
from shared.bucket.interface import Bucket
from shared.catalog.aliases import (
    LATEST,
    Alias,
    add_change,
    follow_up_fields,
    known_alias,
    latest_of,
    list_aliases,
    point_alias,
    resolve,
    spoken_alias,
)
from shared.catalog.retirements import Retirement, add_retirement, changes_of_retirement, retired_releases, why_retired
from shared.errors import RequestError
from shared.jobs.messages import Notice
from shared.jobs.outbox import announce

LONGEST_BY = 200


@dataclass(frozen=True, kw_only=True)
class Done:
    """The result of retiring or restoring a release."""

    release: str
    changed: bool
    """False when the release was in this state before."""
    latest: str | None
    """The release that the name of the definition refers to now."""

    @property
    def words(self) -> str:
        """The current release of the definition, as a sentence."""
        definition = self.release.partition("@")[0]
        if self.latest is None:
            return f"{definition} points to no release now; train another one with: scoring train {definition} --again"
        return f"{definition} points to {self.latest} now"


def retire(bucket: Bucket, model: str, *, reason: str, by: str = "") -> Done:
    """Removes the release of ``model`` from ``latest``, which then points to the newest release that is not retired.

    Raises:
        RequestError: an alias still points to the release, or the reason or the name of the person is too long.
        ModelError: the release does not exist.
    """
    by = _person(reason, by)
    release = resolve(bucket, model)
    _refuse_if_named(bucket, release)
    change = _record(bucket, release, retired=True, reason=reason, by=by)
    latest = _move_latest_on(bucket, release, reason=reason, by=by)
    if change is not None:
        _tell(bucket, change)
    return Done(release=release, changed=change is not None, latest=latest)


def unretire(bucket: Bucket, model: str, *, reason: str = "", by: str = "") -> Done:
    """Restores a retired release; ``latest`` points to it again if it is newer than the current one.

    Raises:
        RequestError: the reason or the name of the person is too long.
        ModelError: the release does not exist.
    """
    by = _person(reason, by)
    release = resolve(bucket, model)
    change = _record(bucket, release, retired=False, reason=reason, by=by)
    name = latest_of(release.partition("@")[0])
    if change is not None:
        retired = retired_releases(bucket)
        words = f"taken back into use: {reason}" if reason else "taken back into use"
        point_alias(bucket, name, release, by=by, reason=words[:LONGEST_REASON], only_if=lambda now: _is_older(now, release, retired))
        _tell(bucket, change)
    now = known_alias(bucket, name)
    return Done(release=release, changed=change is not None, latest=None if now is None else now.release)


def _is_older(now: Alias | None, release: str, retired: dict[str, str]) -> bool:
    return now is None or now.release < release or now.release in retired


def _person(reason: str, by: str) -> str:
    check_reason(reason)
    if len(by) > LONGEST_BY:
        raise RequestError(f"--by has {len(by):,} characters, more than the {LONGEST_BY} allowed", next_step="Shorten it.")
    return by or who()


def _refuse_if_named(bucket: Bucket, release: str) -> None:
    """Raises RequestError when an alias other than ``latest`` points to the release: a person must choose its new target first."""
    names = [name for name, target in list_aliases(bucket).items() if target == release and not name.endswith(LATEST)]
    if not names:
        return
    alias, retired = names[0], retired_releases(bucket)
    now = known_alias(bucket, alias)
    if now is not None and any(earlier not in retired for earlier in now.back):
        move = f"scoring models rollback --alias {alias}"
    else:
        others = [other for other in whole_releases(bucket, release.partition("@")[0]) if other != release and other not in retired]
        move = f"scoring models promote {others[0] if others else 'RELEASE'} --alias {alias}"
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    raise RequestError(f"{alias}{more} still points to {release}", next_step=f"Move it first: {move}; then retire the release.")


def _record(bucket: Bucket, release: str, *, retired: bool, reason: str, by: str) -> Retirement | None:
    """Records that a release is retired or not; returns the change, or None when the state is the same."""
    while bool(why_retired(bucket, release)) != retired:
        number = len(changes_of_retirement(bucket, release)) + 1
        change = Retirement(release=release, at=datetime.now(UTC), number=number, retired=retired, by=by, reason=reason)
        if add_retirement(bucket, change):
            return change
    return None


def _move_latest_on(bucket: Bucket, release: str, *, reason: str, by: str) -> str | None:
    """Moves ``latest`` from a retired release to the newest one in use; returns its release, or None when none is in use."""
    definition = release.partition("@")[0]
    name = latest_of(definition)
    while True:
        now, retired = known_alias(bucket, name), retired_releases(bucket)
        if now is not None and now.release not in retired:
            return now.release
        target = next((other for other in whole_releases(bucket, definition) if other not in retired), None)
        if target is None:
            return None
        if now is None:  # its file is damaged or was lost
            point_alias(bucket, name, target, by=by, reason=f"{release} is retired")
            continue
        words = f"{now.release} is retired{f': {reason}' if reason else ''}"[:LONGEST_REASON]
        change = Alias(release=target, at=datetime.now(UTC), how="rolled back", by=by, reason=words)
        if add_change(bucket, name, change.model_copy(update=follow_up_fields(now))):
            return target


def _tell(bucket: Bucket, change: Retirement) -> None:
    """Sends the notice of a change, with the command that reverts it."""
    name = latest_of(change.release.partition("@")[0])
    now = known_alias(bucket, name)
    target = "nothing" if now is None or why_retired(bucket, now.release) else now.release
    facts = {"release": change.release, f"{spoken_alias(name)} points to": target, "by": change.by, "reason": change.reason}
    undo = f"unretire {change.release}" if change.retired else f'retire {change.release} --reason "..."'
    notice = Notice(
        good=not change.retired,
        title=f"{'retired' if change.retired else 'in use again'}: {change.release}",
        facts={fact: value for fact, value in facts.items() if value},
        next_step=f"Take this back with: scoring models {undo}",
    )
    announce(bucket, f"retire-{change.release}-{change.number:06d}", notice)
