"""Which release a name means: read by both sides of the queue, written by the model store alone.

v1                            the newest release of the definition (``model/aliases/v1.latest.json``)
v1@latest                     the same
v1@20261123T101500Z-9bfad3    this one release
champion                      whatever the alias points to now (``model/aliases/champion.json``)
"""

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime

from shared.bucket import Bucket
from shared.errors import ModelError
from shared.messages import Moment, Record, ReleaseId, decode, is_release_id

MODELS = "model"
ALIASES = f"{MODELS}/aliases"
MANIFEST = "manifest.json"
NAMES_SHOWN, RELEASES_SHOWN = 12, 3
_LIST = "Name one of those that there are: scoring models list"


class Alias(Record):
    """What a movable name points to."""

    release: ReleaseId
    at: Moment


def release_folder(release: str) -> str:
    """The folder of a release in the bucket: ``model/<definition>/<release>``."""
    return f"{MODELS}/{release.partition('@')[0]}/{release}"


def point_alias(bucket: Bucket, alias: str, release: str) -> None:
    """Let the alias mean this release from now on."""
    bucket.write(f"{ALIASES}/{alias}.json", Alias(release=release, at=datetime.now(UTC)).to_json(), durable=True)


def latest_of(definition: str) -> str:
    """The name of the alias for the newest release of a definition."""
    return f"{definition}.latest"


def read_alias(bucket: Bucket, alias: str) -> Alias | None:
    """What an alias means now; None when there is no such alias."""
    text = bucket.read(f"{ALIASES}/{alias}.json")
    return None if text is None else decode(Alias, text)


def resolve(bucket: Bucket, ref: str) -> str:
    """The id of the release that ``ref`` means now.

    Raises:
        ModelError: no such release or alias; the sentence names what there is.
    """
    if is_release_id(ref):
        if bucket.exists(f"{release_folder(ref)}/{MANIFEST}"):
            return ref
    elif "@" not in ref or ref.endswith("@latest"):
        name = ref.removesuffix("@latest")
        for alias in [latest_of(name)] if "@" in ref else [latest_of(name), name]:
            text = bucket.read(f"{ALIASES}/{alias}.json")
            if text is not None:
                return decode(Alias, text).release
    raise _unknown(bucket, ref)


def train_anew(release: str) -> str:
    """What to type when a release can no longer be used; without ``--again`` the training that made it would be the answer."""
    return f"Train it anew: scoring train {release.partition('@')[0]} --again"


def list_aliases(bucket: Bucket) -> dict[str, str]:
    """Every alias, ``<definition>.latest`` among them, with the release it means."""
    aliases = {}
    for info in bucket.files(ALIASES):
        text = bucket.read(info.path)
        if text is not None:
            aliases[info.path.rpartition("/")[2].removesuffix(".json")] = decode(Alias, text).release
    return aliases


def _unknown(bucket: Bucket, ref: str) -> ModelError:
    """The error that says what there is instead: of the same definition if it is known, else the names of all."""
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
