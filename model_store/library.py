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
    """The releases of one bucket and the definitions of this machine; loads either by its name."""

    bucket: Bucket
    cache: Path
    """Folder of this machine for the files of a remote bucket. Releases are loaded in a folder inside it, and put together beside it."""
    definitions: Path | None = None
    """Folder of further definitions, beside those of the package."""

    def definition(self, name: str) -> Definition:
        """The definition of this name as it is now; raises ModelError as ``load_definition`` does."""
        return load_definition(name, self.definitions)

    def definition_names(self) -> list[str]:
        """The names of all definitions."""
        return list_definitions(self.definitions)

    def release(self, release: str) -> Release:
        """A verified release, loaded once for each process; raises ModelError as ``load_release`` does."""
        return store.load_release(self.bucket, release, self.cache, self.definitions)

    def copy_release(self, release: str, own: Path) -> ReleaseManifest:
        """Copy the verified files of a release into a private folder and load nothing; raises ModelError as ``store.copy_release`` does."""
        return store.copy_release(self.bucket, release, self.cache, own)

    @property
    def staging(self) -> Path:
        """The folder of this machine in which releases are put together: beside the cache, where no other user can make it first."""
        return self.cache.parent / "staging"

    @property
    def temporary_folders(self) -> list[Path]:
        """The folders in which a process that is killed leaves a private folder of its own."""
        return [self.cache / OWN_COPIES, self.staging]
