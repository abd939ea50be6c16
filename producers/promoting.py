"""Moves an alias by a person's hand: on to another release, or back to the one before. People are told of both."""

import contextlib
import getpass
import os
import socket
from datetime import UTC, datetime

from pydantic import TypeAdapter, ValidationError

from producers.signing import checked_manifest
from shared.aliases import ALIASES, LATEST, MODELS, Alias, add_change, behind, changes, list_aliases, point_alias, read_alias, resolve
from shared.announcements import announce
from shared.bucket import Bucket
from shared.errors import ModelError, RequestError
from shared.messages import Name, Notice
from shared.signatures import Signature

LONGEST_REASON = 500


def promote(bucket: Bucket, model: str, alias: str, *, reason: str = "") -> Alias | None:
    """Let the alias mean the release that ``model`` means now; the change that was made, or None where it means it already.

    Raises:
        RequestError: the alias cannot be one, or the reason is too long.
        ModelError: there is no such release, or workers would refuse it.
    """
    _check_name(bucket, alias)
    _check_reason(reason)
    release = resolve(bucket, model)
    _check_release(bucket, release)
    change = point_alias(bucket, alias, release, by=who(), reason=reason)
    if change is not None:
        _tell(bucket, alias, change)
    return change


def roll_back(bucket: Bucket, alias: str, *, reason: str = "") -> Alias:
    """Let the alias mean again what it meant before; once more goes one further back. The change that was made.

    Raises:
        ModelError: there is no such alias, nothing is known of before, or workers would refuse that release.
        RequestError: somebody else changed the alias at this moment, or the reason is too long.
    """
    _check_reason(reason)
    now = read_alias(bucket, alias) if _is_name(alias) else None
    if now is None:
        raise _unknown(bucket, alias)
    if not now.back:
        raise ModelError(
            f"{alias} means {now.release}, and no release is known that it meant before",
            next_step=f"Name the release that it shall mean: scoring models promote RELEASE --alias {alias}",
        )
    target, *further = now.back
    _check_release(bucket, target)
    change = Alias(release=target, at=datetime.now(UTC), how="rolled back", back=further, by=who(), reason=reason)
    change = change.model_copy(update=behind(now))
    # not tried again: of two people who roll back the same release, one would go a step further than he has seen
    if not add_change(bucket, alias, change):
        raise RequestError(
            f"somebody else changed {alias} at this moment", next_step=f"See what it means now: scoring models history {alias}"
        )
    _tell(bucket, alias, change)
    return change


def changes_of(bucket: Bucket, alias: str) -> list[Alias]:
    """What an alias meant when, the newest change first; raises ModelError when there is no such alias."""
    found = list(changes(bucket, alias)) if _is_name(alias) or alias.endswith(LATEST) else []
    if not found:
        raise _unknown(bucket, alias)
    return found


def who() -> str:
    """The person at this terminal, as ``user@host``."""
    user = str(os.getuid())
    with contextlib.suppress(OSError, KeyError):  # a container may run as a user that has no name
        user = getpass.getuser()
    return f"{user}@{socket.gethostname()}"[:200]


def _unknown(bucket: Bucket, alias: str) -> ModelError:
    names = ", ".join(name for name in list_aliases(bucket) if _is_name(name))
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


def _check_name(bucket: Bucket, alias: str) -> None:
    taken = alias == "latest" or (alias in bucket.folders(MODELS) and f"{MODELS}/{alias}" != ALIASES)
    if taken or not _is_name(alias):
        problem = "it names something already" if taken else "a name is up to 64 letters, digits, - and _, the first a letter"
        raise RequestError(f"{alias!r} cannot be an alias: {problem}", next_step="Choose another name, like champion.")


def _check_reason(reason: str) -> None:
    if len(reason) > LONGEST_REASON:
        raise RequestError(f"the reason has {len(reason):,} characters, more than the {LONGEST_REASON} allowed", next_step="Shorten it.")


def _check_release(bucket: Bucket, release: str) -> None:
    """Raise ModelError when no worker would load this release."""
    text, _ = checked_manifest(bucket, release)
    signature = bucket.signer.judge(text)
    if signature in (Signature.MISSING, Signature.WRONG):
        raise ModelError(
            f"workers would refuse the release {release}: signed: {signature}",
            next_step=f"If you know it for yours, sign it: scoring models sign {release}",
        )


def _tell(bucket: Bucket, alias: str, change: Alias) -> None:
    facts = {"alias": alias, "from": change.was or "nothing", "to": change.release, "by": change.by, "reason": change.reason}
    back = f"Take it back with: scoring models rollback --alias {alias}" if change.back else ""
    notice = Notice(
        good=change.how == "promoted",
        title=f"{change.how}: {alias} means {change.release}",
        facts={name: value for name, value in facts.items() if value},
        next_step=back,
    )
    announce(bucket, f"alias-{alias}-{change.number:06d}", notice)
