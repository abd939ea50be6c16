"""Which release a name means: read by both sides of the queue, written by the model store alone.

v1                            the newest release of the definition (``model/aliases/v1.latest.json``)
v1@latest                     the same
v1@20261123T101500Z-9bfad3    this one release
champion                      whatever the alias points to now (``model/aliases/champion.json``)
"""

from datetime import UTC, datetime

from shared.bucket import Bucket
from shared.errors import ModelError
from shared.messages import Moment, Record, ReleaseId, decode, is_release_id

MODELS = "model"
ALIASES = f"{MODELS}/aliases"
MANIFEST = "manifest.json"


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
    raise ModelError(
        f"there is no release or alias {ref!r} in the bucket {bucket.url}; {_known(bucket)}",
        next_step=f"Train one with: scoring train {ref.partition('@')[0]}, or list them with: scoring models list",
    )


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


def _known(bucket: Bucket) -> str:
    names = sorted(name.removesuffix(".latest") for name in list_aliases(bucket))
    return f"there are: {', '.join(names)}" if names else "nothing has been trained yet"
