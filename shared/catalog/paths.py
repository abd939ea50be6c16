"""Paths of releases and results in the bucket."""

from shared.jobs.files import JobFile

MODELS = "model"
MANIFEST = JobFile.MANIFEST.value
"""The manifest in the folder of a release or a result. That of a result is copied from the folder of its job under the same name."""
REVISIONS = "revisions"
"""Folder at a place that keeps every result made there, each in a folder named by its job."""


def release_folder(release: str) -> str:
    """The folder of a release in the bucket: ``model/<definition>/<release>``."""
    return f"{MODELS}/{release.partition('@')[0]}/{release}"


def revision_folder(place: str, job_id: str) -> str:
    """The folder of the revision that a job made at a place."""
    return f"{place}/{REVISIONS}/{job_id}"
