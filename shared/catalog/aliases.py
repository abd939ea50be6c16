"""Aliases: movable names for releases. Each change is a numbered file, and the first writer of a number wins.

v1                            the newest release of the definition (``model/aliases/v1.latest.json``)
v1@latest                     the same
v1@20261123T101500Z-9bfad3    this one release
champion                      the release that the alias points to now (``model/aliases/champion.json``)

The history is authoritative: ``model/aliases/history/<name>/000007.json`` is the seventh change of the name. The file of the name
is a copy of a recent change, from which a reader continues: a process may die, or be overtaken, before it writes the copy.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field

from shared.bucket.interface import Bucket
from shared.catalog.histories import History, UnreadableChangeError
from shared.catalog.paths import MANIFEST, MODELS, release_folder
from shared.catalog.retirements import retired_releases, why_retired
from shared.errors import ModelError, UnreadableAliasError
from shared.records import Record, ReleaseId, Timestamp, is_release_id

ALIASES = f"{MODELS}/aliases"
HISTORY = f"{ALIASES}/history"
LATEST = ".latest"
CHAMPION = "champion"
"""The alias that a training may move by itself."""
ROLLBACKS = 5
"""The number of rollback steps that an alias remembers."""
NAMES_SHOWN, RELEASES_SHOWN = 12, 3
_LIST = "Name one of those that there are: scoring models list"


class Alias(Record):
    """One change of an alias: its target, the time, and the cause."""

    release: ReleaseId
    at: Timestamp
    number: Annotated[int, Field(ge=0)] = 0
    """The number of this change, from 1; 0 in a file from before the history existed, and until the change is made."""
    how: Literal["promoted", "rolled back"] = "promoted"
    was: ReleaseId | None = None
    """The release that the alias pointed to before this change."""
    back: list[ReleaseId] = Field(default_factory=list)
    """The targets of rollbacks from here, the nearest first; at most ``ROLLBACKS``."""
    by: Annotated[str, Field(max_length=200)] = ""
    """``user@host``, or the job that trained the release."""
    reason: Annotated[str, Field(max_length=500)] = ""


def _always(now: Alias | None) -> bool:
    del now
    return True


def point_alias(
    bucket: Bucket, alias: str, release: str, *, by: str = "", reason: str = "", only_if: Callable[[Alias | None], bool] = _always
) -> Alias | None:
    """Points the alias to this release if ``only_if`` accepts its current state.

    Returns the change, or None when the alias already points to the release or ``only_if`` returned False.
    """

    def promoted(now: Alias | None) -> Alias | None:
        if not only_if(now):
            return None
        change = Alias(release=release, at=datetime.now(UTC), by=by, reason=reason)
        if now is None:
            return change
        back = [now.release, *now.back][:ROLLBACKS]
        return None if now.release == release else change.model_copy(update={"back": back})

    return _change(bucket, alias, promoted)


def point_latest(bucket: Bucket, release: str, *, by: str = "") -> None:
    """Points ``latest`` of the definition to this release.

    Does nothing if it points to a newer release, or if a person rolled this release back or retired it.
    """
    name = latest_of(release.partition("@")[0])

    def newer(now: Alias | None) -> Alias | None:
        if now is not None and (now.release >= release or _was_taken_back(bucket, name, now, release)):
            return None
        return None if why_retired(bucket, release) else Alias(release=release, at=datetime.now(UTC), by=by)

    _change(bucket, name, newer)


def _was_taken_back(bucket: Bucket, name: str, now: Alias, release: str) -> bool:
    """Returns True when the alias was moved from this release to an older one: repeating the training does not undo that."""
    return now.was is not None and now.was > now.release and any(change.release == release for change in changes(bucket, name))


def follow_up_fields(change: Alias) -> dict[str, int | str]:
    """The number and the former release of the change that follows this one."""
    return {"number": change.number + 1, "was": change.release}


def add_change(bucket: Bucket, alias: str, change: Alias) -> bool:
    """Writes this change of the alias; returns False when another process wrote the change with its number first."""
    return _history(bucket, alias).add(change)


def _change(bucket: Bucket, alias: str, decide: Callable[[Alias | None], Alias | None]) -> Alias | None:
    """Writes the change that ``decide`` derives from the current state; decides again when another process was faster."""

    def numbered(now: Alias | None, number: int) -> Alias | None:
        change = decide(now)
        return change and change.model_copy(update={"number": number, "was": None if now is None else now.release})

    return _history(bucket, alias).update(numbered)


def _history(bucket: Bucket, alias: str) -> History[Alias]:
    return History(bucket=bucket, kind=Alias, folder=f"{HISTORY}/{alias}", copy=f"{ALIASES}/{alias}.json")


def latest_of(definition: str) -> str:
    """The alias of the newest release of a definition."""
    return f"{definition}{LATEST}"


def read_alias(bucket: Bucket, alias: str) -> Alias | None:
    """Returns the current state of an alias, or None when the alias does not exist.

    A damaged copy does no harm while the history is whole.

    Raises:
        UnreadableAliasError: the newest change is damaged, or of a later version.
    """
    try:
        return _history(bucket, alias).read()
    except UnreadableChangeError as error:
        name = spoken_alias(alias)
        raise UnreadableAliasError(
            f"the alias {name} cannot be read: {error}",
            next_step=f"See its history: scoring models history {name}; then set it again: scoring models promote RELEASE --alias {name}",
        ) from error.error


def known_alias(bucket: Bucket, alias: str) -> Alias | None:
    """Returns the current state of an alias, or None when the alias does not exist or its file is damaged."""
    return _history(bucket, alias).known()


def changes(bucket: Bucket, alias: str) -> Iterator[Alias]:
    """Yields the changes of an alias, the newest first; unreadable ones are left out."""
    return _history(bucket, alias).changes()


def resolve(bucket: Bucket, ref: str) -> str:
    """The id of the release that ``ref`` refers to now.

    Raises:
        ModelError: the release or alias does not exist; the message lists the known ones.
    """
    if is_release_id(ref):
        if bucket.exists(f"{release_folder(ref)}/{MANIFEST}"):
            return ref
    elif "@" not in ref or ref.endswith("@latest"):
        name = ref.removesuffix("@latest")
        for alias in [latest_of(name)] if "@" in ref else [latest_of(name), name]:
            now = read_alias(bucket, alias)
            if now is not None:
                if alias.endswith(LATEST):
                    _check_latest(bucket, now.release)
                return now.release
    raise _unknown(bucket, ref)


def _check_latest(bucket: Bucket, release: str) -> None:
    """Raises ModelError when the newest release of a definition is retired, so that none is in use."""
    why = why_retired(bucket, release)
    if why:
        definition = release.partition("@")[0]
        raise ModelError(
            f"{definition} has no release in use: {release} is retired {why}",
            next_step=f"Train another one: scoring train {definition} --again; or take it back: scoring models unretire {release}",
        )


def list_aliases(bucket: Bucket) -> dict[str, str]:
    """Every alias, including ``<definition>.latest``, with its release.

    Leaves out unreadable aliases (see ``damaged_aliases``) and ``latest`` of a definition that has no release in use.
    """
    found = {name: known_alias(bucket, name) for name in _names(bucket)}
    retired = retired_releases(bucket)
    return {
        name: alias.release
        for name, alias in found.items()
        if alias is not None and not (name.endswith(LATEST) and alias.release in retired)
    }


def damaged_aliases(bucket: Bucket) -> dict[str, UnreadableAliasError]:
    """The aliases whose files cannot be read, each with the reason."""
    found: dict[str, UnreadableAliasError] = {}
    for name in _names(bucket):
        try:
            read_alias(bucket, name)
        except UnreadableAliasError as error:
            found[name] = error
    return found


def spoken_alias(alias: str) -> str:
    """The name of an alias as people write it: ``v2@latest`` for ``v2.latest``."""
    return f"{alias.removesuffix(LATEST)}@latest" if alias.endswith(LATEST) else alias


def _names(bucket: Bucket) -> list[str]:
    names = {info.path.rpartition("/")[2].removesuffix(".json") for info in bucket.files(ALIASES)}
    return sorted(names | set(bucket.folders(HISTORY)))


def _unknown(bucket: Bucket, ref: str) -> ModelError:
    """The error that lists the known releases of the same definition, or else all known names."""
    problem = f"there is no release or alias {ref!r} in the bucket {bucket.url}"
    definition = ref.partition("@")[0]
    if f"{MODELS}/{definition}" != ALIASES and definition in bucket.folders(MODELS):
        folders = reversed(bucket.folders(f"{MODELS}/{definition}"))
        releases = _first((name for name in folders if bucket.exists(f"{MODELS}/{definition}/{name}/{MANIFEST}")), RELEASES_SHOWN)
        newest = f"; of {definition} there are: {releases}" if releases else ""
        return ModelError(f"{problem}{newest}", next_step=f"{_LIST}, or train one with: scoring train {definition} --again")
    names = _first(sorted(name.removesuffix(".latest") for name in list_aliases(bucket)), NAMES_SHOWN)
    if names:
        return ModelError(f"{problem}; there are: {names}", next_step=_LIST)
    return ModelError(f"{problem}; nothing has been trained yet", next_step="Train a definition first: scoring train v1")


def _first(names: Iterable[str], count: int) -> str:
    few = list(itertools.islice(names, count + 1))
    return ", ".join(few[:count]) + (", ..." if len(few) > count else "")
