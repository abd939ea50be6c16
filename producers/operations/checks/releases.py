"""The checks that the releases of aliases fit the workers."""

from collections import defaultdict
from collections.abc import Iterator

from producers.operations.checks.examined import Examined
from producers.operations.checks.finding import Finding, error, ok, warning
from shared.bucket.interface import Bucket
from shared.catalog.advice import how_to_retrain
from shared.catalog.aliases import damaged_aliases, list_aliases
from shared.catalog.manifests import ReleaseManifest
from shared.catalog.releases import read_release
from shared.errors import ModelError
from shared.queue.probe import Answer


def check_libraries(examined: Examined) -> Iterator[Finding]:
    """Checks that all workers have the same versions of libraries."""
    for name, versions in _libraries(examined.answers).items():
        if len(versions) > 1:
            text = f"they have different versions of {name}: {', '.join(sorted(versions))}"
            yield error("workers", text, "Give all workers the same image.")


def check_aliases(examined: Examined) -> Iterator[Finding]:
    """Checks that each alias points to a readable release that fits the workers."""
    if examined.bucket is None:
        return
    for alias, damaged in damaged_aliases(examined.bucket).items():
        yield error(f"model {alias}", damaged.message, damaged.next_step)
    for alias, release in sorted(list_aliases(examined.bucket).items()):
        yield _check_alias(examined.bucket, examined.answers, alias, release)


def _check_alias(bucket: Bucket, answers: dict[str, Answer], alias: str, release: str) -> Finding:
    subject = f"model {alias}"
    try:
        manifest = read_release(bucket, release).manifest
    except ModelError as reason:
        return error(subject, f"{release}: {reason.message}", f"See: scoring models show {release}")
    if not answers:
        return warning(subject, f"{release}; no worker reported what it has", "Ask again when a worker answers.")
    name, workers = manifest.definition, answers.values()
    if not any(name in answer.definitions for answer in workers):
        text = f"{release}: no worker has the definition {name}"
        return error(subject, text, "Set SCORING_DEFINITIONS for the workers, or put it in the image.")
    if any(answer.sources.get(name, manifest.definition_sha256) != manifest.definition_sha256 for answer in workers):
        text = f"{release}: the code of the definition {name} was changed since it was trained"
        return error(subject, text, how_to_retrain(release, manifest.tables, alias=alias))
    if others := _other_libraries(manifest, _libraries(answers)):
        return warning(subject, f"{release} was trained with {'; '.join(others)}", how_to_retrain(release, manifest.tables, alias=alias))
    return ok(subject, f"{release}, with the libraries of the workers")


def _libraries(answers: dict[str, Answer]) -> dict[str, set[str]]:
    """Library -> its versions on the workers."""
    found: dict[str, set[str]] = defaultdict(set)
    for answer in answers.values():
        for name, version in answer.libraries.items():
            found[name].add(version)
    return dict(found)


def _other_libraries(manifest: ReleaseManifest, libraries: dict[str, set[str]]) -> list[str]:
    """The libraries that a release was trained with and that the workers have in other versions."""
    return sorted(
        f"{name} {version}, the workers have {', '.join(sorted(libraries[name]))}"
        for name, version in manifest.libraries.items()
        if name in libraries and version not in libraries[name]
    )
