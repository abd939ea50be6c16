"""The models of a worker: the releases in its bucket, and the definitions on its machine that load them."""

from dataclasses import dataclass
from pathlib import Path

from model_store import store
from model_store.definitions import Definition, list_definitions, load_definition
from model_store.store import OWN_COPIES, Release
from shared.bucket.interface import Bucket
from shared.catalog.manifests import ReleaseManifest


@dataclass(frozen=True, eq=False)
class ModelLibrary:
    """The releases of one bucket and the definitions of this machine, loaded by name."""

    bucket: Bucket
    cache: Path
    """Local folder for the files of a remote bucket. Releases are loaded in a folder inside it, and built in a folder beside it."""
    definitions: Path | None = None
    """Folder of further definitions, in addition to those of the package."""

    def definition(self, name: str) -> Definition:
        """Returns the definition of this name in its current state; raises ModelError like ``load_definition``."""
        return load_definition(name, self.definitions)

    def definition_names(self) -> list[str]:
        """Returns the names of all definitions."""
        return list_definitions(self.definitions)

    def release(self, release: str) -> Release:
        """Returns a verified release, loaded once per process; raises ModelError like ``load_release``."""
        return store.load_release(self.bucket, release, self.cache, self.definitions)

    def copy_release(self, release: str, own: Path) -> ReleaseManifest:
        """Copies the verified files of a release into a private folder without loading them; raises ModelError."""
        return store.copy_release(self.bucket, release, self.cache, own)

    @property
    def staging(self) -> Path:
        """The local folder in which releases are built: beside the cache, where no other user can create it first."""
        return self.cache.parent / "staging"

    @property
    def temporary_folders(self) -> list[Path]:
        """The folders in which a killed process leaves its private folder."""
        return [self.cache / OWN_COPIES, self.staging]
