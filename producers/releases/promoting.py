"""Moves an alias for a person, to another release or back to the previous one, and sends a notice."""

from datetime import UTC, datetime

from pydantic import TypeAdapter, ValidationError

from producers.authorship import check_reason, who
from producers.releases.signing import checked_manifest
from shared.bucket.interface import Bucket
from shared.catalog.aliases import (
    ALIASES,
    LATEST,
    Alias,
    add_change,
    changes,
    follow_up_fields,
    latest_of,
    list_aliases,
    point_alias,
    read_alias,
    resolve,
    spoken_alias,
)
from shared.catalog.paths import MANIFEST, MODELS, release_folder
from shared.catalog.retirements import retired_releases, why_retired
from shared.errors import ModelError, RequestError
from shared.jobs.messages import Notice
from shared.jobs.outbox import announce
from shared.records import Name, is_release_id


def promote(bucket: Bucket, model: str, alias: str, *, reason: str = "") -> Alias | None:
    """Points the alias to the release of ``model``; returns the change, or None if the alias already points to it.

    The name of a definition, such as ``v2``, is the alias of its newest release, and may point to any of its releases.

    Raises:
        RequestError: the alias is invalid, or the reason is too long.
        ModelError: the release does not exist, is retired, or would be refused by workers.
    """
    check_reason(reason)
    release = resolve(bucket, model)
    name = _name_to_move(bucket, alias, release)
    _check_release(bucket, release)
    change = point_alias(bucket, name, release, by=who(), reason=reason)
    if change is not None:
        _tell(bucket, name, change)
    return change


def roll_back(bucket: Bucket, alias: str, *, reason: str = "") -> Alias:
    """Points the alias to its previous release, and on repetition to the one before that; returns the change.

    The name of a definition moves to its next older release. Retired releases are skipped.

    Raises:
        ModelError: the alias does not exist or has no previous release, or workers would refuse that release.
        RequestError: another process changed the alias at this moment, or the reason is too long.
    """
    check_reason(reason)
    name = stored_name(bucket, alias)
    now = read_alias(bucket, name) if name else None
    if name is None or now is None:
        raise _unknown(bucket, alias)
    retired = retired_releases(bucket)
    earlier = now.back
    if name.endswith(LATEST):
        earlier = [release for release in whole_releases(bucket, alias_option(name)) if release < now.release]
    back = [release for release in earlier if release not in retired]
    if not back:
        raise _nothing_before(bucket, name, now)
    target, *further = back
    _check_release(bucket, target)
    kept = [] if name.endswith(LATEST) else further  # the releases before a newest release are known without a list
    change = Alias(release=target, at=datetime.now(UTC), how="rolled back", back=kept, by=who(), reason=reason)
    change = change.model_copy(update=follow_up_fields(now))
    # not retried: of two people who roll back the same release, one would go a step further than intended
    if not add_change(bucket, name, change):
        raise RequestError(f"another process changed {alias} at this moment", next_step=f"See its release: scoring models history {alias}")
    _tell(bucket, name, change)
    return change


def _nothing_before(bucket: Bucket, name: str, now: Alias) -> ModelError:
    """The error of a rollback without a target, with the command that reverts the rollback before it, if there was one."""
    is_gone = now.was is None or now.was in retired_releases(bucket) or not bucket.exists(f"{release_folder(now.was)}/{MANIFEST}")
    undo = (
        ""
        if is_gone
        else f"It last pointed to {now.was}; restore that with: scoring models promote {now.was} --alias {alias_option(name)}. "
    )
    return ModelError(
        f"{spoken_alias(name)} points to {now.release}, and no earlier release of it is known",
        next_step=f"{undo}To point it to another release: scoring models promote RELEASE --alias {alias_option(name)}",
    )


def whole_releases(bucket: Bucket, definition: str) -> list[str]:
    """The releases of a definition that have a manifest, the newest first."""
    names = [name for name in reversed(bucket.folders(f"{MODELS}/{definition}")) if is_release_id(name)]
    return [name for name in names if bucket.exists(f"{release_folder(name)}/{MANIFEST}")]


def changes_of(bucket: Bucket, alias: str) -> list[Alias]:
    """The changes of an alias, the newest first; raises ModelError when the alias does not exist or none of them can be read."""
    name = alias if alias.endswith(LATEST) else stored_name(bucket, alias)
    found = list(changes(bucket, name)) if name else []
    if name and not found:
        read_alias(bucket, name)  # raises with the damaged file
    if not found:
        raise _unknown(bucket, alias)
    return found


def stored_name(bucket: Bucket, alias: str) -> str | None:
    """The stored name of an alias: ``v2.latest`` for ``v2`` and ``v2@latest``; None for an invalid name."""
    bare = alias.removesuffix("@latest")
    if not _is_name(bare):
        return None
    if bare != alias or _is_definition(bucket, bare):
        return latest_of(bare)
    return alias


def alias_option(name: str) -> str:
    """The argument of ``--alias`` for a stored name."""
    return name.removesuffix(LATEST)


def _unknown(bucket: Bucket, alias: str) -> ModelError:
    if alias == "latest":
        return ModelError(
            "there is no alias 'latest' that moves: each definition has its own, which is called by the name of the definition",
            next_step="Name the definition, as in: scoring models history v2",
        )
    names = ", ".join(alias_option(name) for name in list_aliases(bucket))
    return ModelError(
        f"there is no alias {alias!r}{f'; there are: {names}' if names else ''}",
        next_step="Make one with: scoring models promote RELEASE --alias NAME",
    )


def _is_name(alias: str) -> bool:
    try:
        TypeAdapter(Name).validate_python(alias)
    except ValidationError:
        return False
    return True


def _is_definition(bucket: Bucket, name: str) -> bool:
    return f"{MODELS}/{name}" != ALIASES and name in bucket.folders(MODELS)


def _name_to_move(bucket: Bucket, alias: str, release: str) -> str:
    """The stored name of the alias.

    Raises:
        RequestError: the name is invalid, or it is a definition that the release does not belong to.
    """
    name = stored_name(bucket, alias)
    if name is None:
        problem = "a name is up to 64 letters, digits, - and _, the first a letter"
    elif name == "latest" or (name.endswith(LATEST) and alias_option(name) != release.partition("@")[0]):
        problem = "it names something already"
    else:
        return name
    raise RequestError(f"{alias!r} cannot be an alias: {problem}", next_step="Choose another name, like champion.")


def _check_release(bucket: Bucket, release: str) -> None:
    """Raises ModelError when the release is retired, or workers would refuse it."""
    why = why_retired(bucket, release)
    if why:
        raise ModelError(
            f"the release {release} is retired {why}", next_step=f"Take it back into use first: scoring models unretire {release}"
        )
    text, _ = checked_manifest(bucket, release)
    signature = bucket.signer.check(text)
    if not signature.is_trusted:
        raise ModelError(
            f"workers would refuse the release {release}: signed: {signature}",
            next_step=f"If you know it for yours, sign it: scoring models sign {release}",
        )


def _tell(bucket: Bucket, name: str, change: Alias) -> None:
    alias = spoken_alias(name)
    facts = {"alias": alias, "from": change.was or "nothing", "to": change.release, "by": change.by, "reason": change.reason}
    notice = Notice(
        good=change.how == "promoted",
        title=f"{change.how}: {alias} points to {change.release}",
        facts={fact: value for fact, value in facts.items() if value},
        next_step=way_back(name, change),
    )
    announce(bucket, f"alias-{name}-{change.number:06d}", notice)


def way_back(name: str, change: Alias) -> str:
    """The command that reverts a change, as a sentence; empty when the alias did not exist before."""
    if change.was is None:
        return ""
    if change.how == "rolled back" or name.endswith(LATEST):
        return f"Undo this with: scoring models promote {change.was} --alias {alias_option(name)}"
    return f"Take it back with: scoring models rollback --alias {alias_option(name)}"
